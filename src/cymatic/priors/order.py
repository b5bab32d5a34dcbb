"""The order in which a sequence model reads a grid of codes: an invertible permutation of its places.

An order takes height and width of a grid and gives, for each place of the sequence, where in the grid read row by row
its code stands; `argsort` of that is the way back.

column-major: the column at one time after the other, so that time goes first (Iashin and Rahtu, 2021, arXiv
2110.08791). Code `t * height + f` is the one in row f of column t. Codes of a codec with levels, `[levels, frames]`,
come frame by frame that way.
row-major: as one reads a page, as VQ-GAN, iGPT and DALL-E mini read pictures.
halton: places that follow each other lie far apart, for priors that fill in several at once (Besnier et al., 2025,
arXiv 2503.17076).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from cymatic.errors import Error

OrderName = Literal["column-major", "row-major", "halton"]


def column_major(height: int, width: int) -> Int[Tensor, " n"]:
    """One column after the other, each from row 0 on."""
    return torch.arange(height * width).view(height, width).T.flatten()


def row_major(height: int, width: int) -> Int[Tensor, " n"]:
    """One row after the other, each from column 0 on."""
    return torch.arange(height * width)


def halton(height: int, width: int) -> Int[Tensor, " n"]:
    """The cells in the order in which Halton's sequence of bases 2 (rows) and 3 (columns) first meets them.

    `2^a 3^b` points in a row meet each cell of a grid of 2^a x 3^b once. With 2^a >= 2 height and 3^b >= 2 width each
    cell of ours holds one of those, so that so many points meet them all.
    """
    points = torch.arange(2 ** _digits(2 * height, 2) * 3 ** _digits(2 * width, 3))
    rows, columns = _scaled(points, 2, height), _scaled(points, 3, width)
    cells = rows * width + columns
    first = torch.full((height * width,), len(points)).scatter_reduce(0, cells, points, "amin")
    return first.argsort()


ORDERS: dict[OrderName, Callable[[int, int], Tensor]] = {
    "column-major": column_major,
    "row-major": row_major,
    "halton": halton,
}


def flatten(codes: Int[Tensor, "batch height width"], order: OrderName) -> Int[Tensor, "batch n"]:
    """Grids as sequences."""
    return codes.flatten(1)[:, ORDERS[order](*codes.shape[1:]).to(codes.device)]


def unflatten(sequence: Int[Tensor, "batch n"], order: OrderName, *, height: int) -> Int[Tensor, "batch height width"]:
    """Sequences as grids of that height. Raises Error where the last column would not be full."""
    width, rest = divmod(sequence.shape[1], height)
    if rest:
        raise Error(f"{sequence.shape[1]} codes fill no whole columns of {height}; give a multiple of {height}")
    return sequence[:, ORDERS[order](height, width).argsort().to(sequence.device)].unflatten(1, (height, width))


def _digits(count: int, base: int) -> int:
    """How many digits in `base` it takes to number `count` things."""
    digits = 0
    while base**digits < count:
        digits += 1
    return digits


def _scaled(points: Int[Tensor, " n"], base: int, size: int) -> Int[Tensor, " n"]:
    """`floor(size * v)` of van der Corput's v: the digits of 0, 1, ... in `base`, mirrored at the point.

    In whole numbers, so that no cell is missed by rounding.
    """
    digits = _digits(len(points), base)
    mirrored, rest = torch.zeros_like(points), points
    for _ in range(digits):
        mirrored, rest = mirrored * base + rest % base, rest // base
    return mirrored * size // base**digits
