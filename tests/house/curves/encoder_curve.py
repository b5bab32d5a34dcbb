"""Curves -> condition: one token for each stretch of a curve, and their mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import nn
from torch.nn.functional import normalize

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error
from cymatic.media.curve import CurveSpec


class CurveConfig(Config):
    """points: of a curve; stride: of these, how many make a token; dim: width of a token."""

    kind: Literal["curve"] = "curve"
    points: int = Field(default=64, ge=2, le=65_536)
    stride: int = Field(default=8, ge=1, le=1024)
    dim: int = Field(default=192, ge=1, le=8192)

    @property
    def reads(self) -> CurveSpec:
        """What it encodes."""
        return CurveSpec(points=self.points)

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> CurveConfig:
        """Itself: the data decide nothing."""
        return self


class CurveEncoder(nn.Module):
    """Curves `[batch, 1, points]` -> `Cond(tokens [batch, points // stride, dim], mask, vector [batch, dim])`."""

    config_class: ClassVar[type[CurveConfig]] = CurveConfig

    def __init__(self, config: CurveConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Sequential(
            nn.Conv1d(1, config.dim, config.stride, config.stride), nn.GELU(), nn.Conv1d(config.dim, config.dim, 1)
        )

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Padded) -> Cond:
        """Raises Error for curves of another length."""
        curves = batch.values.to(self.tokens[0].weight.device)
        if curves.shape[1:] != self.config.reads.shape:
            raise Error(f"curves {list(curves.shape[1:])} were given; this encoder reads [1, {self.config.points}]")
        tokens = self.tokens(curves).mT
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Cond(tokens, mask, normalize(tokens.mean(1), dim=-1))
