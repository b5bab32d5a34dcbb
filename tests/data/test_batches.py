"""Batches of examples in memory: whole ones, and segments. Each is a function of seed and step, whoever asks for it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.data.batches import Bucketed, RandomCrops, in_order
from cymatic.data.reading import Example
from cymatic.errors import Error

SILENCE = -11.5


def numbered(lengths: list[int]) -> list[Example]:
    """Example i holds the number i everywhere, is called so, and knows `lengths[i] + 1` steps of features of -i."""
    return [
        Example(torch.full((4, n), float(i)), {"features": torch.full((3, n + 1), -float(i))}, caption=str(i))
        for i, n in enumerate(lengths)
    ]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_whole_examples_are_a_function_of_seed_and_step(lengths, size, seed):
    examples = numbered(lengths)
    one, two = Bucketed(examples, size, seed), Bucketed(examples, size, seed)
    steps = 2 * one.per_epoch
    wanted = [one[step].captions for step in range(steps)]
    assert [two[step].captions for step in reversed(range(steps))] == wanted[::-1]
    for epoch in (wanted[: one.per_epoch], wanted[one.per_epoch :]):
        seen = [caption for batch in epoch for caption in batch]
        assert len(seen) == len(set(seen)) == one.per_epoch * one.batch
    batch = one[0]
    for row, caption, frames in zip(batch.target, batch.captions, batch.lengths, strict=True):
        assert frames == lengths[int(caption)]
        assert (row[:, :frames] == int(caption)).all()
        assert not row[:, frames:].any()


def test_what_is_given_is_padded_beside_its_target():
    batch = Bucketed(numbered([3, 6, 2]), 3, 0)[0]
    seen = batch.inputs("features")
    for row, caption, length in zip(seen.values, batch.captions, seen.lengths.tolist(), strict=True):
        assert length == [4, 7, 3][int(caption)]
        assert (row[:, :length] == -int(caption)).all() and not row[:, length:].any()
    assert batch.inputs("caption") == batch.captions
    with pytest.raises(Error, match='conditioned on "picture", and there are items without'):
        batch.inputs("picture")


def with_variants(*lengths: int) -> list[Example]:
    """Rendering v of example k holds the number 10 k + v everywhere, and is v longer."""
    return [
        Example(torch.full((2, n), 10 * k), caption=f"sound {k}", variants=(torch.full((2, n + 1), 10 * k + 1),))
        for k, n in enumerate(lengths)
    ]


def test_each_epoch_meets_every_example_once_in_its_next_variant():
    batches = Bucketed(with_variants(3, 5, 4, 6), 2, seed=1)
    assert batches.per_epoch == 2
    for epoch in range(3):
        some = [batches[2 * epoch + i] for i in range(2)]
        firsts = [int(item[0, 0]) for batch in some for item in batch.target]
        assert sorted(firsts) == [10 * k + epoch % 2 for k in range(4)]
        for batch in some:
            for caption, codes, n in zip(batch.captions, batch.target, batch.lengths.tolist(), strict=True):
                k = int(caption.split()[1])
                assert n == (3, 5, 4, 6)[k] + epoch % 2
                assert (codes[:, :n] == 10 * k + epoch % 2).all() and (codes[:, n:] == 0).all()


def test_processes_share_whole_examples():
    examples = numbered([3, 5, 4, 6])
    whole = Bucketed(examples, 4, seed=1)[0]
    parts = [Bucketed(examples, 4, seed=1, rank=rank, ranks=2)[0] for rank in range(2)]
    for rank, part in enumerate(parts):
        assert part.captions == whole.captions[rank::2]
        assert part.shard.items == 4 and part.shard.longest == 6
    with pytest.raises(Error, match="a batch of 4 items is too small for 5 devices"):
        Bucketed(examples, 64, seed=1, ranks=5)


def test_a_part_of_a_batch_holds_its_own_items():
    whole = Bucketed(numbered([3, 5, 4, 6, 2]), 5, seed=1)[0]
    for number in range(2):
        part = whole.micro_batch(number, 2)
        assert part.captions == whole.captions[number::2] and part.shard.items == 5
        assert part.target.shape[-1] == int(part.lengths.max())
        assert torch.equal(part.inputs("features").values, whole.inputs("features").values[number::2])


def test_measuring_takes_all_in_their_first_variant_shortest_first():
    batches = list(in_order(with_variants(5, 2, 9), 2))
    assert [batch.lengths.tolist() for batch in batches] == [[2, 5], [9]]
    assert [caption for batch in batches for caption in batch.captions] == ["sound 1", "sound 0", "sound 2"]


def counted(*lengths: int) -> list[Example]:
    """Step i of example k holds the number 1000 k + i."""
    return [
        Example((1000.0 * k + torch.arange(n)).expand(3, -1).clone(), caption=f"clip {k}")
        for k, n in enumerate(lengths)
    ]


def crops(some: list[Example], segment: int = 8, batch: int = 6, **more) -> RandomCrops:
    return RandomCrops(some, segment, batch, 1, fill=SILENCE, **more)


def test_a_segment_is_cut_from_one_example_or_holds_all_of_it():
    batch = crops(counted(20, 5, 8), batch=60)[3]
    assert batch.target.shape == (60, 3, 8) and batch.lengths.tolist() == [8] * 60
    for caption, segment in zip(batch.captions, batch.target[:, 0], strict=True):
        sound = segment[segment != SILENCE]
        k = int(caption.split()[1])
        assert torch.equal(sound, sound[0] + torch.arange(len(sound)))
        assert sound[0] // 1000 == k
        assert len(sound) == (5 if k == 1 else 8)
    assert set(batch.captions) == {"clip 0", "clip 1", "clip 2"}
    starts = {float(one[0]) for caption, one in zip(batch.captions, batch.target[:, 0], strict=True) if "0" in caption}
    assert len(starts) > 4, "segments begin anywhere"


def test_a_step_gives_the_same_segments_and_another_step_others():
    one = crops(counted(30, 40))
    assert torch.equal(one[5].target, crops(counted(30, 40))[5].target)
    assert not torch.equal(one[5].target, one[6].target)


def test_long_examples_are_drawn_more_often_but_not_in_proportion():
    drawn = crops(counted(400, 4), batch=4000)[0].captions
    assert drawn.count("clip 0") / drawn.count("clip 1") == pytest.approx(10, rel=0.2)


@pytest.mark.parametrize("level", [None, (-20.0, 6.0)], ids=["mels", "waveforms"])
def test_processes_share_segments(level):
    whole = crops(counted(30, 4), level=level)[2]
    for rank in range(3):
        part = crops(counted(30, 4), level=level, rank=rank, ranks=3)[2]
        assert torch.equal(part.target, whole.target[rank::3])
        assert part.captions == whole.captions[rank::3]
        assert (part.shard.items, part.shard.rank) == (6, rank)
    with pytest.raises(Error, match="can't be shared evenly by 4 devices"):
        crops(counted(30), rank=0, ranks=4)


def wave(values: np.ndarray) -> Example:
    return Example(torch.from_numpy(values.astype(np.float16))[None])


def waves(examples: list[Example], weights: list[float], batch: int = 50) -> RandomCrops:
    return RandomCrops(examples, 100, batch, 0, weights=weights, level=(-20.0, 6.0))


def test_a_step_gives_the_same_sounds_whenever_it_is_asked_for():
    examples = [wave(np.full(50, 0.1)), wave(np.linspace(-0.5, 0.5, 900))]
    one, again = (waves(examples, [1, 3], batch=6) for _ in range(2))
    assert torch.equal(one[5].target, again[5].target)
    assert not torch.equal(one[5].target, one[6].target)
    assert one[0].target.shape == (6, 1, 100) and one[0].target.abs().max() <= 1


def test_sounds_are_drawn_by_their_weights_and_follow_each_other():
    batches = waves([wave(np.full(40, 0.1)), wave(np.full(400, -0.1))], [1, 3])
    segments = torch.cat([batches[i].target for i in range(20)])[:, 0]
    is_short = segments[:, 0] > 0
    assert 0.2 < is_short.float().mean() < 0.3
    assert (segments[is_short, :40] > 0).all() and (segments[~is_short] < 0).all()
    gaps = [int((one[40:] != 0).nonzero()[0]) for one in segments[is_short]]
    assert min(gaps) == 0 and 5 <= max(gaps) <= 10  # a short silence, and then another sound
    assert all((one[40 + gap :] != 0).any() for one, gap in zip(segments[is_short], gaps, strict=True))


def test_no_gain_makes_a_sound_clip():
    batches = waves([wave(0.9 * np.sin(np.arange(2000)))], [1])
    segments = torch.cat([batches[i].target for i in range(4)])[:, 0]
    peaks = segments.abs().amax(1, keepdim=True)
    assert 0.99 < peaks.max() <= 1 and peaks.min() < 0.2
    near = (segments.abs() > 0.999 * peaks).float().mean()
    assert near < 0.05, "of a sine 3 % are so near its peak, of a clipped one half"


def test_two_channels_share_one_gain():
    both = Example(torch.stack([torch.full((400,), 0.1), torch.full((400,), -0.2)]))
    batch = RandomCrops([both], 100, 8, 0, level=(-20.0, 6.0))[0].target
    assert batch.shape == (8, 2, 100)
    torch.testing.assert_close(batch[:, 1], -2 * batch[:, 0])
