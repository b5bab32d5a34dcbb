"""Layers over grids `[batch, channels, height, width]`: residual blocks, attention, half and double size.

The building blocks of VQ-GAN's autoencoder (Esser et al., 2021, arXiv 2012.09841) and of the diffusion networks before
it (Ho et al., 2020, arXiv 2006.11239).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, conv_transpose2d, pad, scaled_dot_product_attention, silu

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
        norm, conv = self.norm, self.conv
        if not torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
            return conv(silu(norm(x)))
        return _NormSwishConv.apply(x, norm.weight, norm.bias, conv.weight, conv.bias, norm.num_groups, norm.eps)


class _NormSwishConv(torch.autograd.Function):
    """Keeps `x` alone for the way back, where torch would keep what each of the three read: a third of the memory.

    Norm and swish are cheap beside the convolution, so they are done again.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, gain: Tensor, shift: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float
    ) -> Tensor:
        batch, channels = x.shape[:2]
        y, mean, scale = torch.native_group_norm(x, gain, shift, batch, channels, x[0, 0].numel(), groups, eps)
        ctx.groups = groups
        ctx.save_for_backward(x, gain, shift, weight, mean, scale)
        return conv2d(silu(y, inplace=True), weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, shift, weight, mean, scale = ctx.saved_tensors
        batch, channels = x.shape[:2]
        # The norm as one product and one sum for each channel of each item.
        each = (gain.unflatten(0, (ctx.groups, -1)) * scale[..., None]).flatten(1)
        offset = shift - each * mean.repeat_interleave(channels // ctx.groups, dim=1)
        normed = torch.addcmul(offset[..., None, None], x, each[..., None, None])
        of_y, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, silu(normed), weight, [weight.shape[0]], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True] * 3
        )
        # Into the same memory: fresh memory costs as much as the arithmetic.
        of_normed = torch.ops.aten.silu_backward.grad_input(of_y, normed, grad_input=of_y)
        of_x, of_gain, of_shift = torch.ops.aten.native_group_norm_backward(
            of_normed, x, mean, scale, gain, batch, channels, x[0, 0].numel(), ctx.groups, [True] * 3
        )
        return of_x, of_gain, of_shift, of_weight, of_bias, None, None


class ResidualBlock(nn.Module):
    """`x + conv(swish(norm(conv(swish(norm(x))))))`; where the width changes, x goes through a 1x1 convolution."""

    def __init__(self, inside: int, outside: int, groups: int) -> None:
        super().__init__()
        self.first = NormConv(inside, outside, groups)
        self.second = NormConv(outside, outside, groups)
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Float[Tensor, "batch inside h w"]) -> Float[Tensor, "batch outside h w"]:
        return self.second(self.first(x)).add_(self.shortcut(x))


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
    """Each place becomes four alike, and 3x3 smooths them.

    Of the nine places that the 3x3 sees, many are the same one then: four at most differ. So it is a transposed
    convolution of the small grid, 4x4 at stride 2, with sums of the nine weights: 16 products a place where there were
    36, and the large grid is never read.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Float[Tensor, "batch width h w"]) -> Float[Tensor, "batch width 2*h 2*w"]:
        weight = _spread(_spread(self.conv.weight, 2), 3)
        return conv_transpose2d(x, weight.transpose(0, 1), self.conv.bias, stride=2, padding=1)


def _spread(weight: Tensor, dim: int) -> Tensor:
    """What each place gives to the four around its own two: (a, b, c) -> (c, b + c, a + b, a)."""
    a, b, c = weight.unbind(dim)
    return torch.stack([c, b + c, a + b, a], dim)
