"""Batches of mels: an order that is a function of seed and step."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.data.mels import Batches, Clip


def clips_of(lengths: list[int]) -> list[Clip]:
    return [Clip(str(i), torch.full((4, n), float(i))) for i, n in enumerate(lengths)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_batches_are_a_function_of_seed_and_step(lengths, size, seed):
    clips = clips_of(lengths)
    one, two = Batches(clips, size, seed), Batches(clips, size, seed)
    steps = 2 * one.per_epoch
    wanted = [one[step].captions for step in range(steps)]
    assert [two[step].captions for step in reversed(range(steps))] == wanted[::-1]
    for epoch in (wanted[: one.per_epoch], wanted[one.per_epoch :]):
        seen = [caption for batch in epoch for caption in batch]
        assert len(seen) == len(set(seen)) == one.per_epoch * one.batch
    batch = one[0]
    for row, caption, frames in zip(batch.mel, batch.captions, batch.frames, strict=True):
        assert frames == lengths[int(caption)]
        assert (row[:, :frames] == int(caption)).all()
        assert not row[:, frames:].any()
