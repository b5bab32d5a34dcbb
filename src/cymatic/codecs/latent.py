"""What lies between the two halves of every codec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Latent:
    """A batch of encoded signals.

    z: float `[batch, dim, *places]`; codes: int64 `[batch, levels, frames]` for the layout "levels", or `[batch, rows,
    columns]` for "grid", or None where nothing was quantised; lengths: int64 `[batch]`, of the signals, in frames.
    """

    z: Float[Tensor, "batch dim *places"]
    codes: Int[Tensor, "batch high wide"] | None
    lengths: Int[Tensor, " batch"]
    layout: Literal["levels", "grid"]
