"""Keywords that a network takes from a text encoder's table: which rows it may take, and what can be said of those that
it took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize

from cymatic.errors import Error

MOST_SCORES = 2**24  # that lie in memory at once while the nearest rows are looked for


class Vocabulary(nn.Module):
    """Some rows of a table of tokens, `ids` `[size]`, under new numbers from 0 on, and which of these are `banned`,
    `[size]`: never taken.

    Both are saved. A new one of `size` has the first rows of the table, and bans none.
    """

    ids: Tensor
    banned: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("ids", torch.arange(size))
        self.register_buffer("banned", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def take(self, ids: Int[Tensor, " size"], banned: Iterable[int] = ()) -> None:
        """Has these rows of the table from now on, and bans those of the `banned` that are among them.

        Raises Error for another number of rows, the same row twice, and where all are banned.
        """
        if ids.shape != self.ids.shape or len(ids.unique()) < len(ids):
            raise Error(
                f"{len(ids)} tokens were given, {len(ids.unique())} of them different; this vocabulary holds "
                f"{len(self.ids)}"
            )
        never = torch.isin(ids, torch.tensor(list(banned), dtype=ids.dtype, device=ids.device))
        if never.all():
            raise Error("every token of the vocabulary is banned; give captions with words in them")
        self.ids.copy_(ids)
        self.banned.copy_(never)

    def rows_of(self, ids: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The new numbers of rows of the table; -1 for those that are not here."""
        size = int(max(self.ids.max(), ids.max() if ids.numel() else 0)) + 1
        numbers = torch.full((size,), -1, dtype=torch.int64, device=self.ids.device)
        numbers[self.ids] = torch.arange(len(self.ids), device=self.ids.device)
        return numbers[ids]

    def ids_of(self, rows: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The table's numbers of rows of the vocabulary."""
        return self.ids[rows]


def used(captions: Iterable[Sequence[int]], always: Iterable[int] = ()) -> Int[Tensor, " size"]:
    """The tokens of the captions, and those that are `always` there, each once and in ascending order."""
    found = set(always)
    for caption in captions:
        found.update(caption)
    return torch.tensor(sorted(found), dtype=torch.int64)


def nearest_rows(
    words: Float[Tensor, "batch keywords width"],
    table: Float[Tensor, "size width"],
    count: int = 5,
    *,
    by: Literal["cosine", "pseudo_inverse"] = "cosine",
) -> tuple[Int[Tensor, "batch keywords count"], Float[Tensor, "batch keywords count"]]:
    """The `count` rows of the table nearest to each keyword, and how near they are, the nearest first.

    by: the cosine, or the row's weight where the rows' sum by weights is the keyword and the weights are as small as
    can be, `pinv(table^T) x`. Raises Error for more rows than there are.
    """
    if not 1 <= count <= len(table):
        raise Error(f"the nearest {count} of {len(table)} tokens were asked for; give a number from 1 to {len(table)}")
    if by == "cosine":
        words, table = normalize(words, dim=-1), normalize(table, dim=-1)
    else:
        table = torch.linalg.pinv(table.T)
    flat = words.flatten(0, 1)
    found = [(part @ table.T).topk(count, -1) for part in flat.split(max(1, MOST_SCORES // len(table)))]
    rows, scores = torch.cat([one.indices for one in found]), torch.cat([one.values for one in found])
    return rows.unflatten(0, words.shape[:2]), scores.unflatten(0, words.shape[:2])


def hit_rate(ids: Int[Tensor, "batch keywords count"], captions: Sequence[Sequence[int]]) -> Float[Tensor, " keywords"]:
    """Of each keyword the share of items whose caption has one of its `count` tokens. ids: the table's numbers.

    Raises Error for another number of captions, and for none.
    """
    if len(ids) != len(captions) or not len(ids):
        raise Error(f"{len(captions)} captions were given for {len(ids)} items; give one for each")
    hits = [
        torch.isin(own, torch.tensor(list(caption), dtype=own.dtype, device=own.device)).any(-1)
        for own, caption in zip(ids, captions, strict=True)
    ]
    return torch.stack(hits).float().mean(0)


def entropy(shares: Float[Tensor, "*shape size"]) -> Float[Tensor, "*shape"]:
    """`-sum p log p`, in nats."""
    return -torch.special.xlogy(shares, shares).sum(-1)


def hard_perplexity(rows: Int[Tensor, "*shape"], size: int) -> float:
    """`exp H` of how often each of `size` rows was taken: so many rows, taken evenly, would be as surprising."""
    counts = torch.bincount(rows.flatten(), minlength=size).double()
    return entropy(counts / counts.sum()).exp().item()


def soft_perplexity(shares: Float[Tensor, "*shape size"]) -> float:
    """The same of the mean of what rows were taken with which probability."""
    return entropy(shares.flatten(0, -2).double().mean(0)).exp().item()


def entropy_of_keywords(shares: Float[Tensor, "batch keywords size"]) -> Float[Tensor, " keywords"]:
    """How unsure each keyword is of its row, the mean over the batch, in nats; 0 is sure."""
    return entropy(shares).mean(0)
