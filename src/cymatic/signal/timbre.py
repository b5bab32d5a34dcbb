"""What a short sound is like, in three numbers, and the colour that stands for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from cymatic.signal.colours import oklab
from cymatic.signal.mel import MelSpec, filterbank, hz_to_mel, mel_to_hz

QUIETEST, LOUDEST = -80.0, -15.0  # dB, from dark to light
LOWEST, HIGHEST = 350.0, 6000.0  # Hz, from red to violet, each octave as far as another
PUREST = -15.0  # dB of flatness, of the most vivid colour; 0 is grey
DARK, LIGHT = 0.22, 0.93
VIVID, PALE = 0.22, 0.02
RED, VIOLET = 20.0, 310.0  # degrees: as far as a rainbow goes, so that the lowest and the highest never meet
FLOOR = 1e-10  # of power
DEEPEST = 1e-6  # of the mean power, so that a tone is as pure whether soft or loud


class Timbre(NamedTuple):
    """Of each of some sounds: its level in dB below full scale, the centre of its spectrum in Hz, and how even that
    is in dB: 0 is noise, and the fewer tones the lower."""

    level: Float[np.ndarray, " n"]
    centre: Float[np.ndarray, " n"]
    flatness: Float[np.ndarray, " n"]

    def colours(self) -> Float[np.ndarray, "n 3"]:
        """OKLab: the louder the lighter, from red for low to violet for high, noise grey and tones vivid.

        The scale is fixed, so a sound has the same colour on every map.
        """
        height = _share(np.log(self.centre), np.log(LOWEST), np.log(HIGHEST))
        return oklab(
            DARK + (LIGHT - DARK) * _share(self.level, QUIETEST, LOUDEST),
            PALE + (VIVID - PALE) * _share(-self.flatness, 0, -PUREST),
            RED + (VIOLET - RED) * height,
        )


def timbre(sounds: Float[np.ndarray, "n samples"], rate: int) -> Timbre:
    """What each of some sounds of one channel is like.

    Of the mean power spectrum in mel bands of equal area: the centre is the mean pitch in mels, weighed by the bands'
    amplitudes, and the flatness the bands' geometric mean over their arithmetic one (Johnston, 1988).
    """
    n_fft = 2 ** max(6, int(np.log2(rate / 25)))  # windows of 20 to 40 ms
    bands = max(8, min(48, n_fft // 8))
    spec = MelSpec(rate=rate, n_fft=n_fft, hop=n_fft // 2, mels=bands, fmin=min(50.0, rate / 16), fmax=rate / 2)
    filters = filterbank(spec) ** 2
    filters = filters[filters.any(1)]  # a band between two bins would hear nothing
    samples = np.pad(sounds, ((0, 0), (0, max(0, n_fft - sounds.shape[1]))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft, axis=1)[:, :: spec.hop]
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    power = np.stack([(np.abs(np.fft.rfft(one * window)) ** 2).mean(0) for one in frames])
    heard = power @ filters.T / filters.sum(1) / (window**2).sum() + FLOOR
    middles = hz_to_mel(np.linspace(0, rate / 2, n_fft // 2 + 1)) @ filters.T / filters.sum(1)
    weights = heard**0.5
    level = 10 * np.log10((sounds.astype(np.float64) ** 2).mean(1) + FLOOR)
    centre = mel_to_hz((weights * middles).sum(1) / weights.sum(1))
    even = heard / heard.mean(1, keepdims=True)
    return Timbre(level, centre, 10 * np.log10(even + DEEPEST).mean(1))


def _share(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((x - low) / (high - low), 0, 1)
