"""What codecs of one grid share, a spectrogram's and a picture's: VQ-GAN's two halves around a quantizer.

Esser et al. (2021, arXiv 2012.09841).
"""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from jaxtyping import Float, Int
from pydantic import AfterValidator, BeforeValidator
from torch import Tensor, nn

from cymatic.errors import ModelError
from cymatic.latent import Latent
from cymatic.nn.autoencoder import Autoencoder
from cymatic.nn.pyramid import Down, Up
from cymatic.quantizers import GridQuantizer, GridQuantizerConfig, build_quantizer
from cymatic.quantizers.vector import VectorQuantizerConfig


def _vector_by_default(values: Any) -> Any:
    return {"kind": "vector", **values} if isinstance(values, dict) else values


def _one_code_a_place(config: Any) -> Any:
    if not isinstance(config, VectorQuantizerConfig) and config.levels != 1:
        raise ValueError(f"a place of a grid has one code, and the quantizer gives {config.levels} levels")
    return config


PlaceQuantizerConfig = Annotated[
    GridQuantizerConfig, BeforeValidator(_vector_by_default), AfterValidator(_one_code_a_place)
]


class GridCodec(Autoencoder):
    """A pyramid down, a quantizer with one code for each place (or none), and a pyramid up.

    `config` is a `PyramidShape` with a `quantizer`, None for a codec without codes, whose latent has
    `config.latent` numbers a place. Without `encodes` there is no way down, as in weights that were published for
    decoding alone.
    """

    steps_trained: Tensor

    def __init__(self, config: Any, *, channels: int, encodes: bool = True) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.encoder: nn.Module = Down(config, channels) if encodes else nn.Identity()
        self.quantizer: GridQuantizer | None = None
        self.to_codes: nn.Module = nn.Identity()
        self.from_codes: nn.Module = nn.Identity()
        if config.quantizer is not None:
            self.to_codes = nn.Conv2d(config.latent, config.quantizer.dim, 1) if encodes else nn.Identity()
            self.quantizer = cast(GridQuantizer, build_quantizer(config.quantizer))
            self.from_codes = nn.Conv2d(config.quantizer.dim, config.latent, 1)
        self.decoder = Up(config, channels)

    @property
    def dim(self) -> int:
        """Numbers of the latent at a place."""
        return int(self.config.latent if self.quantizer is None else self.config.quantizer.dim)

    @property
    def size(self) -> int:
        """Codes in the codebook; 0 without one."""
        return 0 if self.quantizer is None else int(self.quantizer.sizes[0])

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each row has to choose from; empty without codes."""
        return () if self.quantizer is None else (self.size,) * self.rows

    @property
    def cell(self) -> int:
        """Steps along the last dimension of a column: frames or pixels."""
        return int(self.config.cell[1])

    def columns(self, length: int) -> int:
        """Columns that cover `length` steps."""
        return -(-length // self.cell)

    def length(self, columns: int) -> int:
        """Steps that `columns` columns cover."""
        return columns * self.cell

    @property
    def last(self) -> nn.Parameter:
        """The decoder's last weights, at which the adaptive weight compares gradients."""
        return self.decoder.last

    def matrices(self) -> list[nn.Parameter]:
        """The 3 x 3 convolutions inside both halves, for Muon; the last one is left out."""
        return [
            cast(nn.Parameter, layer.weight)
            for half in (self.encoder, self.decoder)
            for layer in half.modules()
            if isinstance(layer, nn.Conv2d) and layer.weight is not self.last and layer.kernel_size == (3, 3)
        ]

    def decode(self, latent: Latent) -> Float[Tensor, "batch *signal"]:
        """Signals of a latent."""
        raise NotImplementedError

    def decode_codes(
        self, codes: Int[Tensor, "batch rows columns"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch *signal"]:
        """The signals of `lengths` steps that the codes stand for, or of as many as there are.

        Raises Error for codes beyond the codebook, and as `decode` and `lookup`.
        """
        if lengths is None:
            lengths = torch.full((len(codes),), self.length(codes.shape[-1]), device=codes.device)
        return self.decode(Latent(self.lookup(codes), codes, lengths, "grid"))

    def lookup(self, codes: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch dim rows columns"]:
        """The vectors that codes stand for. Raises Error for codes beyond the codebook, and ModelError for a codec
        without codes."""
        quantizer = self._quantizer()
        return quantizer.lookup(codes[:, None] if quantizer.has_levels else codes)

    def nearest_codes(self, z: Float[Tensor, "batch dim rows columns"]) -> Int[Tensor, "batch rows columns"]:
        """The codes of latents. Raises ModelError for a codec without codes."""
        return self._as_grid(self._quantizer().encode(z))

    def _quantizer(self) -> GridQuantizer:
        if self.quantizer is None:
            raise ModelError("this codec has no codes but continuous latents; give one with a quantizer")
        return self.quantizer

    def _as_grid(self, codes: Tensor) -> Tensor:
        """One code a place, without the quantizer's axis of levels where it has one."""
        return codes[:, 0] if self._quantizer().has_levels else codes
