"""What every quantizer gives."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Quantized(NamedTuple):
    """`z`: like what came in, and what the codes stand for, with a straight-through gradient; `codes`: int64, one for
    each place (and level); `losses`: scalars that are weighted already, so that their sum is what to add."""

    z: Tensor
    codes: Tensor
    losses: dict[str, Tensor]
