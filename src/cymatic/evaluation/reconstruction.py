"""How much of a sound is left after it went through a codec or a vocoder: what a perfect prior would still lose.

`cymatic.signal.distances.multi_scale_mel_distance` belongs to this family, too; it lies there because vocoders train
on it.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
from jaxtyping import Float

DEPTH = 80.0  # dB below the loudest point of the original at which quieter points count as equal
MISSING_STOI = "the package pystoi is not installed; run: pip install 'cymatic[metrics]'"


def mel_l1(original: Float[Any, "mels frames"], again: Float[Any, "mels frames"]) -> float:
    """Mean absolute difference of two log mels in the mel's own units (nepers for a natural log; 1 is 8.7 dB)."""
    return float(abs(original - again).mean())


def log_spectral_distance(
    original: Float[np.ndarray, " samples"], again: Float[np.ndarray, " samples"], rate: int
) -> float:
    """In dB: `mean over frames of sqrt(mean over bins of (20 log10 |X| / |Y|)^2)` (Gray and Markel, 1976).

    Hann windows of 32 ms, a quarter of that apart. Magnitudes more than 80 dB below the loudest of the original are
    lifted to that, or silence against near-silence would count for more than all sound.
    """
    size = max(round(0.032 * rate), 4)
    a, b = (_magnitudes(wave, size) for wave in (original, again))
    floor = max(float(a.max()) * 10 ** (-DEPTH / 20), 1e-12)
    ratio = 20 * np.log10(np.maximum(a, floor) / np.maximum(b, floor))
    return float(np.sqrt((ratio**2).mean(1)).mean())


def _magnitudes(wave: Float[np.ndarray, " samples"], size: int) -> Float[np.ndarray, "frames bins"]:
    padded = np.pad(wave.astype(np.float64), (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4]
    return np.abs(np.fft.rfft(frames * np.hanning(size), axis=1))


def has_stoi() -> bool:
    """Whether the optional package pystoi is there."""
    return find_spec("pystoi") is not None


def stoi(original: Float[np.ndarray, " samples"], again: Float[np.ndarray, " samples"], rate: int) -> float | None:
    """Short-time objective intelligibility (Taal et al., 2011), about 0 to 1: how well speech can still be understood.

    Of speech only; of rain it says nothing. None for a sound with less than 0.4 s that is not silent, of which it can't
    be told. Needs the package pystoi (`has_stoi`).
    """
    from pystoi import stoi as measured

    with warnings.catch_warnings():
        # pystoi says so by a warning, and gives 1e-5 instead.
        warnings.filterwarnings("error", message="Not enough STFT frames", category=RuntimeWarning)
        try:
            return float(measured(original, again, rate))
        except (RuntimeWarning, ValueError):
            return None
