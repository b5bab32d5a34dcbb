"""The order in which a sequence model reads a grid of codes: column by column, so time goes first.

Code `t * rows + f` of the sequence is the one in row f of column t (Iashin and Rahtu, 2021, arXiv 2110.08791).
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from cymatic.errors import Error


def column_major(rows: int, columns: int) -> Int[Tensor, " n"]:
    """The permutation itself: where in a grid read row by row the codes of the sequence stand; `argsort` undoes it."""
    return torch.arange(rows * columns).unflatten(0, (rows, columns)).T.flatten()


def flatten(codes: Int[Tensor, "batch rows columns"]) -> Int[Tensor, "batch n"]:
    """A grid as a sequence."""
    return codes.mT.flatten(1)


def unflatten(codes: Int[Tensor, "batch n"], rows: int) -> Int[Tensor, "batch rows columns"]:
    """A sequence as a grid of `rows`. Raises Error where the last column would not be full."""
    if codes.shape[1] % rows:
        raise Error(f"{codes.shape[1]} codes fill no whole columns of {rows}; give a multiple of {rows}")
    return codes.unflatten(1, (codes.shape[1] // rows, rows)).mT
