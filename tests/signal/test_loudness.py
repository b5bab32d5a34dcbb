"""Loudness and true peak against levels that BS.1770-4 and arithmetic give."""

import math
import subprocess
import sys

import numpy as np
import pytest
import soxr

from cymatic.errors import SoundError
from cymatic.media.sound import Sound


def sine(hz: float, rate: int = 48_000, seconds: float = 2.0, level: float = 1.0, phase: float = 0.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate + phase)


def test_full_scale_sine_is_minus_three_lufs():
    # BS.1770-4: 0 dBFS, 997 Hz, in one channel reads -3.01 LKFS.
    assert Sound(sine(997), 48_000).loudness() == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate", [4000, 8000, 16_000, 24_000, 44_100, 96_000, 192_000])
def test_loudness_hardly_depends_on_the_rate(rate):
    assert Sound(sine(997, rate), rate).loudness() == pytest.approx(-3.01, abs=0.06)


def test_loudness_follows_gain_and_channels():
    one = Sound(sine(997, level=0.1), 48_000)
    two = Sound(np.stack([sine(997, level=0.1)] * 2), 48_000)
    assert one.loudness() == pytest.approx(-23.01, abs=0.01)
    assert two.loudness() - one.loudness() == pytest.approx(3.01, abs=0.01)


def test_short_sounds_are_repeated():
    assert Sound(sine(997, seconds=0.1), 48_000).loudness() == pytest.approx(-3.01, abs=0.3)
    assert math.isfinite(Sound(sine(997, seconds=0.001), 48_000).loudness())


def test_more_channels_than_the_standard_has_weights_for():
    eight = Sound(np.stack([sine(997, level=0.1)] * 8), 48_000)
    assert eight.loudness() == pytest.approx(-23.01, abs=0.01)


@pytest.mark.parametrize("samples", [np.zeros((1, 1)), np.zeros((2, 48_000)), np.full((1, 48_000), 1e-6)])
def test_silence(samples):
    sound = Sound(samples, 48_000)
    assert sound.loudness() == -math.inf
    assert sound.at_loudness() is sound


def test_true_peak_sees_between_the_samples():
    # A quarter of the rate at 45 degrees: samples reach 0.707 only, the wave 1.
    between = Sound(sine(12_000, phase=np.pi / 4), 48_000)
    assert 20 * np.log10(np.abs(between.samples).max()) == pytest.approx(-3.01, abs=0.01)
    edges = between.fade(0.1, 0.1)  # an abrupt start rings above the wave, and rightly so
    assert edges.true_peak() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("channels", [1, 3])
def test_true_peak_in_blocks_is_that_of_the_whole(channels):
    generator = np.random.default_rng(0)
    noise = generator.standard_normal((channels, 2**20 + 1000), dtype=np.float32) * 0.1
    whole = soxr.resample(noise.T, 24_000, 96_000, quality="HQ")
    peak = max(np.abs(whole).max(), np.abs(noise).max())
    assert Sound(noise, 24_000).true_peak() == pytest.approx(20 * np.log10(peak), abs=1e-4)


def test_true_peak_of_silence():
    assert Sound(np.zeros((1, 10)), 8000).true_peak() == -math.inf


def test_at_loudness_reaches_the_loudness():
    sound = Sound(sine(440, level=0.01), 48_000).at_loudness(-23.0)
    assert sound.loudness() == pytest.approx(-23, abs=0.02)


def test_at_loudness_stops_at_the_peak():
    clicks = np.zeros(48_000)
    clicks[::12_000] = 0.1  # quiet on average, all of it peak
    sound = Sound(clicks, 48_000).at_loudness(-10.0, peak_db=-1.0)
    assert -1.01 < sound.true_peak() <= -1.0
    assert sound.loudness() < -10


def test_peak_limited_scales_and_does_not_clip():
    loud = Sound(sine(440, level=3.0), 48_000)
    limited = loud.peak_limited(-1.0)
    assert -1.01 < limited.true_peak() <= -1.0
    assert limited.samples / limited.samples.max() == pytest.approx(loud.samples / loud.samples.max(), abs=1e-6)
    assert limited.peak_limited(-1.0) is limited


def test_a_gain_without_end_is_refused():
    with pytest.raises(SoundError, match="no gain"):
        Sound(sine(440), 48_000).at_loudness(float("nan"))


def test_true_peak_needs_no_scipy():
    code = (
        "import sys; from cymatic.media.sound import Sound; Sound([0.5, 2.0], 8000).peak_limited(); "
        "print('scipy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
