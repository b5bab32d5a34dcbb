"""Kaldi's log mel energies ("fbank"), which many recognisers of speech and of sounds read (Povey et al., 2011).

Of each frame x of 25 ms, one every 10 ms as far as whole frames go:

    d_i = x_i - mean(x)                       no direct current
    e_i = d_i - 0.97 d_(i-1)                  pre-emphasis; the first sample's predecessor is itself
    P_k = |DFT(e * hann^0.85)|^2              zeros fill up the next power of two
    fbank_m = ln(max(sum_k T_m(k) P_k, 2^-23))

T_m are triangles of height 1, straight over the mels 1127 ln(1 + f / 700) and spread evenly from 20 Hz to half the
rate, whose bin is left out. Kaldi adds noise by default (dither); here nothing is random.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

WINDOW, HOP = 25, 10  # ms
EMPHASIS = 0.97
LOWEST = 20  # Hz
FLOOR = torch.finfo(torch.float32).eps


def kaldi_sizes(rate: int) -> tuple[int, int]:
    """Samples of a frame, and from one frame to the next."""
    return rate * WINDOW // 1000, rate * HOP // 1000


def kaldi_frames(samples: int, rate: int = 16_000) -> int:
    """Frames that lie whole within `samples` samples; none where there are fewer than one takes."""
    window, hop = kaldi_sizes(rate)
    return max(0, 1 + (samples - window) // hop)


@lru_cache(maxsize=16)
def kaldi_filterbank(rate: int, n_fft: int, mels: int) -> Float[np.ndarray, "mels bins"]:
    """The triangles, `[mels, n_fft // 2]`.

    In float32, step by step as in Kaldi: the lowest triangles are narrower than a bin, so they move with a last digit.
    """
    lowest, highest = (1127 * math.log(1 + hz / 700) for hz in (LOWEST, rate / 2))
    edges = lowest + np.arange(mels + 2, dtype=np.float32) * ((highest - lowest) / (mels + 1))
    bins = 1127 * np.log(1 + np.arange(n_fft // 2, dtype=np.float32) * (rate / n_fft) / 700)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None)


def kaldi_fbank(
    waveform: Float[Tensor, "*batch samples"], rate: int = 16_000, mels: int = 128
) -> Float[Tensor, "*batch frames mels"]:
    """Waveform at `rate` Hz -> log mel energies; no frames where it is shorter than one.

    Kaldi counts samples in 16-bit steps, so its models expect -32768..32767 rather than -1..1.
    """
    window, hop = kaldi_sizes(rate)
    if waveform.shape[-1] < window:
        return waveform.new_zeros(*waveform.shape[:-1], 0, mels)
    frames = waveform.unfold(-1, window, hop)
    frames = frames - frames.mean(-1, keepdim=True)
    frames = frames - EMPHASIS * torch.cat([frames[..., :1], frames[..., :-1]], -1)
    taper = torch.hann_window(window, periodic=False, dtype=waveform.dtype, device=waveform.device).pow(0.85)
    n_fft = 1 << (window - 1).bit_length()
    power = torch.fft.rfft(frames * taper, n=n_fft).abs().square()[..., :-1]
    filters = torch.from_numpy(kaldi_filterbank(rate, n_fft, mels)).to(waveform)
    with torch.autocast(waveform.device.type, enabled=False):  # a mel is no place to save digits
        return (power @ filters.mT).clamp_min(FLOOR).log()
