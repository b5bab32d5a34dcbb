"""Codes as places of a map: neighbouring codes mean alike, because each vector also moves the codes around its own.

A self-organising map (Kohonen, 1990) inside a quantizer (Fortuin et al., 2019, SOM-VAE, arXiv 1806.02199; Irie et al.,
2023, arXiv 2302.07950). The neighbourhood starts wide, which orders the map as a whole, and narrows while the codebook
learns, which lets each code come to its own vectors.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from cymatic.config import Config


class MapConfig(Config):
    """topology: codes on a line, or row by row on a grid that is as square as their number allows.

    kernel: how much a code learns of what its neighbour at distance d was chosen for: `hard` all of it up to the reach
    r, `gaussian` `exp(-d^2 / 2 r^2)`.
    reach: in codes, at first, or as a share of the longer side where it is below one; it narrows to `least` over the
    first `batches`, by the same factor in each.
    """

    topology: Literal["line", "grid"] = "grid"
    kernel: Literal["hard", "gaussian"] = "gaussian"
    reach: float = Field(default=0.25, gt=0)
    least: float = Field(default=0.5, ge=0.1)
    batches: int = Field(default=2000, gt=0)

    def shape(self, size: int) -> tuple[int, int]:
        """Rows and columns of the map of `size` codes."""
        return (size, 1) if self.topology == "line" else grid(size)

    def radius(self, size: int, batch: int) -> float:
        """How far the neighbourhood reaches in batch number `batch`, in codes."""
        start = self.reach * max(self.shape(size)) if self.reach < 1 else self.reach
        start = max(start, self.least)
        return start * (self.least / start) ** min(1.0, batch / self.batches)


def grid(size: int) -> tuple[int, int]:
    """The rows and columns nearest to a square, rows first: 512 -> (32, 16), 1024 -> (32, 32), 24 -> (6, 4)."""
    columns = next(n for n in range(int(size**0.5), 0, -1) if size % n == 0)
    return size // columns, columns


class Neighbourhood:
    """The kernel over a map of one shape at one radius, the products of one over rows and one over columns."""

    def __init__(self, config: MapConfig, size: int, batch: int, device: torch.device) -> None:
        radius = config.radius(size, batch)
        self.size = size
        self.kernels = [_kernel(config.kernel, side, radius, device) for side in config.shape(size)]

    def spread(self, x: Float[Tensor, "size *dim"]) -> Float[Tensor, "size *dim"]:
        """What belongs to each code, given to its neighbours as well: `y_i = sum over j of kernel(i, j) x_j`."""
        rows, columns = self.kernels
        along = (rows @ x.reshape(len(rows), -1)).view(len(rows), len(columns), -1)
        return (columns @ along).view(x.shape)

    def squares(
        self,
        codebook: Float[Tensor, "size dim"],
        rows: Float[Tensor, "n dim"],
        codes: Int[Tensor, " n"],
    ) -> Float[Tensor, ""]:
        """`|e_j - x|^2`, a mean over numbers and over the codes j around the row's own, each as the kernel weighs it,
        and a sum over rows.

        With H, S and Q the weights, weighted rows and their squares as they are spread, that is `sum of H |e|^2 - 2 e S
        + Q`, so no row meets each of its neighbours alone.
        """
        ones = rows.new_ones(self.size)
        mass = (1 / self.spread(ones))[codes]
        weights = self.spread(torch.zeros_like(ones).index_add_(0, codes, mass))
        sums = self.spread(rows.new_zeros(codebook.shape).index_add_(0, codes, rows * mass[:, None]))
        spread = (weights * codebook.square().sum(-1)).sum() - 2 * (codebook * sums).sum() + rows.square().sum()
        return spread / rows.shape[-1]


def _kernel(kind: str, side: int, radius: float, device: torch.device) -> Tensor:
    places = torch.arange(side, dtype=torch.float32, device=device)
    distance = (places[:, None] - places).abs()
    return (distance <= radius).float() if kind == "hard" else (-(distance**2) / (2 * radius**2)).exp()
