"""Rotary positions (Su et al., 2021, arXiv 2104.09864)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

RotaryTables = tuple[Tensor, Tensor]  # cosines and sines, `[n, dim / 2]` each


def rotary_tables(positions: Int[Tensor, " n"], dim: int, *, base: float = 10_000.0) -> RotaryTables:
    """Cosines and sines of the angle by which each pair of a head's `dim` numbers is rotated at each position.

    They are computed once for all blocks.
    """
    rates = base ** (-torch.arange(dim // 2, device=positions.device, dtype=torch.float32) / (dim // 2))
    angles = positions[:, None].float() * rates
    return angles.cos(), angles.sin()


def axial_tables(places: Int[Tensor, "n 2"], dim: int, *, base: float = 100.0) -> RotaryTables:
    """The same for places of a grid: a half of the pairs turns with the row, and a half with the column.

    dim: a multiple of 4. base: a grid has tens of rows where a text has thousands of words (Heo et al., 2024, arXiv
    2403.13298).
    """
    halves = [rotary_tables(places[:, axis], dim // 2, base=base) for axis in (0, 1)]
    return torch.cat([cos for cos, _ in halves], dim=1), torch.cat([sin for _, sin in halves], dim=1)


def rotate(x: Float[Tensor, "batch heads n dim"], rotary: RotaryTables) -> Float[Tensor, "batch heads n dim"]:
    """Queries or keys rotated by their positions, so that their products depend on distances only."""
    cos, sin = rotary[0].to(x.dtype), rotary[1].to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
