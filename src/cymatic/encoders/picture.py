"""Pictures -> condition: a few strided convolutions, then a small transformer over the places of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error
from cymatic.media.picture import PictureSpec
from cymatic.nn.encoder_block import EncoderBlock, attentive_mean
from cymatic.nn.linear import Linear
from cymatic.nn.rotary import RotaryTables, rotary_tables


class PictureConfig(Config):
    """picture: what it reads; halvings: strided convolutions, each of which halves both sides; width, depth, heads,
    dropout: of the transformer; dim: width of a token."""

    kind: Literal["picture"] = "picture"
    picture: PictureSpec = PictureSpec(size=64)
    halvings: int = Field(default=3, ge=1, le=6)
    width: int = Field(default=160, gt=0, le=4096)
    depth: int = Field(default=4, ge=1, le=64)
    heads: int = Field(default=4, gt=0, le=64)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    dim: int = Field(default=192, gt=0, le=8192)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.width % (4 * self.heads):
            raise ValueError(
                f"a width of {self.width} can't be split into {self.heads} heads of a width that 4 divides"
            )
        if self.width % 2 ** (self.halvings - 1):
            raise ValueError(f"a width of {self.width} can't be halved {self.halvings - 1} times for the convolutions")
        if self.picture.size % 2**self.halvings:
            raise ValueError(
                f"pictures of {self.picture.size} pixels can't be halved {self.halvings} times; give a size that "
                f"{2**self.halvings} divides"
            )
        return self

    @property
    def reads(self) -> PictureSpec:
        """What it encodes."""
        return self.picture

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> PictureConfig:
        """Itself: the data decide nothing."""
        return self


class PictureEncoder(nn.Module):
    """Pictures `[batch, channels, size, size]` in 0..1 -> `Cond`: tokens `[batch, places, dim]`, vector `[batch, dim]`.

    A vision transformer (Dosovitskiy et al., 2020, arXiv 2010.11929) whose patches are the places of a convolutional
    stem, which small data need (Xiao et al., 2021, arXiv 2106.14881). Half of each head's numbers are rotated by the
    row of a place and half by its column (Su et al., 2021, arXiv 2104.09864, in two dimensions). The vector is the
    tokens' mean by learned weights (attentive pooling), projected, at unit norm.
    """

    config_class: ClassVar[type[PictureConfig]] = PictureConfig

    def __init__(self, config: PictureConfig) -> None:
        super().__init__()
        self.config = config
        width, halvings = config.width, config.halvings
        widths = [config.picture.shape[0], *(width >> (halvings - 1 - i) for i in range(halvings))]
        self.stem = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        self.blocks = nn.ModuleList(
            EncoderBlock(width, config.heads, dropout=config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(width)
        self.project = Linear(width, config.dim)
        self.weigh = Linear(width, 1, bias=False)
        self.summary = Linear(width, config.dim)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Padded) -> Cond:
        """Raises Error for pictures of another shape."""
        device, shape = self.project.weight.device, self.config.picture.shape
        pictures = batch.values.to(device)
        if pictures.shape[1:] != shape:
            raise Error(
                f"pictures of the shape {list(pictures.shape)} were given; this encoder reads "
                f"[batch, {shape[0]}, {shape[1]}, {shape[2]}]"
            )
        x = 2 * pictures - 1
        for conv in self.stem:
            x = gelu(conv(x))
        rotary = self._rotary(x)
        tokens = x.flatten(2).mT
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
        for block in self.blocks:
            tokens = block(tokens, rotary, mask)
        tokens = self.norm(tokens)
        vector = normalize(self.summary(attentive_mean(tokens, self.weigh(tokens)[..., 0], mask)), dim=-1)
        return Cond(self.project(tokens), mask, vector)

    def _rotary(self, x: Float[Tensor, "batch width rows columns"]) -> RotaryTables:
        """The tables of every place, row by row: half of the angles are its row's, half its column's."""
        rows, columns = (torch.arange(n, device=x.device) for n in x.shape[2:])
        half = self.config.width // self.config.heads // 2
        down, across = rotary_tables(rows, half, base=100.0), rotary_tables(columns, half, base=100.0)
        n, m = len(rows), len(columns)
        cos, sin = (
            torch.cat([of_row.repeat_interleave(m, 0), of_column.repeat(n, 1)], dim=-1)
            for of_row, of_column in zip(down, across, strict=True)
        )
        return cos, sin
