"""Which items of a batch one of several processes holds, and how much they weigh."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BatchShard:
    """Items `rank`, `rank + ranks`, ... of a batch of `items`, the longest of which is `longest` steps long. Of more
    processes than items, those that would have none have another's, and it counts nothing there.

    frames_weight and items_weight: by how much the mean over these items' steps, or over these items, counts in the
    mean over the processes; 1 where all processes hold as many. So weighed, that mean is the mean over the whole batch,
    and so is the mean of the gradients.
    """

    rank: int
    ranks: int
    items: int
    longest: int
    frames_weight: float
    items_weight: float

    @classmethod
    def of(cls, lengths: list[int], rank: int, ranks: int) -> BatchShard:
        """The shard of `rank` in a batch whose items have these lengths."""
        if rank >= len(lengths):
            return cls(rank % len(lengths), ranks, len(lengths), max(lengths), 0.0, 0.0)
        own = lengths[rank::ranks]
        return cls(
            rank, ranks, len(lengths), max(lengths), ranks * sum(own) / sum(lengths), ranks * len(own) / len(lengths)
        )

    def take(self, drawn: Tensor) -> Tensor:
        """The rows of `drawn` `[items, ...]` that belong to these items.

        Random numbers are drawn for the whole batch, so that an item gets the same ones whatever the number of
        processes.
        """
        return drawn[self.rank :: self.ranks]
