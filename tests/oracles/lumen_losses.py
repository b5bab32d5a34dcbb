"""Lumen's multi-scale mel loss (audio_generation, 2023), to compare with what it reported; ours is in
`signal/distances.py`."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)  # samples
MELS, LEAST_FFT, SMALL = 64, 512, 1e-8


def pre_emphasis(waveform: Float[Tensor, "*batch samples"], share: float = 0.97) -> Float[Tensor, "*batch samples"]:
    """`y_t = x_t - share * x_(t-1)`, which lifts treble; the first sample stays as it is."""
    before = torch.nn.functional.pad(waveform, (1, 0))[..., :-1]
    return waveform - share * before


def lumen_mel(
    waveform: Float[Tensor, "batch 1 samples"], window: int, rate: int
) -> Float[Tensor, "batch 1 mels frames"]:
    """Powers on 64 bands of HTK's mel scale: centred, reflected frames of `window` samples, in transforms of 512 at
    least, divided by the window's energy."""
    n_fft = max(window, LEAST_FFT)
    hann = torch.hann_window(window, device=waveform.device)
    found = torch.stft(waveform[:, 0], n_fft, window // 4, window, hann, return_complex=True)
    power = torch.view_as_real(found).square().sum(-1) / hann.square().sum()
    return (torch.from_numpy(_filterbank(n_fft, rate)).to(power) @ power)[:, None]


def lumen_mel_loss(
    real: Float[Tensor, "batch 1 samples"], fake: Float[Tensor, "batch 1 samples"], rate: int
) -> Float[Tensor, ""]:
    """`sum over windows w of mean |a - b| + sqrt(w / 2) mean (log(a + 1e-8) - log(b + 1e-8))^2` of the mels a, b.

    Lumen multiplies it by 0.01, and shows it both sounds after its pre-emphasis.
    """
    total = real.new_zeros(())
    for window in WINDOWS:
        a, b = lumen_mel(real, window, rate), lumen_mel(fake, window, rate)
        logs = ((a + SMALL).log() - (b + SMALL).log()).square().mean()
        total = total + (a - b).abs().mean() + (window / 2) ** 0.5 * logs
    return total


@lru_cache(maxsize=8)
def _filterbank(n_fft: int, rate: int) -> Float[np.ndarray, "mels bins"]:
    """Triangles of height 1 between 66 places evenly spaced in `2595 log10(1 + f / 700)`."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.linspace(0, rate // 2, n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None).astype(np.float32)
