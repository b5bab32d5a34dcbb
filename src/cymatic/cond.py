"""What a prior is conditioned on (`Cond`), what an encoder reads (`Padded`), and the one guidance (`guide`). Below
every family of parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from cymatic.batch_shard import BatchShard


@dataclass(frozen=True)
class Padded:
    """Items that differ in their last axis as one batch: values `[batch, ..., longest]`, lengths int64 `[batch]`."""

    values: Shaped[Tensor, "batch *shape"]
    lengths: Int[Tensor, " batch"]

    def __len__(self) -> int:
        return len(self.values)

    def to(self, device: torch.device | str) -> Padded:
        return Padded(self.values.to(device), self.lengths.to(device))

    @property
    def mask(self) -> Bool[Tensor, "batch longest"]:
        """True at places that hold something."""
        places = torch.arange(self.values.shape[-1], device=self.values.device)
        return places < self.lengths.to(self.values.device)[:, None]

    def items(self) -> list[Shaped[Tensor, "..."]]:
        """Each item, cut to its own length."""
        return [one[..., :length] for one, length in zip(self.values, self.lengths.tolist(), strict=True)]


def padded(items: Sequence[Shaped[Tensor, "..."]], value: float = 0.0) -> Padded:
    """Items that differ in their last axis only, numbers or codes, filled up with `value`."""
    longest = max(item.shape[-1] for item in items)
    values = torch.stack([pad(item, (0, longest - item.shape[-1]), value=value) for item in items])
    return Padded(values, torch.tensor([item.shape[-1] for item in items], device=values.device))


@dataclass(frozen=True)
class Cond:
    """A batch of conditions: a sequence, a summary, or both.

    tokens: `[batch, n, dim]`; mask: True where a token is valid, and required with tokens; vector: `[batch, dim]` of
    unit norm; tokens_dropped and vector_dropped: `[batch]`, True where the prior is to use its learned null instead of
    this item's tokens or vector; None where nothing is dropped.
    """

    tokens: Float[Tensor, "batch n dim"] | None = None
    mask: Bool[Tensor, "batch n"] | None = None
    vector: Float[Tensor, "batch dim"] | None = None
    tokens_dropped: Bool[Tensor, " batch"] | None = None
    vector_dropped: Bool[Tensor, " batch"] | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) != (self.mask is None):
            raise ValueError("tokens and mask go together: give both or neither")
        if self.tokens is None and self.vector is None:
            raise ValueError("a condition needs tokens, a vector or both")

    def _any(self) -> Tensor:
        found = self.tokens if self.tokens is not None else self.vector
        assert found is not None
        return found

    def __len__(self) -> int:
        return self._any().shape[0]

    @property
    def device(self) -> torch.device:
        return self._any().device

    def drop(
        self, p: float, generator: torch.Generator, shard: BatchShard | None = None, *, vector: float | None = None
    ) -> Cond:
        """Drops each item's condition with probability `p` (Ho and Salimans, 2022, arXiv 2207.12598).

        Without `vector` tokens and vector are dropped together. With it they are dropped on their own, the tokens with
        probability `p` and the vector with probability `vector`, so that a prior learns to work from either alone, as
        the decoder of DALL-E 2 does (Ramesh et al., 2022, arXiv 2204.06125).
        """
        tokens = self._chosen(p, generator, shard)
        return self._dropping(tokens, tokens if vector is None else self._chosen(vector, generator, shard))

    def null(self) -> Cond:
        """This batch with every condition dropped: what guidance leads away from."""
        every = torch.ones(len(self), dtype=torch.bool, device=self.device)
        return self._dropping(every, every)

    def _chosen(self, p: float, generator: torch.Generator, shard: BatchShard | None) -> Bool[Tensor, " batch"]:
        chance = torch.rand(len(self) if shard is None else shard.items, generator=generator)
        return (chance if shard is None else shard.take(chance)).to(self.device) < p

    def _dropping(self, tokens: Bool[Tensor, " batch"], vector: Bool[Tensor, " batch"]) -> Cond:
        return replace(
            self,
            tokens_dropped=tokens if self.tokens_dropped is None else self.tokens_dropped | tokens,
            vector_dropped=vector if self.vector_dropped is None else self.vector_dropped | vector,
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> Cond:
        held = (self.tokens, self.mask, self.vector, self.tokens_dropped, self.vector_dropped)
        return Cond(*(None if t is None else change(t) for t in held))

    def to(self, device: torch.device | str) -> Cond:
        return self._each(lambda t: t.to(device))

    def repeat(self, times: int) -> Cond:
        """Each item `times` times in a row."""
        return self._each(lambda t: t.repeat_interleave(times, dim=0))


def concatenate(first: Cond, second: Cond) -> Cond:
    """Two batches whose conditions have the same form, one after the other."""

    def both(a: Tensor | None, b: Tensor | None) -> Tensor | None:
        return None if a is None or b is None else torch.cat([a, b])

    return Cond(
        both(first.tokens, second.tokens),
        both(first.mask, second.mask),
        both(first.vector, second.vector),
        torch.cat([_dropped(cond, cond.tokens_dropped) for cond in (first, second)]),
        torch.cat([_dropped(cond, cond.vector_dropped) for cond in (first, second)]),
    )


def joined(first: Cond, second: Cond) -> Cond:
    """The same items' conditions by two encoders as one: the tokens of both, `first`'s before `second`'s.

    The vector is the sum at unit norm where both have one, else there is none. What one of them dropped is left out;
    what both dropped is dropped.
    """
    if first.tokens is None or second.tokens is None or first.mask is None or second.mask is None:
        raise ValueError("only conditions with tokens can be joined")
    no_tokens = [_dropped(cond, cond.tokens_dropped) for cond in (first, second)]
    no_vector = [_dropped(cond, cond.vector_dropped) for cond in (first, second)]
    masks = [mask & ~gone[:, None] for mask, gone in zip((first.mask, second.mask), no_tokens, strict=True)]
    vector = None
    if first.vector is not None and second.vector is not None:
        kept = [v * ~gone[:, None] for v, gone in zip((first.vector, second.vector), no_vector, strict=True)]
        vector = torch.nn.functional.normalize(kept[0] + kept[1], dim=-1)
    return Cond(
        torch.cat([first.tokens, second.tokens], 1),
        torch.cat(masks, 1),
        vector,
        no_tokens[0] & no_tokens[1],
        no_vector[0] & no_vector[1],
    )


def _dropped(cond: Cond, which: Bool[Tensor, " batch"] | None) -> Bool[Tensor, " batch"]:
    return torch.zeros(len(cond), dtype=torch.bool, device=cond.device) if which is None else which


def guide(conditional: Tensor, unconditional: Tensor, weight: float) -> Tensor:
    """Classifier-free guidance `u + w * (c - u)`: 0 ignores the condition, 1 is no guidance, more exaggerates it.

    The one formula of Ho and Salimans (2022, arXiv 2207.12598), DALL-E mini's super-conditioning and both DALL-E 2
    stages.
    """
    return unconditional + weight * (conditional - unconditional)
