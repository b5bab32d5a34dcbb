"""What codecs and vocoders have in common where they don't say otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor, nn


class Autoencoder(nn.Module):
    """A module with `encode`, `decode`, `reconstruct`, `distance`, `columns`, `length` and `cell` of its own.

    layout: how its codes lie, see `latent.Latent`. dim: numbers of its latent at a place of a grid. sizes: how many
    codes each level has to choose from; empty without codes. min_levels: the fewest levels that decode. whitened:
    whether training may pull the latent towards a white one. decoder_stages: modules whose outputs may be compared with
    the target. last: the weights through which all of the output comes, for VQ-GAN's adaptive weight. kept_in_shards:
    whether its codes are kept in `.cym` files and shards. kept_half: whether it loses nothing by being kept in half
    precision. is_model: whether it is a model by itself, and use: the command that uses it then, with {run} in the
    place of its folder.
    """

    layout: ClassVar[Literal["levels", "grid"]] = "grid"
    dim: Any = None
    sizes: Any = ()
    min_levels: Any = 1
    whitened: Any = False
    decoder_stages: Any = ()
    last: Any = None
    kept_in_shards: ClassVar[bool] = False
    kept_half: ClassVar[bool] = False
    is_model: ClassVar[bool] = True
    use: ClassVar[str | None] = None
    config: Any
    encode: Any
    steps_trained: Tensor | int

    @property
    def rows(self) -> int:
        """Codes in a column."""
        return len(self.sizes)

    def latent(self, targets: Tensor) -> Tensor:
        """What a prior over latents learns of a batch; here, what `encode` gives."""
        z: Tensor = self.encode(targets).z
        return z

    def fit_statistics(self, targets: Sequence[Tensor]) -> None:
        """Takes over what the targets to train on are like; here, nothing."""

    def readings(self, made: Tensor, wanted: Tensor) -> Mapping[str, Tensor]:
        """What else says how near a reconstruction is, by name, beside `distance`; here, nothing."""
        return {}

    def matrices(self) -> list[nn.Parameter]:
        """The weights that take Muon's steps; here, none."""
        return []
