from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.evaluation.pitch import HIGHEST, LOWEST, midi_of, note_pitch, track
from cymatic.media.sound import Sound

A1, C7 = 33, 96


def _note(
    pitch: float, *, rate: int = 24_000, harmonics: int = 12, slope: float = 1.0, seconds: float = 0.5, seed: int = 0
) -> np.ndarray:
    """A harmonic tone of random phases, harmonic k `k ** -slope` strong, that dies away a little."""
    chance = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    hz = 440 * 2 ** ((pitch - 69) / 12)
    wave = np.zeros(len(t))
    for k in range(1, harmonics + 1):
        if k * hz < 0.45 * rate:
            wave += k**-slope * np.sin(2 * np.pi * (k * hz * t + chance.uniform()))
    return 0.3 * wave / np.abs(wave).max() * np.exp(-t)


@settings(max_examples=60)
@given(
    pitch=st.floats(A1, C7),
    harmonics=st.integers(1, 20),
    slope=st.floats(0.0, 2.0),
    rate=st.sampled_from([16_000, 24_000, 44_100]),
    level=st.floats(1e-3, 1.0),
    seed=st.integers(0, 99),
)
def test_harmonic_tones_are_heard_within_ten_cents(
    pitch: float, harmonics: int, slope: float, rate: int, level: float, seed: int
) -> None:
    wave = level * _note(pitch, rate=rate, harmonics=harmonics, slope=slope, seed=seed)
    heard = note_pitch(Sound(wave, rate))
    assert heard is not None
    assert abs(heard - pitch) < 0.1  # an octave off would be 12


@pytest.mark.parametrize("pitch", range(A1, C7 + 1, 7))
def test_a_weak_first_harmonic_is_no_octave(pitch: int) -> None:
    t = np.arange(12_000) / 24_000
    hz = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(a * np.sin(2 * np.pi * k * hz * t) for k, a in ((1, 0.1), (2, 0.5), (3, 0.4), (4, 0.3)))
    heard = note_pitch(Sound(0.3 * wave, 24_000))
    assert heard is not None and abs(heard - pitch) < 0.1


@pytest.mark.parametrize("pitch", [40, 60, 80])
def test_noise_twenty_decibels_down_moves_no_pitch(pitch: int) -> None:
    wave = _note(pitch)
    noise = np.random.default_rng(1).normal(size=len(wave)) * np.sqrt(np.mean(wave**2)) * 0.1
    heard = note_pitch(Sound(wave + noise, 24_000))
    assert heard is not None and abs(heard - pitch) < 0.1


def test_the_loud_part_decides() -> None:
    sound = Sound(np.concatenate([_note(60), 0.01 * _note(72, seconds=2.0)]), 24_000)
    heard = note_pitch(sound)
    assert heard is not None and abs(heard - 60) < 0.1


def test_what_has_no_pitch_gets_none() -> None:
    noise = np.random.default_rng(0).normal(size=24_000) * 0.1
    for sound in (Sound(np.zeros(24_000), 24_000), Sound(noise, 24_000), Sound(_note(60, seconds=0.05), 24_000)):
        assert note_pitch(sound) is None


def test_channels_and_offsets_do_not_matter() -> None:
    wave = _note(57)
    both = Sound(np.stack([wave, 0.5 * wave]), 24_000)
    heard = note_pitch(both)
    assert heard is not None and abs(heard - 57) < 0.1


def test_a_track_follows_a_change_of_note() -> None:
    found = track(Sound(np.concatenate([_note(50), _note(57)]), 24_000))
    assert found.hz.shape == found.aperiodicity.shape == found.power.shape
    assert ((found.hz > LOWEST * 0.9) & (found.hz < HIGHEST * 1.1)).all()
    heard = midi_of(found.hz)
    assert abs(heard[5] - 50) < 0.1 and abs(heard[-5] - 57) < 0.1
