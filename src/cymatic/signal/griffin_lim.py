"""Griffin-Lim: a waveform whose spectrogram is close to the one wanted. No learned parameter."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.signal.mel import MelSpec, filterbank, to_magnitude
from cymatic.signal.stft import istft, stft


@lru_cache(maxsize=16)
def _inverse_filterbank(spec: MelSpec) -> Float[Tensor, "bins mels"]:
    return torch.linalg.pinv(torch.from_numpy(filterbank(spec)).double()).float()


def magnitude_from_mel(
    mel: Float[Tensor, "batch mels frames"], spec: MelSpec, *, rounds: int = 60
) -> Float[Tensor, "batch bins frames"]:
    """The non-negative STFT magnitude whose mel is nearest to `mel`.

    Starts from the pseudo-inverse and refines by Lee and Seung's multiplicative update for non-negative least squares
    (2001): `s <- s * (F' m) / (F' F s)`.
    """
    filters = torch.from_numpy(filterbank(spec)).to(mel)
    target = to_magnitude(mel, spec)
    magnitude = (_inverse_filterbank(spec).to(mel) @ target).clamp_min(spec.floor)
    wanted = filters.T @ target
    gram = filters.T @ filters
    for _ in range(rounds):
        magnitude = magnitude * wanted / (gram @ magnitude).clamp_min(1e-12)
    return magnitude


def griffin_lim(
    magnitude: Float[Tensor, "batch bins frames"], spec: MelSpec, *, rounds: int = 60, momentum: float = 0.99
) -> Float[Tensor, "batch 1 samples"]:
    """STFT magnitude -> waveform of exactly `frames * hop` samples, the same every time.

    Alternates between the wanted magnitude and a consistent STFT (Griffin and Lim, 1984), accelerated by extrapolating
    the consistent one: `t_n = P(c_{n-1}); c_n = t_n + momentum * (t_n - t_{n-1})` (Perraudin, Balazs and Soendergaard,
    2013). Phases start from a fixed seed, drawn for each frame alike in every item, so a batch equals its items.
    """
    bins, frames = magnitude.shape[1:]
    generator = torch.Generator().manual_seed(0)
    # Drawn frame by frame, so that the phases of a frame do not depend on how many follow.
    angles = 2 * torch.pi * torch.rand(frames, bins, generator=generator).T.to(magnitude)
    spectrum = torch.polar(magnitude, angles.expand_as(magnitude).contiguous())
    previous = torch.zeros_like(spectrum)
    for _ in range(rounds):
        consistent = stft(istft(spectrum, spec), spec)
        ahead = consistent + momentum * (consistent - previous)
        previous = consistent
        spectrum = magnitude * ahead / ahead.abs().clamp_min(1e-16)
    return istft(spectrum, spec)
