"""Recall among contents, each of which is there once: utterances among unique pictures, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cymatic.encoders.align import RECALLS, recall


@dataclass(frozen=True)
class RecallBothWays:
    """The share of rows that find one of their own columns among the `first` nearest, of columns that find a row, and
    the mean of both."""

    first: int
    forth: float
    back: float

    @property
    def mean(self) -> float:
        return (self.forth + self.back) / 2


def once(contents: Sequence[str | bytes]) -> tuple[list[int], Int[Tensor, " n"]]:
    """The places where each content comes first, and the number of each item's content. Empty ones all differ."""
    numbers: dict[str | bytes | int, int] = {}
    own = [numbers.setdefault(content or i, len(numbers)) for i, content in enumerate(contents)]
    places: dict[int, int] = {}
    for place, number in enumerate(own):
        places.setdefault(number, place)
    return list(places.values()), torch.tensor(own)


def belonging(
    alike: Bool[Tensor, "n n"], rows: Int[Tensor, " n"], columns: Int[Tensor, " n"]
) -> Bool[Tensor, "contents others"]:
    """Which contents of one kind belong to which of another: those of which two items, one of each, are `alike`.
    rows, columns: the number of each item's content, of the one kind and of the other."""
    found = torch.zeros(int(rows.max()) + 1, int(columns.max()) + 1, dtype=torch.bool)
    i, j = alike.cpu().nonzero(as_tuple=True)
    found[rows[i], columns[j]] = True
    return found


def both_ways(
    similarity: Float[Tensor, "rows columns"], own: Bool[Tensor, "rows columns"], firsts: Sequence[int] = RECALLS
) -> list[RecallBothWays]:
    """How well rows find their own columns and columns their own rows; as SpeechCLIP counts them where rows are all
    utterances and columns the unique pictures (Shih et al., 2022, arXiv 2210.00705)."""
    return [RecallBothWays(k, recall(similarity, own, k), recall(similarity.T, own.T, k)) for k in firsts]
