"""Magnitudes of a short-time Fourier transform, quick to compute and to send a gradient through."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cymatic.signal.stft import overlap_add

SMALLEST = 1e-20  # its square is a float yet; what is smaller sends no gradient that matters


def magnitudes(padded: Float[Tensor, "batch samples"], n_fft: int, hop: int) -> Float[Tensor, "batch frames bins"]:
    """`|STFT|` with a Hann window, not centred: `1 + (samples - n_fft) // hop` frames of `n_fft // 2 + 1` bins.

    `torch.stft(...).abs()` gives the same up to rounding, and asks for `hypot`, which guards against overflows that no
    sound causes and takes three times as long. A gradient passes, but no gradient of a gradient.
    """
    if torch.is_grad_enabled() and padded.requires_grad:
        made: Tensor = _Magnitudes.apply(padded, n_fft, hop)
        return made
    return _forward(padded, n_fft, hop)[1]


@lru_cache(maxsize=32)
def _hann(n_fft: int) -> Float[np.ndarray, " n_fft"]:
    window: np.ndarray = torch.hann_window(n_fft).numpy()
    return window


def _forward(padded: Tensor, n_fft: int, hop: int) -> tuple[Tensor, Tensor]:
    window = torch.from_numpy(_hann(n_fft)).to(padded)
    spectrum = torch.fft.rfft(padded.unfold(1, n_fft, hop) * window)
    squares = torch.view_as_real(spectrum).square()
    return spectrum, (squares[..., 0] + squares[..., 1]).sqrt_()


class _Magnitudes(torch.autograd.Function):
    """`d|S| / dS = S / |S|`; the transform's adjoint is its inverse, with every bin but those at both ends halved."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, n_fft: int, hop: int) -> Tensor:
        spectrum, size = _forward(padded, n_fft, hop)
        ctx.save_for_backward(spectrum, size)
        ctx.n_fft, ctx.hop, ctx.samples = n_fft, hop, padded.shape[1]
        return size

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        spectrum, size = ctx.saved_tensors
        pull = gradient / size.clamp_min(SMALLEST)
        pull[..., :: (ctx.n_fft + 1) // 2] *= 2  # the ends, and the halves of all are in the window
        chunks = torch.fft.irfft(spectrum * pull, n=ctx.n_fft, norm="forward")
        chunks *= torch.from_numpy(_hann(ctx.n_fft) / 2).to(chunks)
        made = overlap_add(chunks, ctx.hop)
        return torch.nn.functional.pad(made, (0, ctx.samples - made.shape[1])), None, None
