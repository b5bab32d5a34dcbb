"""The STFT of a `MelSpec` and its least-squares inverse: exactly `frames * hop` samples back."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn.functional import fold

from cymatic.signal.mel import MelSpec, framed


def stft(waveform: Float[Tensor, "batch 1 samples"], spec: MelSpec) -> Complex[Tensor, "batch bins frames"]:
    """Frame i is centred on sample `i * hop + hop / 2`; silence lies beyond both ends."""
    window = torch.hann_window(spec.n_fft, dtype=waveform.dtype, device=waveform.device)
    return torch.stft(
        framed(waveform[:, 0], spec), spec.n_fft, spec.hop, window=window, center=False, return_complex=True
    )


def istft(spectrum: Complex[Tensor, "batch bins frames"], spec: MelSpec) -> Float[Tensor, "batch 1 samples"]:
    """Least-squares inverse of `stft`; `torch.istft` refuses frames that are not centred, as a window ends in 0."""
    frames = spectrum.shape[-1]
    window = torch.hann_window(spec.n_fft, dtype=spectrum.real.dtype, device=spectrum.device)
    # Frames come first, so that each transform reads its bins side by side.
    pieces = torch.fft.irfft(spectrum.transpose(1, 2), n=spec.n_fft, dim=2) * window
    left = (spec.n_fft - spec.hop) // 2
    span = slice(left, left + frames * spec.hop)
    envelope = overlap_add((window * window).expand(1, frames, -1), spec.hop)[:, span]
    return (overlap_add(pieces, spec.hop)[:, span] / envelope.clamp_min(1e-8))[:, None]


def overlap_add(pieces: Float[Tensor, "batch frames length"], hop: int) -> Float[Tensor, "batch samples"]:
    """Sums pieces that each start `hop` samples after the one before."""
    batch, frames, length = pieces.shape
    if length % hop:
        samples = length + (frames - 1) * hop
        return fold(pieces.transpose(1, 2), (1, samples), (1, length), stride=(1, hop))[:, 0, 0]
    # Whole hops: a few shifted sums, several times faster than fold.
    parts = pieces.unflatten(2, (-1, hop)).unbind(2)
    total = pieces.new_zeros(batch, frames + len(parts) - 1, hop)
    for i, part in enumerate(parts):
        total[:, i : i + frames] += part
    return total.flatten(1)
