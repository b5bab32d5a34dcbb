"""Numbers as vectors: diffusion times, lengths, positions."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def sinusoids(values: Float[Tensor, "*shape"], dim: int, *, longest: float = 10_000.0) -> Float[Tensor, "*shape dim"]:
    """Sines and cosines of `values` at `dim / 2` wavelengths from 2 pi to `2 pi * longest` (Vaswani et al., 2017)."""
    rates = torch.exp(-math.log(longest) * torch.arange(dim // 2, device=values.device) / (dim // 2))
    angles = values[..., None].float() * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def harmonics(fraction: Float[Tensor, "*shape"], count: int) -> Float[Tensor, "*shape dim"]:
    """A position in 0..1 as `2 * count` numbers: sin and cos of `pi * k * fraction` for k = 1..count."""
    angles = torch.pi * fraction[..., None] * torch.arange(1, count + 1, device=fraction.device)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
