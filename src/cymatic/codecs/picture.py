"""Pictures -> a coarse grid of codes, or of vectors -> pictures: VQ-GAN (Esser et al., 2021, arXiv 2012.09841).

Without a quantizer it is a plain autoencoder, whose latents a diffusion prior or a flow is trained over (Rombach et
al., 2022, arXiv 2112.10752).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.codecs.grid import GridCodec, PlaceQuantizerConfig
from cymatic.codecs.squares import check_latent, check_squares, signal_to_noise
from cymatic.errors import ModelError
from cymatic.latent import Latent, Reconstruction
from cymatic.media.picture import PictureSpec
from cymatic.nn.grid import Norm
from cymatic.nn.pyramid import PyramidShape
from cymatic.nn.trained import refuse_untrained


class PictureCodecConfig(PyramidShape):
    """A size, the pictures that it is for, and a quantizer that gives one code for each place; None: no codes.

    A place stands for `cell` pixels: with `multiples` of three levels and no patch 4 x 4, with four 8 x 8.
    decoder_only, norm_eps: of published weights, some of which came without an encoder, and what their norms add to a
    variance.
    """

    kind: Literal["picture"] = "picture"
    picture: PictureSpec = PictureSpec(size=64)
    quantizer: PlaceQuantizerConfig | None = None
    decoder_only: bool = False
    norm_eps: float = Field(default=1e-6, gt=0, le=1e-2)

    @model_validator(mode="after")
    def _whole_cells(self) -> Self:
        high, wide = self.cell
        if self.picture.size % high or self.picture.size % wide:
            raise ValueError(
                f"a place stands for {high} x {wide} pixels, and pictures of {self.picture.size} are no whole number "
                "of these; give another size, multiples or patch"
            )
        return self

    @property
    def reads(self) -> PictureSpec:
        """What it encodes."""
        return self.picture

    @property
    def gives(self) -> PictureSpec:
        """What it decodes to."""
        return self.picture

    @property
    def names_its_spec(self) -> bool:
        """Whether the pictures were given, and are not the default."""
        return "picture" in self.model_fields_set

    def reading(self, spec: PictureSpec) -> PictureCodecConfig:
        """The same for other pictures."""
        return PictureCodecConfig(**{**dict(self), "picture": spec})


class PictureCodec(GridCodec):
    """Pictures `[batch, channels, size, size]` in 0..1 -> codes `[batch, rows, columns]` -> pictures.

    The network reads and gives -1..1. The number of steps is saved with the weights; a codec of 0 steps refuses to
    work outside of training.
    """

    config_class: ClassVar[type[PictureCodecConfig]] = PictureCodecConfig
    use: ClassVar[str | None] = "use it: cymatic reconstruct in.png -o out.png --model {run}"

    def __init__(self, config: PictureCodecConfig) -> None:
        super().__init__(config, channels=config.picture.shape[0], encodes=not config.decoder_only)
        for layer in self.modules():
            if isinstance(layer, Norm):
                layer.eps = config.norm_eps

    @property
    def whitened(self) -> bool:
        """A latent without codes may be drawn towards a white one, which is easier for a prior over it."""
        return self.quantizer is None

    @property
    def rows(self) -> int:
        """Places in a column."""
        return int(self.config.picture.size // self.config.cell[0])

    def distance(
        self, made: Float[Tensor, "batch channels size size"], wanted: Float[Tensor, "batch channels size size"]
    ) -> Float[Tensor, ""]:
        """The mean absolute difference of two pictures, in 0..1."""
        return (made - wanted).abs().mean()

    def readings(
        self, made: Float[Tensor, "batch channels size size"], wanted: Float[Tensor, "batch channels size size"]
    ) -> Mapping[str, Float[Tensor, ""]]:
        """`psnr`, see `squares.signal_to_noise`."""
        return {"psnr": signal_to_noise(made, wanted)}

    def forward(
        self,
        pictures: Float[Tensor, "batch channels size size"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
    ) -> Reconstruction:
        """A step of training; both pictures of the result are in -1..1. `generator` and `shard` are the quantizer's."""
        self._check_encoder()
        wanted = 2 * pictures - 1
        latent = self.to_codes(self.encoder(wanted))
        if self.quantizer is None:
            return Reconstruction(wanted, self.decoder(latent), latent, None)
        quantized = self.quantizer(latent, generator, shard=shard)
        quantized = quantized._replace(codes=self._as_grid(quantized.codes))
        return Reconstruction(wanted, self.decoder(self.from_codes(quantized.z)), latent, quantized)

    reconstruct = forward  # as vocoders call it, whose `forward` reads mels

    @torch.no_grad()
    def latent(self, pictures: Float[Tensor, "batch channels size size"]) -> Float[Tensor, "batch dim rows columns"]:
        """What the quantizer reads. Raises ModelError where the codec was never trained, Error for another size."""
        refuse_untrained(self, allow=self.training)
        self._check_encoder()
        check_squares(pictures, None, self.config.picture)
        z: Tensor = self.to_codes(self.encoder(2 * pictures - 1))
        return z

    @torch.no_grad()
    def encode(
        self, pictures: Float[Tensor, "batch channels size size"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Latent:
        """Codes and their vectors; without a quantizer the latents alone.

        `lengths` are the widths, which are all the same. Raises as `latent`, and Error for other lengths.
        """
        widths = check_squares(pictures, lengths, self.config.picture)
        z, codes = self.latent(pictures), None
        if self.quantizer is not None:
            codes = self.nearest_codes(z)
            z = self.lookup(codes)
        return Latent(z, codes, widths, "grid")

    def _check_encoder(self) -> None:
        if self.config.decoder_only:
            raise ModelError("this codec only decodes, since its weights came without an encoder; give another codec")

    def decode(self, latent: Latent) -> Float[Tensor, "batch channels size size"]:
        """Pictures in 0..1. A latent without codes, such as a prior over latents makes, is quantised first where the
        codec has a quantizer.

        Raises ModelError where the codec was never trained, and Error for a latent of another layout or size.
        """
        refuse_untrained(self, allow=self.training)
        z, size = latent.z, self.config.picture.size
        check_latent(latent, (self.dim, self.rows, self.columns(size)), size)
        if latent.codes is None and self.quantizer is not None:
            z = self.lookup(self.nearest_codes(z))
        made: Tensor = self.decoder(self.from_codes(z.contiguous()))
        return ((made + 1) / 2).clamp(0, 1)


def vqgan_f16() -> PyramidShape:
    """The size of VQ-GAN's published weights for 256 px, DALL-E mini's too: one code for 16 x 16 pixels, attention at
    16 px. They have 1,024 or 16,384 codes of 256 numbers."""
    return PyramidShape(width=128, multiples=(1, 1, 2, 2, 4), blocks=2, attention=(4,), latent=256)
