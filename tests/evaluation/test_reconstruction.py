from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import installed

from cymatic.evaluation import reconstruction
from cymatic.evaluation.reconstruction import DEPTH, has_stoi, log_spectral_distance, mel_l1, stoi

RATE = 8000


def noise(seed: int, seconds: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=int(RATE * seconds)).astype(np.float32)


def test_mel_l1_is_in_the_units_of_the_mel() -> None:
    mel = np.zeros((3, 4), dtype=np.float32)
    assert mel_l1(mel, mel + 0.25) == 0.25


@given(st.floats(-20, 20))
def test_a_gain_is_its_decibels(gain: float) -> None:
    wave = noise(0)
    assert log_spectral_distance(wave, wave * 10 ** (gain / 20), RATE) == pytest.approx(abs(gain), abs=0.3)


def test_the_same_as_written_out() -> None:
    a, b, size = noise(0, 0.1), noise(1, 0.1), 256
    padded = [np.concatenate([np.zeros(128), wave, np.zeros(256)]) for wave in (a, b)]
    frames = []
    for start in range(0, len(padded[0]) - size + 1, 64):
        x, y = (np.abs(np.fft.rfft(wave[start : start + size] * np.hanning(size))) for wave in padded)
        frames.append((x, y))
    floor = max(x.max() for x, _ in frames) * 10 ** (-DEPTH / 20)
    spread = [np.sqrt(np.mean((20 * np.log10(np.maximum(x, floor) / np.maximum(y, floor))) ** 2)) for x, y in frames]
    assert log_spectral_distance(a, b, RATE) == pytest.approx(np.mean(spread), rel=1e-6)


def test_silence_is_equal_to_what_is_hardly_there() -> None:
    wave = np.concatenate([noise(0), np.zeros(4000, dtype=np.float32)])
    hiss = wave + np.concatenate([np.zeros(4000), 1e-6 * noise(1)]).astype(np.float32)
    assert log_spectral_distance(wave, hiss, RATE) < 0.01
    assert log_spectral_distance(np.zeros(800, dtype=np.float32), np.zeros(800, dtype=np.float32), RATE) == 0


def test_without_pystoi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconstruction, "find_spec", lambda name: None)
    assert not has_stoi()


def test_stoi_falls_with_noise() -> None:
    """Something like speech: noise whose level comes and goes."""
    installed("pystoi", "metrics")
    clean = noise(0, 2.0) * np.repeat(np.random.default_rng(1).uniform(0.05, 1, 40), RATE // 20).astype(np.float32)
    measured = [stoi(clean, clean + level * noise(2, 2.0), RATE) for level in (0.0, 0.3, 2.0)]
    assert measured[0] == pytest.approx(1, abs=1e-6) and measured[0] > measured[1] > measured[2]
    assert stoi(clean[:1000], clean[:1000], RATE) is None


def test_stoi_of_too_little_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """pystoi warns of it and gives 1e-5; a stand-in does the same, so that this holds where it is absent, too."""

    def measured(*rest: object) -> float:
        import warnings

        warnings.warn("Not enough STFT frames to compute the measure", RuntimeWarning, stacklevel=2)
        return 1e-5

    monkeypatch.setitem(sys.modules, "pystoi", SimpleNamespace(stoi=measured))
    assert stoi(noise(0), noise(1), RATE) is None
    monkeypatch.setitem(sys.modules, "pystoi", SimpleNamespace(stoi=lambda *rest: 0.75))
    assert stoi(noise(0), noise(1), RATE) == 0.75
