"""Which items of a batch one of several processes holds, and how much they weigh."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BatchShard:
    """Items `rank`, `rank + ranks`, ... of a batch of `items` sounds, whose longest has `longest` frames.

    frames_share and items_share: what these items' mean counts in the mean over the processes, 1 where all hold as
    much. With them that mean is the mean over the whole batch, and so is the mean of the gradients.
    """

    rank: int
    ranks: int
    items: int
    longest: int
    frames_weight: float
    items_weight: float

    @classmethod
    def of(cls, lengths: list[int], rank: int, ranks: int) -> BatchShard:
        """The share of `rank` in a batch whose items have these lengths in frames."""
        own = lengths[rank::ranks]
        return cls(
            rank, ranks, len(lengths), max(lengths), ranks * sum(own) / sum(lengths), ranks * len(own) / len(lengths)
        )

    def take(self, drawn: Tensor) -> Tensor:
        """The rows of `drawn` `[items, ...]` that belong to these items: random numbers are drawn for the whole batch,
        so that an item meets the same ones however many processes there are."""
        return drawn[self.rank :: self.ranks]
