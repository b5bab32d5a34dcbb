"""How far apart two sounds are, as functions that a gradient passes through."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.signal.mel import MelSpec, log_mel

# Window in samples and mels: each halving of the window halves what can be told apart in frequency.
SCALES = ((2048, 160), (1024, 80), (512, 40), (256, 20), (128, 10))


def multi_scale_mel_distance(
    a: Float[Tensor, "batch 1 samples"], b: Float[Tensor, "batch 1 samples"], rate: int
) -> Float[Tensor, ""]:
    """Mean absolute difference of natural-log mels, averaged over five windows with hops of a quarter.

    Several windows, because each is blind to what is finer than itself in time or in frequency (Kumar et al., 2023,
    arXiv 2306.06546, section 3.4).
    """
    terms = []
    for window, mels in SCALES:
        spec = MelSpec(rate=rate, n_fft=window, hop=window // 4, mels=mels, fmax=rate / 2)
        terms.append((log_mel(a, spec) - log_mel(b, spec)).abs().mean())
    return torch.stack(terms).mean()
