"""The STFT of a `MelSpec` and its least-squares inverse: exactly `frames * hop` samples back."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import fold

from cymatic.signal.mel import MelSpec, framed


def stft(waveform: Float[Tensor, "batch 1 samples"], spec: MelSpec) -> Complex[Tensor, "batch bins frames"]:
    """The frames of `framed`, one a column; where they lie is the spec's framing."""
    return Transform(spec, spec.frames(waveform.shape[-1]), waveform).forward(waveform).mT


def istft(spectrum: Complex[Tensor, "batch bins frames"], spec: MelSpec) -> Float[Tensor, "batch 1 samples"]:
    """Least-squares inverse of `stft`; `torch.istft` refuses frames that are not centred, as a window ends in 0."""
    return Transform(spec, spectrum.shape[-1], spectrum.real).inverse(spectrum.mT)


class Transform:
    """Both directions for sounds of one length, whose window and its overlaps are then computed once.

    Frames come before bins, so that each transform finds its numbers side by side in memory.
    """

    def __init__(self, spec: MelSpec, frames: int, like: Tensor) -> None:
        self.spec = spec
        self.window = torch.hann_window(spec.n_fft, dtype=like.dtype, device=like.device)
        left = spec.n_fft // 2 if spec.framing == "centred" else (spec.n_fft - spec.hop) // 2
        self.span = slice(left, left + frames * spec.hop)
        squares = (self.window * self.window).expand(1, frames, -1)
        self.overlaps = overlap_add(squares, spec.hop)[:, self.span].clamp_min(1e-8)

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> Complex[Tensor, "batch frames bins"]:
        chunks = framed(waveform[:, 0], self.spec).unfold(1, self.spec.n_fft, self.spec.hop)
        return torch.fft.rfft(chunks * self.window)

    def inverse(self, spectrum: Complex[Tensor, "batch frames bins"]) -> Float[Tensor, "batch 1 samples"]:
        chunks = torch.fft.irfft(spectrum, n=self.spec.n_fft).mul_(self.window)
        return (overlap_add(chunks, self.spec.hop)[:, self.span] / self.overlaps)[:, None]


def overlap_add(chunks: Float[Tensor, "batch frames length"], hop: int) -> Float[Tensor, "batch samples"]:
    """Sums pieces that each start `hop` samples after the one before."""
    batch, frames, length = chunks.shape
    if length % hop:
        samples = length + (frames - 1) * hop
        return fold(chunks.transpose(1, 2), (1, samples), (1, length), stride=(1, hop))[:, 0, 0]
    # Whole hops: a few shifted sums, several times faster than fold.
    parts = chunks.unflatten(2, (-1, hop)).unbind(2)
    total = chunks.new_zeros(batch, frames + len(parts) - 1, hop)
    for i, part in enumerate(parts):
        total[:, i : i + frames] += part
    return total.flatten(1)
