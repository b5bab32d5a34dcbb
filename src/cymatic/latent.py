"""What lies between the two halves of an autoencoder, and what a step of its training gives.

Codecs are autoencoders, and so are vocoders, whose first half is the mel. Below both families.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from cymatic.config import Config
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


@dataclass(frozen=True)
class TargetFacts:
    """What the data and other parts decide about a target, and no recipe can know.

    spec: what it is read as (a MelSpec, a WaveSpec, ...); sizes: of codes, how many each row or level has to choose
    from; longest: length of the longest, in frames or columns; shape: of latents, channels, rows and columns; cond_dim:
    width of the condition.
    """

    spec: Config
    sizes: tuple[int, ...] = ()
    longest: int = 0
    shape: tuple[int, ...] = ()
    cond_dim: int | None = None

    @property
    def rows(self) -> int:
        """Codes in a column."""
        return len(self.sizes)


class Reconstruction(NamedTuple):
    """What an autoencoder in training was given and made of it, in the units that its loss is taken in, and what lay
    between them: before it was quantised, and after; None where nothing is."""

    wanted: Float[Tensor, "batch *signal"]
    made: Float[Tensor, "batch *signal"]
    latent: Float[Tensor, "batch dim *places"]
    quantized: Quantized | None
