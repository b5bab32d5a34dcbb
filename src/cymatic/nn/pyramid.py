"""Grids to a coarse grid of vectors and back: the two halves of VQ-GAN's autoencoder (Esser et al., 2021, arXiv
2012.09841), for spectrograms (one channel) and pictures (three)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Self

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import silu

from cymatic.config import Config
from cymatic.nn.grid import Double, GridAttention, Halve, NormConv, ResidualBlock


class PyramidShape(Config):
    """The size of both halves.

    width, multiples: level i has `width * multiples[i]` channels; between levels both sides are halved.
    blocks: residual blocks a level on the way down, one more on the way up.
    attention: levels whose blocks are each followed by attention over the grid; there is always one in the middle.
    latent: channels of the coarse grid.
    patch: (height, width) that is folded into channels before the first level, so that a small network is fast.
    groups: of the norms, or as many of them as a width can make.
    """

    width: int = Field(default=128, gt=0, le=4096)
    multiples: tuple[int, ...] = Field(default=(1, 1, 2, 2, 4), min_length=1, max_length=8)
    blocks: int = Field(default=2, gt=0, le=16)
    attention: tuple[int, ...] = ()
    latent: int = Field(default=256, gt=0, le=8192)
    patch: tuple[int, int] = (1, 1)
    groups: int = Field(default=32, gt=0, le=1024)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if min(self.multiples) < 1 or max(self.multiples) > 64:
            raise ValueError(f"multiples are 1 to 64, and these are {self.multiples}")
        if any(not 0 <= level < len(self.multiples) for level in self.attention):
            raise ValueError(f"attention {self.attention} names a level beyond 0 to {len(self.multiples) - 1}")
        if not all(1 <= side <= 64 for side in self.patch):
            raise ValueError(f"the sides of a patch are 1 to 64, and these are {self.patch}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.width * multiple for multiple in self.multiples)

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width of the part of the input that one place of the coarse grid stands for."""
        halves: int = 2 ** (len(self.multiples) - 1)
        return self.patch[0] * halves, self.patch[1] * halves


def fold(x: Float[Tensor, "batch channels h w"], patch: tuple[int, int]) -> Float[Tensor, "batch folded _ _"]:
    """Each patch becomes one place with `channels * height * width` channels."""
    if patch == (1, 1):
        return x
    high, wide = patch
    return x.unflatten(-1, (-1, wide)).unflatten(-3, (-1, high)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def unfold(x: Float[Tensor, "batch folded h w"], patch: tuple[int, int]) -> Float[Tensor, "batch channels _ _"]:
    """The inverse of `fold`."""
    if patch == (1, 1):
        return x
    high, wide = patch
    return x.unflatten(1, (-1, high, wide)).permute(0, 1, 4, 2, 5, 3).flatten(-2).flatten(-3, -2)


class Level(nn.Module):
    """Residual blocks, each followed by attention where there is any."""

    def __init__(self, inside: int, outside: int, blocks: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(ResidualBlock(outside if i else inside, outside, groups) for i in range(blocks))
        self.attention = nn.ModuleList(GridAttention(outside, groups) for _ in range(blocks if attention else 0))

    def forward(self, x: Float[Tensor, "batch inside h w"]) -> Float[Tensor, "batch outside h w"]:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if self.attention:
                x = self.attention[i](x)
        return x


class Middle(nn.Sequential):
    """Block, attention, block, at the coarsest level."""

    def __init__(self, width: int, groups: int) -> None:
        blocks = [ResidualBlock(width, width, groups) for _ in range(2)]
        super().__init__(blocks[0], GridAttention(width, groups), blocks[1])


class Down(nn.Module):
    """`[batch, channels, h, w]`, both sides whole cells -> `[batch, latent, h / cell, w / cell]`."""

    def __init__(self, shape: PyramidShape, channels: int) -> None:
        super().__init__()
        widths, groups = shape.widths, shape.groups
        self.patch = shape.patch
        self.read = nn.Conv2d(channels * math.prod(shape.patch), shape.width, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(before, after, shape.blocks, groups, i in shape.attention)
            for i, (before, after) in enumerate(pairwise((shape.width, *widths)))
        )
        self.halvings = nn.ModuleList(Halve(width) for width in widths[:-1])
        self.middle = Middle(widths[-1], groups)
        self.write = NormConv(widths[-1], shape.latent, groups)

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch latent _ _"]:
        x = self.read(fold(x, self.patch))
        for i, level in enumerate(self.levels):
            x = level(x)
            if i < len(self.halvings):
                x = self.halvings[i](x)
        return self.write(self.middle(x))


class Up(nn.Module):
    """`[batch, latent, h, w]` -> `[batch, channels, h * cell, w * cell]`; the mirror of `Down`."""

    def __init__(self, shape: PyramidShape, channels: int) -> None:
        super().__init__()
        widths, groups = shape.widths, shape.groups
        self.patch = shape.patch
        self.read = nn.Conv2d(shape.latent, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], groups)
        # As on the way down, level 0 is the finest; `forward` walks them backwards.
        self.levels = nn.ModuleList(
            Level(before, after, shape.blocks + 1, groups, i in shape.attention)
            for i, (after, before) in enumerate(pairwise((*widths, widths[-1])))
        )
        self.doublings = nn.ModuleList(Double(width) for width in widths[1:])
        self.write = NormConv(widths[0], channels * math.prod(shape.patch), groups)

    @property
    def last(self) -> nn.Parameter:
        """The weights that every gradient of the output goes through first."""
        return self.write.conv.weight  # type: ignore[return-value]

    def forward(self, z: Float[Tensor, "batch latent h w"]) -> Float[Tensor, "batch channels _ _"]:
        x = self.middle(self.read(z))
        for i in reversed(range(len(self.levels))):
            x = self.levels[i](x)
            if i:
                x = self.doublings[i - 1](x)
        # Step by step, so that a gradient at the last weights alone, as the adaptive weight wants it, costs no more.
        return unfold(self.write.conv(silu(self.write.norm(x))), self.patch)
