"""How much of a codebook is used, from how often each of its codes was."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from cymatic.errors import Error


def perplexity(counts: Int[Tensor, " size"]) -> float:
    """`exp(-sum p log p)`: how many codes used evenly would be as surprising as these; from 1 to the codebook's size.

    Raises Error where nothing was counted.
    """
    if not counts.any():
        raise Error("no codes were counted, so nothing can be said about their use; give at least one sound")
    shares = counts.double() / counts.sum()
    return float(shares.clamp_min(1e-300).log().mul(shares).sum().neg().exp())


def unused(counts: Int[Tensor, " size"]) -> int:
    """Codes that were never chosen."""
    return int((counts == 0).sum())
