"""Which examples share a batch where a batch has a budget of frames: those of nearly one length.

A batch costs its items times its longest. Sorted by length, examples are cut into batches so that what they cost
together, and a little for each batch, is least; no batch costs more than the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cymatic.seeds import mixed

JITTER = 0.03  # of a length, drawn for each epoch, so that an example meets others than the epoch before
EACH = 1 / 32  # of the budget: what a batch costs beyond its frames


def batch_sizes(lengths: Sequence[int], items: int, frames: int) -> list[int]:
    """How many examples each batch holds, for examples sorted by length: `items` at most, in at most `frames` with
    padding; one that is longer is alone."""
    count = len(lengths)
    cost = np.full(count + 1, np.inf)
    cost[0], begins = 0.0, np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        longest = lengths[end - 1]
        most = min(end, items, max(1, frames // max(longest, 1)))
        sizes = np.arange(most, 0, -1)
        costs = cost[end - most : end] + longest * sizes + frames * EACH
        best = int(costs.argmin())
        cost[end], begins[end] = costs[best], end - sizes[best]
    found, end = list[int](), count
    while end:
        found.append(int(end - begins[end]))
        end = int(begins[end])
    return found[::-1]


def budgeted(lengths: Sequence[int], items: int, frames: int) -> list[int]:
    """`batch_sizes` that hold for any epoch of `shuffled`."""
    return batch_sizes(sorted(lengths), items, int(frames * (1 - JITTER) / (1 + JITTER)))


def shuffled(lengths: Sequence[int], sizes: Sequence[int], seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch in random order, as places in `lengths`, each of which is in one batch."""
    generator = torch.Generator().manual_seed(mixed(seed, epoch))
    factors = 1 + JITTER * (2 * torch.rand(len(lengths), generator=generator, dtype=torch.float64) - 1)
    keys = torch.tensor(lengths, dtype=torch.float64) * factors
    batches = [part.tolist() for part in keys.argsort(stable=True).split(list(sizes))]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
