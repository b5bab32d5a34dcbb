"""Changed speech: what each change does to mels and to waveforms, and that seed, item and epoch decide all of it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from cymatic.data import mel_moves, wave_moves
from cymatic.data.augment_speech import TARGET, SpeechAugmenter, speech_augmenter
from cymatic.data.batches import Bucketed
from cymatic.data.reading import Example
from cymatic.data.settings import Augmentation
from cymatic.errors import Error
from cymatic.media.picture import PictureSpec
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import PRESETS, log_mel, to_log

SPEC, WAVES = PRESETS["sound-24k"], WaveSpec(rate=16_000)
RATE = WAVES.rate
ALL = Augmentation(tract=0.1, speed=0.1, room=0.5, noise=0.7, overlay=0.7)
FACTORS = st.floats(0.75, 1.3)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vowel(hz: float = 120.0, seconds: float = 1.0, rate: int = RATE, resonance: float = 1000.0) -> Tensor:
    """Overtones of `hz` that are strongest around a resonance: `[1, samples]`."""
    time = torch.arange(round(seconds * rate)) / rate
    parts = [
        math.exp(-(((n * hz - resonance) / 200) ** 2)) * torch.cos(2 * math.pi * n * hz * time + n)
        for n in range(1, int(rate / 2 / hz))
    ]
    return 0.1 * sum(parts, torch.zeros(1))[None] + 1e-4 * torch.randn(1, len(time), generator=chance(9))


def mel(wave: Tensor, spec=SPEC) -> Tensor:
    return to_log(log_mel(wave[None], spec)[0], spec)


def middle_of(values: Tensor) -> float:
    """The mean frequency of a mel's power, in Hz."""
    power = (2 * values).exp().mean(1) * torch.from_numpy(mel_moves._widths(SPEC))
    return float((power * torch.from_numpy(mel_moves._centres(SPEC))).sum() / power.sum())


def utterances(count: int = 4) -> tuple[list[Example], list[Example]]:
    """As mels that are given beside a picture, and as waveforms that are targets; lengths differ."""
    mels = [mel(vowel(100 + 20 * n, 0.4 + 0.1 * n, SPEC.rate)) for n in range(count)]
    waves = [vowel(100 + 20 * n, 0.4 + 0.1 * n).half() for n in range(count)]
    picture = torch.zeros(3, 4, 4)
    return [Example(picture, {"voice": one}, "a house") for one in mels], [Example(one, {}, "a house") for one in waves]


def augmenters(given_settings: Augmentation, seed: int = 0) -> list[tuple[SpeechAugmenter, list[Example], str]]:
    mels, waves = utterances()
    specs = {TARGET: PictureSpec(size=4), "voice": SPEC}
    return [
        (SpeechAugmenter(given_settings, specs, mels, seed), mels, "voice"),
        (SpeechAugmenter(given_settings, {TARGET: WAVES}, waves, seed), waves, TARGET),
    ]


def sound(one: Example, role: str) -> Tensor:
    return one.target if role == TARGET else one.given[role]


def test_by_default_nothing_is_changed():
    for change, examples, role in augmenters(Augmentation()):
        assert torch.equal(sound(change(examples[0], 0, 0), role), sound(examples[0], role))
    assert speech_augmenter(Augmentation(gain=3, flip=True), {TARGET: SPEC}, [], 0) is None
    with pytest.raises(Error, match="nothing here reads sounds"):
        speech_augmenter(ALL, {TARGET: PictureSpec(size=4)}, [], 0)
    with pytest.raises(ValidationError, match="give the lower end first"):
        Augmentation(snr=(30, 5))


@settings(max_examples=15)
@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9))
def test_seed_item_and_epoch_decide(item, epoch, seed):
    for (one, examples, role), (two, *_) in zip(augmenters(ALL, seed), augmenters(ALL, seed), strict=True):
        before = [sound(example, role).clone() for example in examples]
        two(examples[0], 0, epoch + 1)
        got, again = one(examples[item], item, epoch), two(examples[item], item, epoch)
        assert torch.equal(sound(got, role), sound(again, role))
        assert sound(got, role).dtype == before[item].dtype and sound(got, role).isfinite().all()
        assert got.caption == "a house" and (role == TARGET or got.target is examples[item].target)
        assert all(torch.equal(sound(one, role), was) for one, was in zip(examples, before, strict=True))
        length = sound(got, role).shape[-1]
        assert before[item].shape[-1] / 1.1 - 2 <= length <= before[item].shape[-1] / 0.9 + 2


def test_epochs_and_items_differ_and_one_change_leaves_the_numbers_of_others():
    for change, examples, role in augmenters(ALL):
        seen = [sound(change(examples[0], item, epoch), role) for item in (0, 1) for epoch in (0, 1)]
        assert not any(a.shape == b.shape and torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])
    faint = Augmentation(tract=0.1, speed=0.1, noise=1e-9)
    for (one, examples, role), (two, *_) in zip(
        augmenters(Augmentation(tract=0.1, speed=0.1)), augmenters(faint), strict=True
    ):
        assert torch.equal(sound(one(examples[1], 1, 2), role), sound(two(examples[1], 1, 2), role))


def test_an_item_is_the_same_in_any_batch():
    change, examples, _ = augmenters(ALL)[1]
    by_item = [change(one, item, 0).target for item, one in enumerate(examples)]
    for batch in (1, 2, 4):
        batches = Bucketed(examples, batch, 0, vary=change)
        for step in range(batches.per_epoch):
            made = batches[step]
            for row, length in zip(made.target, made.lengths.tolist(), strict=True):
                assert any(one.shape[-1] == length and torch.equal(one.float(), row[:, :length]) for one in by_item)
    assert all(0 < float(one.abs().max()) <= 1 for one in by_item)


def test_captions_that_speak_of_pitch_keep_it():
    for change, examples, role in augmenters(Augmentation(tract=0.2, speed=0.2)):
        low = Example(examples[0].target, examples[0].given, "a low voice")
        assert torch.equal(sound(change(low, 0, 0), role), sound(low, role))
        assert not torch.equal(sound(change(examples[0], 0, 0), role)[:, :9], sound(examples[0], role)[:, :9])


@given(FACTORS, st.sampled_from([8000, 16_000, 24_000]))
def test_the_warp_of_a_tract_keeps_order_and_ends(warp, rate):
    hz = np.linspace(0, rate / 2, 200)
    source = mel_moves.tract_source(hz, warp, rate)
    assert source[0] == 0 and source[-1] == pytest.approx(rate / 2) and (np.diff(source) > 0).all()
    low = hz <= 0.6 * min(4800, 0.8 * rate / 2)
    assert source[low] == pytest.approx(hz[low] / warp)
    if warp == 1:
        assert source == pytest.approx(hz)


@pytest.mark.parametrize("warp", [0.85, 1.15])
def test_a_shorter_tract_has_higher_resonances(warp):
    wave = vowel()
    made = wave_moves.with_tract(wave, RATE, warp)
    assert made.shape == wave.shape and wave_moves.with_tract(wave, RATE, 1.0) is wave
    spectrum = torch.fft.rfft(made[0]).abs().square()
    hz = torch.fft.rfftfreq(made.shape[1], 1 / RATE)
    middle = float((spectrum * hz).sum() / spectrum.sum())
    assert middle == pytest.approx(1000 * warp, rel=0.05)
    overtones = spectrum.reshape(-1)[[round(120 * n) for n in range(5, 14)]].sum()
    assert float(overtones / spectrum.sum()) > 0.8, "the pitch stays"
    before = mel(vowel(rate=SPEC.rate))
    assert middle_of(mel_moves.with_tract(before, SPEC, warp)) / middle_of(before) == pytest.approx(warp, rel=0.05)


@given(FACTORS, st.integers(1, 300))
def test_speed_changes_the_length_as_it_says(faster, steps):
    values = torch.randn(SPEC.mels, steps, generator=chance())
    made = mel_moves.at_speed(values, SPEC, faster)
    assert made.shape == (SPEC.mels, max(1, round(steps / faster))) and made.isfinite().all()
    assert mel_moves.at_speed(values, SPEC, 1.0) is values
    wave = wave_moves.at_speed(torch.randn(1, 50 * steps, generator=chance()), RATE, faster)
    assert wave.shape[1] == pytest.approx(50 * steps / faster, rel=1e-3, abs=1)


@pytest.mark.parametrize("faster", [0.8, 1.25])
def test_speed_on_a_mel_is_that_of_its_sound(faster):
    wave = vowel(rate=SPEC.rate)
    there = mel(wave_moves.at_speed(wave, SPEC.rate, faster))
    made = mel_moves.at_speed(mel(wave), SPEC, faster)
    assert middle_of(made) / middle_of(there) == pytest.approx(1, abs=0.05)
    assert mel_moves.loudness(made, SPEC) == pytest.approx(mel_moves.loudness(there, SPEC), abs=3)
    assert made.shape == there.shape


@given(st.floats(-10, 40), st.floats(0, 1))
def test_noise_lies_as_far_below_as_it_should(snr, slope):
    wave = vowel()
    made = wave_moves.added(wave, wave_moves.noise(wave.shape[1], RATE, slope, chance(1)), snr) - wave
    ratio = 10 * float((wave.square().mean() / made.square().mean()).log10())
    assert ratio == pytest.approx(snr, abs=0.1)
    clean = mel(vowel(rate=SPEC.rate))
    noise = mel_moves.noise(clean.shape[1], SPEC, slope, chance(1))
    noisy = mel_moves.added(clean, noise, SPEC, snr)
    added = ((2 * noisy.double()).exp() - (2 * clean.double()).exp()).clamp_min(1e-30).log() / 2
    assert mel_moves.loudness(clean, SPEC) - mel_moves.loudness(added.float(), SPEC) == pytest.approx(snr, abs=0.1)


def test_the_ratio_on_mels_is_about_that_of_waveforms():
    wave = vowel(rate=SPEC.rate)
    for slope in (0.0, 1.0):
        noise = wave_moves.noise(wave.shape[1], SPEC.rate, slope, chance(2)) * wave.square().mean().sqrt()
        apart = mel_moves.loudness(mel(wave), SPEC) - mel_moves.loudness(mel(noise), SPEC)
        assert apart == pytest.approx(0, abs=2.5)
        alike = mel_moves.noise(200, SPEC, slope, chance(3)).mean(1) - mel(noise).mean(1)
        assert float(alike[3:].std()) < 0.35, "the same shape"


def test_silence_gets_no_noise():
    silence = torch.full((SPEC.mels, 20), math.log(SPEC.floor))
    assert mel_moves.added(silence, torch.zeros_like(silence), SPEC, 10) is silence
    still = torch.zeros(1, 400)
    assert wave_moves.added(still, torch.ones_like(still), 10) is still


@pytest.mark.parametrize("seconds", [0.2, 0.6])
def test_a_room_rings_as_long_as_it_should(seconds):
    click = torch.zeros(1, RATE)
    click[0, 100] = 1
    made = wave_moves.in_room(click, RATE, seconds, 3.0, chance())
    power = made[0].square()
    assert float(power[100] / power[101:].sum()) == pytest.approx(10**0.3, rel=0.02)
    halves = [float(power[101 + round(part * seconds * RATE) :][:400].mean().log10()) for part in (0.1, 0.5)]
    assert 10 * (halves[0] - halves[1]) == pytest.approx(0.4 * 60, abs=3)
    drawn = torch.full((SPEC.mels, 90), -9.0)
    drawn[:, 3] = 3
    rung = mel_moves.in_room(drawn, SPEC, seconds, 3.0)
    step = SPEC.hop / SPEC.rate
    fallen = float(rung[0, 4] - rung[0, 4 + round(0.5 * seconds / step)]) * 20 / math.log(10)
    assert fallen == pytest.approx(30, abs=2) and torch.equal(rung[:, :3] < -8.9, drawn[:, :3] < -8.9)
    assert float(rung[-1, 4] - rung[-1, 9]) == pytest.approx(2 * float(rung[0, 4] - rung[0, 9]), rel=0.05)


def test_a_room_keeps_the_loudness_of_what_goes_on():
    steady = mel(vowel(seconds=3, rate=SPEC.rate))
    made = mel_moves.in_room(steady, SPEC, 0.4, 0.0)
    assert made.shape == steady.shape
    assert mel_moves.loudness(made[:, 90:], SPEC) == pytest.approx(mel_moves.loudness(steady[:, 90:], SPEC), abs=0.3)
    wave = torch.randn(1, 3 * RATE, generator=chance())
    rung = wave_moves.in_room(wave, RATE, 0.4, 0.0, chance(1))
    assert rung.shape == wave.shape
    assert float(rung[:, RATE:].square().mean() / wave[:, RATE:].square().mean()) == pytest.approx(1, abs=0.2)


def test_another_item_is_overlaid():
    change, examples, _ = augmenters(Augmentation(overlay=1.0, snr=(10, 10)))[1]
    made, before = change(examples[0], 0, 0).target.float(), examples[0].target.float()
    rest = made - before
    assert 10 * float((before.square().mean() / rest.square().mean()).log10()) == pytest.approx(10, abs=0.3)
    single = SpeechAugmenter(Augmentation(overlay=1.0), {TARGET: WAVES}, examples[:1], 0)
    assert single(examples[0], 0, 0).target is examples[0].target
