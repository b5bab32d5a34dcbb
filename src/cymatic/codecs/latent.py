"""What lies between the two halves of every codec, and what a step of training gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from cymatic.quantizers.quantized import Quantized


@dataclass(frozen=True)
class Latent:
    """A batch of encoded signals.

    z: float `[batch, dim, *places]`; codes: int64 `[batch, levels, columns]` for the layout "levels", or `[batch, rows,
    columns]` for "grid", or None where nothing was quantised; lengths: int64 `[batch]`, of the signals, in their own
    unit (samples of a waveform, frames of a mel): an item's own columns are `codec.columns(length)`.
    """

    z: Float[Tensor, "batch dim *places"]
    codes: Int[Tensor, "batch high wide"] | None
    lengths: Int[Tensor, " batch"]
    layout: Literal["levels", "grid"]


class Reconstruction(NamedTuple):
    """What a codec in training was given and made of it, in the units that its loss is taken in, and what lay between
    them: before it was quantised, and after."""

    wanted: Float[Tensor, "batch *signal"]
    made: Float[Tensor, "batch *signal"]
    latent: Float[Tensor, "batch dim *places"]
    quantized: Quantized
