"""A curve -> a row of codes -> the curve: strided convolutions around a finite scalar quantizer (FSQ)."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.config import Config
from cymatic.latent import Latent, Reconstruction
from cymatic.media.curve import CurveSpec
from cymatic.nn.autoencoder import Autoencoder
from cymatic.nn.trained import refuse_untrained
from cymatic.quantizers.finite import FiniteScalarQuantizer, FiniteScalarQuantizerConfig


class CurveCodecConfig(Config):
    """points: of a curve; stride: of these, how many stand in one code; width: channels."""

    kind: Literal["curve"] = "curve"
    points: int = Field(default=64, ge=2, le=65_536)
    stride: int = Field(default=8, ge=1, le=1024)
    width: int = Field(default=32, ge=1, le=4096)
    quantizer: FiniteScalarQuantizerConfig = FiniteScalarQuantizerConfig(dim=32)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.points % self.stride:
            raise ValueError(f"{self.points} points are no whole number of codes of {self.stride}")
        if self.quantizer.dim != self.width or self.quantizer.levels != 1:
            raise ValueError(f"the quantizer has to read {self.width} channels and give one level of codes")
        return self

    @property
    def reads(self) -> CurveSpec:
        """What it encodes."""
        return CurveSpec(points=self.points)

    @property
    def gives(self) -> CurveSpec:
        """What it decodes to."""
        return self.reads

    @property
    def names_its_spec(self) -> bool:
        """Its own, whatever the data: they are files, and become what it reads."""
        return True


class CurveCodec(Autoencoder):
    """Curves `[batch, 1, points]` -> codes `[batch, 1, points / stride]` -> curves. A codec of 0 steps refuses to work
    outside of training."""

    config_class: ClassVar[type[CurveCodecConfig]] = CurveCodecConfig
    steps_trained: Tensor

    def __init__(self, config: CurveCodecConfig) -> None:
        super().__init__()
        self.config = config
        width, stride = config.width, config.stride
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.encoder = nn.Sequential(
            nn.Conv1d(1, width, stride, stride), nn.GELU(), nn.Conv1d(width, width, 3, padding=1)
        )
        self.quantizer = FiniteScalarQuantizer(config.quantizer)
        self.decoder = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1), nn.GELU(), nn.ConvTranspose1d(width, 1, stride, stride)
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes there are: in a column lies one."""
        return self.quantizer.sizes

    @property
    def cell(self) -> int:
        """Points of a column."""
        return self.config.stride

    def columns(self, length: int) -> int:
        """Columns that cover `length` points."""
        return -(-length // self.cell)

    def length(self, columns: int) -> int:
        """Points of so many columns."""
        return columns * self.cell

    def reconstruct(
        self,
        curves: Float[Tensor, "batch 1 points"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
    ) -> Reconstruction:
        """A step of training."""
        latent = self.encoder(curves)
        quantized = self.quantizer(latent, generator, shard=shard)
        return Reconstruction(curves, self.decoder(quantized.z), latent, quantized)

    @torch.no_grad()
    def encode(self, curves: Float[Tensor, "batch 1 points"], lengths: Int[Tensor, " batch"] | None = None) -> Latent:
        """All curves are as long. Raises ModelError where the codec was never trained."""
        refuse_untrained(self, allow=self.training)
        codes = self.quantizer.encode(self.encoder(curves))
        return Latent(self.quantizer.lookup(codes), codes, torch.full((len(curves),), curves.shape[-1]), "grid")

    def decode(self, latent: Latent) -> Float[Tensor, "batch 1 points"]:
        """Raises ModelError where the codec was never trained."""
        refuse_untrained(self, allow=self.training)
        return self.decoder(latent.z)

    def decode_codes(
        self, codes: Int[Tensor, "batch 1 columns"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch 1 points"]:
        """The curves that the codes stand for. Raises ModelError where the codec was never trained."""
        refuse_untrained(self, allow=self.training)
        return self.decoder(self.quantizer.lookup(codes))

    def distance(
        self, made: Float[Tensor, "batch 1 points"], wanted: Float[Tensor, "batch 1 points"]
    ) -> Float[Tensor, ""]:
        """The mean absolute difference."""
        return (made - wanted).abs().mean()
