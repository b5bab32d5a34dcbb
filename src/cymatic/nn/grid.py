"""Layers over grids `[batch, channels, height, width]`: residual blocks, attention, half and double size.

The building blocks of VQ-GAN's autoencoder (Esser et al., 2021, arXiv 2012.09841) and of the diffusion networks before
it (Ho et al., 2020, arXiv 2006.11239).
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu

from cymatic.nn.linear import Linear


class Norm(nn.GroupNorm):
    """Group norm (Wu and He, 2018, arXiv 1803.08494) with as many of `groups` groups as the channels can make."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(math.gcd(channels, groups), channels, eps=1e-6)


class NormConv(nn.Module):
    """`conv3x3(swish(norm(x)))`: what residual blocks are made of."""

    def __init__(self, inside: int, outside: int, groups: int) -> None:
        super().__init__()
        self.norm = Norm(inside, groups)
        self.conv = nn.Conv2d(inside, outside, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch inside h w"]) -> Float[Tensor, "batch outside h w"]:
        return self.conv(silu(self.norm(x)))


class ResidualBlock(nn.Module):
    """`x + conv(swish(norm(conv(swish(norm(x))))))`; where the width changes, x goes through a 1x1 convolution."""

    def __init__(self, inside: int, outside: int, groups: int) -> None:
        super().__init__()
        self.first = NormConv(inside, outside, groups)
        self.second = NormConv(outside, outside, groups)
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Float[Tensor, "batch inside h w"]) -> Float[Tensor, "batch outside h w"]:
        return self.shortcut(x) + self.second(self.first(x))


class GridAttention(nn.Module):
    """Each place looks at all others: one head, no positions, `x + out(attention(norm(x)))`."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = Norm(width, groups)
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, width)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h w"]:
        places = self.norm(x).flatten(2).mT
        q, k, v = self.qkv(places)[:, None].chunk(3, dim=-1)
        seen = self.out(scaled_dot_product_attention(q, k, v)[:, 0])
        return x + seen.mT.unflatten(-1, x.shape[-2:])


class Halve(nn.Module):
    """3x3 at every second place; the zeros that it needs stand below and to the right only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width h/2 w/2"]:
        return self.conv(pad(x, (0, 1, 0, 1)))


class Double(nn.Module):
    """Each place becomes four alike, and 3x3 smooths them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width 2*h 2*w"]:
        return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
