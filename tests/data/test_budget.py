"""Batches under a budget of frames: what they hold, what they cost, and that nothing is left out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.data.test_batches import numbered

from cymatic.data.batches import Bucketed, in_order
from cymatic.data.budget import batch_sizes

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=60)


def drums(count: int = 700, seed: int = 0) -> list[int]:
    """Frames of 0.02 to 10 s, their median 0.7 s."""
    seconds = np.exp(np.random.default_rng(seed).normal(np.log(0.7), 1.1, count)).clip(0.02, 10)
    return [max(1, int(one * 24000 / 256)) for one in seconds]


def cost(batch) -> int:
    return batch.target.shape[0] * batch.target.shape[-1]


@given(LENGTHS, st.integers(1, 9), st.integers(1, 200), st.integers(0, 5), st.integers(1, 3))
def test_each_epoch_meets_every_example_once_within_the_budget(lengths, items, frames, seed, ranks):
    lengths = (lengths * 3)[: max(len(lengths), 3)]
    items = max(items, 3)
    one, two = (Bucketed(numbered(lengths), items, seed, frames=frames) for _ in range(2))
    steps = 2 * one.per_epoch
    wanted = [one[step].captions for step in range(steps)]
    assert [two[step].captions for step in reversed(range(steps))] == wanted[::-1], "a batch is a function of its step"
    for epoch in (wanted[: one.per_epoch], wanted[one.per_epoch :]):
        assert sorted(caption for batch in epoch for caption in batch) == sorted(map(str, range(len(lengths))))
    for step in range(steps):
        batch = one[step]
        assert len(batch) <= items
        assert cost(batch) <= frames or len(batch) == 1
    shared = [Bucketed(numbered(lengths), items, seed, frames=frames, rank=rank, ranks=ranks) for rank in range(ranks)]
    for step in range(one.per_epoch) if ranks > 1 else ():
        parts = [some[step] for some in shared]
        assert sum(part.shard.frames_weight for part in parts) == pytest.approx(ranks)
        for rank, part in enumerate(parts):
            mine = wanted[step][rank::ranks]
            assert part.captions == mine if mine else part.shard.frames_weight == part.shard.items_weight == 0


@given(LENGTHS, st.integers(1, 6), st.integers(1, 200))
def test_sizes_are_the_cheapest(lengths, items, frames):
    """Against all ways to cut a few."""
    some = sorted(lengths)[:9]
    sizes = batch_sizes(some, items, frames)
    assert sum(sizes) == len(some)

    def price(parts: list[int]) -> float:
        total, end = 0.0, 0
        for size in parts:
            end += size
            if size > items or (size > 1 and size * some[end - 1] > frames):
                return float("inf")
            total += size * some[end - 1] + frames / 32
        return total

    ways = [[]]
    for _ in some:
        ways = [new for parts in ways for new in ([*parts, 1], [*parts[:-1], parts[-1] + 1] if parts else None) if new]
    assert price(sizes) == pytest.approx(min(map(price, ways)))


def test_clips_of_very_different_lengths_cost_alike_and_hardly_any_padding():
    lengths = drums()
    frames = int(1.5 * 64 * sum(lengths) / len(lengths))
    batches = Bucketed(numbered(lengths), 64, 1, frames=frames)
    for epoch in range(3):
        costs = [cost(batches[epoch * batches.per_epoch + i]) for i in range(batches.per_epoch)]
        assert 1 - sum(lengths) / sum(costs) < 0.1, "of what is computed"
        assert max(costs) < 12 * min(costs) and max(costs) <= frames
    before = Bucketed(numbered(lengths), 64, 1)
    costs = [cost(before[i]) for i in range(before.per_epoch)]
    assert max(costs) > 40 * min(costs), "as it is without a budget"


def test_an_epoch_brings_other_company():
    batches = Bucketed(numbered(drums()), 64, 1, frames=10_000)
    epochs = [
        {frozenset(batches[epoch * batches.per_epoch + i].captions) for i in range(batches.per_epoch)}
        for epoch in range(2)
    ]
    assert len(epochs[0] & epochs[1]) <= len(epochs[0]) / 4, "but for the few longest"


def test_a_few_batches_that_stand_for_all():
    batches = Bucketed(numbered(drums()), 64, 1, frames=10_000)
    costs = [cost(batches[step]) for step in range(batches.per_epoch)]
    some = batches.typical(8)
    assert len(set(some)) == 8 and np.mean([costs[step] for step in some]) == pytest.approx(np.mean(costs), rel=0.1)
    assert sorted(batches.typical(1000)) == list(range(batches.per_epoch))


def test_measuring_keeps_to_the_budget_too():
    some = numbered([5, 2, 9, 30, 3])
    batches = list(in_order(some, 4, 30))
    assert all(cost(batch) <= 30 for batch in batches)
    assert [n for batch in batches for n in batch.lengths.tolist()] == [2, 3, 5, 9, 30]
    assert all(torch.equal(batch.lengths, batch.lengths.sort().values) for batch in batches)
