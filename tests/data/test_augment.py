"""Changed clips: a function of seed, step and place, finite, of the caption that they had."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.data.audio_moves import speaks_of_pitch
from cymatic.data.augment import Augmenter, is_texture
from cymatic.data.reading import Example
from cymatic.data.settings import Augmentation
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["sound-24k"]
FLOOR = math.log(SPEC.floor)
ALL = Augmentation(gain=3, shift=0.1, filter=6, mix=0.5)


def noise(frames: int, seed: int = 0) -> torch.Tensor:
    """Something like rain: each band at a level of its own, with the fluctuations of noise."""
    draws = torch.Generator().manual_seed(seed)
    level = torch.linspace(-2, -5, SPEC.mels)[:, None]
    return level + 0.4 * torch.randn(SPEC.mels, frames, generator=draws)


def rain(count: int = 4, frames: int = 200) -> list[Example]:
    return [Example(noise(frames + i, i), caption="rain") for i in range(count)]


@given(
    st.floats(0, 24), st.floats(0, 0.5), st.floats(0, 24), st.floats(0, 1), st.integers(0, 99), st.integers(0, 9),
    st.lists(st.integers(1, 150), min_size=1, max_size=5),
)  # fmt: skip
def test_a_changed_clip_is_a_function_of_seed_step_and_place(gain, shift, filter, mix, step, place, lengths):
    clips = [Example(noise(n, i), caption="rain") for i, n in enumerate(lengths)]
    settings = Augmentation(gain=gain, shift=shift, filter=filter, mix=mix)
    one, two = Augmenter(settings, clips, SPEC, 7), Augmenter(settings, clips, SPEC, 7)
    before = [clip.target.clone() for clip in clips]
    for i, clip in enumerate(clips):
        got = one(clip, step, place + i)
        two(clip, step + 1, place)
        assert torch.equal(got.target, two(clip, step, place + i).target)
        assert got.caption == clip.caption and got.target.isfinite().all()
        assert got.target.dtype == torch.float32 and got.target.shape[0] == SPEC.mels
        assert got.target.shape[1] >= 1 and (got is clip or got.target.min() >= FLOOR)
        assert abs(got.target.shape[1] - lengths[i]) <= 2 * round(shift * SPEC.rate / SPEC.hop)
    assert all(torch.equal(clip.target, mel) for clip, mel in zip(clips, before, strict=True)), (
        "the clips stay as they are"
    )


def test_steps_and_places_differ():
    clips = rain()
    change = Augmenter(ALL, clips, SPEC, 0)
    seen = [change(clips[0], step, place).target for step in (0, 1) for place in (0, 1)]
    assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_nothing_is_changed_by_default():
    clips = rain()
    assert not Augmentation().changes and Augmenter(Augmentation(), clips, SPEC, 0)(clips[0], 3, 1) is clips[0]


def test_gain_is_in_decibels():
    clips = rain(1)
    change = Augmenter(Augmentation(gain=2), clips, SPEC, 0)
    moved = [(change(clips[0], step, 0).target - clips[0].target) * 20 / math.log(10) for step in range(50)]
    assert all((one.max() - one.min()) < 1e-3 and abs(one.mean()) <= 2 for one in moved)
    assert max(float(one.mean()) for one in moved) > 1 and min(float(one.mean()) for one in moved) < -1


def test_the_equaliser_is_smooth_and_the_same_all_along():
    clips = rain(1)
    change = Augmenter(Augmentation(filter=6), clips, SPEC, 0)
    curves = (
        torch.stack([(change(clips[0], step, 0).target - clips[0].target) for step in range(300)]) * 20 / math.log(10)
    )
    assert (curves.std(2) < 1e-3).all()
    assert float(curves[..., 0].std()) == pytest.approx(6, rel=0.15)
    assert float(curves[..., 0].diff(dim=1).abs().max()) < 6


def test_shifts_cut_and_add_silence():
    clips = [Example(torch.zeros(SPEC.mels, 64), caption="kick")]
    change = Augmenter(Augmentation(shift=0.1), clips, SPEC, 0)
    got = [change(clips[0], step, 0).target for step in range(100)]
    lengths = {mel.shape[1] for mel in got}
    assert min(lengths) < 60 and max(lengths) > 70
    assert all(((mel == 0) | (mel == torch.tensor(FLOOR))).all() for mel in got)


def test_what_is_a_texture():
    assert is_texture(noise(200), SPEC)
    assert not is_texture(noise(60), SPEC), "too short to tell"
    assert not is_texture(torch.linspace(-2, -5, SPEC.mels)[:, None].repeat(1, 200), SPEC), "a held note"
    barks = noise(200)
    barks[:, 50:150] -= 5
    assert not is_texture(barks, SPEC)


def test_two_textures_at_once_are_as_loud_as_one():
    clips = rain(6)
    change = Augmenter(Augmentation(mix=1.0), clips, SPEC, 0)
    got = change(clips[0], 0, 0).target
    assert got.shape == clips[0].target.shape and not torch.equal(got, clips[0].target)
    powers = [float((2 * mel).exp().mean()) for mel in (got, clips[0].target)]
    assert powers[0] == pytest.approx(powers[1], rel=0.1)
    alone = [Example(noise(200, i), caption=said) for i, said in enumerate(("rain", "wind", "low rain", "low rain"))]
    change = Augmenter(Augmentation(mix=1.0), alone, SPEC, 0)
    assert all(change(clip, step, 0) is clip for clip in alone for step in range(5)), "no other, or a pitch in words"


def test_captions_that_speak_of_pitch():
    for caption in ("violin playing A4", "a low hum", "bass note on C", "rising tone"):
        assert speaks_of_pitch(caption), caption
    for caption in ("a dog barking", "george says seven", "rain"):
        assert not speaks_of_pitch(caption), caption
