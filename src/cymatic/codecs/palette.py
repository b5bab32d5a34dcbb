"""A picture as one colour of a palette for each pixel (Chen et al., 2020, iGPT, "Generative Pretraining from Pixels").

The palette is what k-means finds in the pixels trained on (Lloyd, 1982, from the seeds of k-means++, Arthur and
Vassilvitskii, 2007). iGPT has 512 colours: 9 bits a pixel instead of 24, and one code where there were three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.codecs.squares import check_latent, check_squares, signal_to_noise
from cymatic.config import Config
from cymatic.latent import Latent, Reconstruction
from cymatic.media.picture import PictureSpec
from cymatic.nn.autoencoder import Autoencoder
from cymatic.nn.trained import refuse_untrained
from cymatic.quantizers.learning import nearest
from cymatic.quantizers.vector import VectorQuantizer, VectorQuantizerConfig


class PaletteCodecConfig(Config):
    """The pictures that it is for, and how many colours they are made of.

    sample: pixels that the palette is found in, as many of each picture; rounds: of Lloyd's; seed: of which pixels and
    which first colours.
    """

    kind: Literal["palette"] = "palette"
    picture: PictureSpec = PictureSpec(size=32)
    colours: int = Field(default=512, gt=1, le=65_536)
    sample: int = Field(default=100_000, gt=0, le=2**24)
    rounds: int = Field(default=20, ge=0, le=1000)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _no_alpha(self) -> Self:
        if self.picture.alpha:
            raise ValueError("a palette has colours and no alpha; leave picture.alpha out")
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

    def reading(self, spec: PictureSpec) -> PaletteCodecConfig:
        """The same for other pictures."""
        return PaletteCodecConfig(**{**dict(self), "picture": spec})


class PaletteCodec(Autoencoder):
    """Pictures `[batch, 3, size, size]` in 0..1 -> codes `[batch, size, size]`, the nearest colours -> pictures.

    `fit_statistics` finds the palette, so one step of training is enough; each further step moves the colours a little
    towards the pixels that chose them (the quantizer's loss), which is k-means by gradient. A codec of 0 steps refuses
    to work outside of training.
    """

    config_class: ClassVar[type[PaletteCodecConfig]] = PaletteCodecConfig
    use: ClassVar[str | None] = "use it: cymatic reconstruct in.png -o out.png --model {run}"
    steps_trained: Tensor
    cell = 1

    def __init__(self, config: PaletteCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.quantizer = VectorQuantizer(VectorQuantizerConfig(size=config.colours, dim=3))

    @property
    def colours(self) -> Float[Tensor, "colours 3"]:
        """The palette, in 0..1."""
        return self.quantizer.codebook

    @property
    def rows(self) -> int:
        """Codes in a column."""
        return int(self.config.picture.size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each row has to choose from."""
        return (int(self.config.colours),) * self.rows

    def columns(self, length: int) -> int:
        """Columns that cover `length` pixels."""
        return length

    def length(self, columns: int) -> int:
        """Pixels that `columns` columns cover."""
        return columns

    @property
    def last(self) -> nn.Parameter:
        """The palette: all of a picture comes from it."""
        return self.quantizer.codebook

    @torch.no_grad()
    def fit_statistics(self, targets: Sequence[Float[Tensor, "3 size size"]]) -> None:
        """Finds the palette in the pictures to train on; the same pictures and seed give the same palette."""
        generator = torch.Generator().manual_seed(self.config.seed)
        pixels = _sampled(targets, self.config.sample, generator)
        colours = _first_colours(pixels, self.config.colours, generator)
        for _ in range(self.config.rounds):
            colours = _moved(pixels, colours)
        self.quantizer.codebook.copy_(colours)

    def distance(
        self, made: Float[Tensor, "batch 3 size size"], wanted: Float[Tensor, "batch 3 size size"]
    ) -> Float[Tensor, ""]:
        """The mean absolute difference of two pictures, in 0..1."""
        return (made - wanted).abs().mean()

    def readings(
        self, made: Float[Tensor, "batch 3 size size"], wanted: Float[Tensor, "batch 3 size size"]
    ) -> Mapping[str, Float[Tensor, ""]]:
        """`psnr`, see `squares.signal_to_noise`."""
        return {"psnr": signal_to_noise(made, wanted)}

    def forward(
        self,
        pictures: Float[Tensor, "batch 3 size size"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
    ) -> Reconstruction:
        """A step of training, in 0..1."""
        quantized = self.quantizer(pictures, generator, shard=shard)
        return Reconstruction(pictures, quantized.z, pictures, quantized)

    reconstruct = forward  # as vocoders call it, whose `forward` reads mels

    @torch.no_grad()
    def encode(
        self, pictures: Float[Tensor, "batch 3 size size"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Latent:
        """The nearest colours and their numbers. `lengths` are the widths, which are all the same.

        Raises ModelError where the codec was never trained, Error for pictures or lengths of another size.
        """
        refuse_untrained(self, allow=self.training)
        widths = check_squares(pictures, lengths, self.config.picture)
        codes = self.quantizer.encode(pictures)
        return Latent(self.quantizer.lookup(codes), codes, widths, "grid")

    def decode(self, latent: Latent) -> Float[Tensor, "batch 3 size size"]:
        """Pictures in 0..1. Raises ModelError where the codec was never trained, Error for a latent of another layout
        or size."""
        refuse_untrained(self, allow=self.training)
        size = self.config.picture.size
        check_latent(latent, (3, size, size), size)
        return latent.z.clamp(0, 1)

    def decode_codes(
        self, codes: Int[Tensor, "batch size size"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch 3 size size"]:
        """The pictures of these colours. Raises Error for a colour that the palette has not, and as `decode`."""
        if lengths is None:
            lengths = torch.full((len(codes),), codes.shape[-1], device=codes.device)
        return self.decode(Latent(self.lookup(codes), codes, lengths, "grid"))

    def lookup(self, codes: Int[Tensor, "batch rows columns"]) -> Float[Tensor, "batch 3 rows columns"]:
        """The colours of codes. Raises Error for one that the palette has not."""
        return self.quantizer.lookup(codes)


def _sampled(targets: Sequence[Tensor], most: int, generator: torch.Generator) -> Float[Tensor, "pixels 3"]:
    """Pixels, as many of each picture, `most` or fewer."""
    if len(targets) > most:
        targets = [targets[int(i)] for i in torch.randperm(len(targets), generator=generator)[:most]]
    each = most // len(targets)
    drawn = []
    for target in targets:
        pixels = target.float().flatten(1).T
        if len(pixels) > each:
            pixels = pixels[torch.randperm(len(pixels), generator=generator)[:each]]
        drawn.append(pixels)
    return torch.cat(drawn)


def _first_colours(pixels: Tensor, count: int, generator: torch.Generator) -> Float[Tensor, "colours 3"]:
    """k-means++: each next one a pixel drawn by its squared distance from the nearest of those before.

    Where there are fewer different colours than `count`, the rest are copies of the first, which nothing chooses.
    """
    colours = pixels[torch.randint(len(pixels), (1,), generator=generator)].expand(count, 3).clone()
    distance = (pixels - colours[0]).square().sum(1)
    for i in range(1, count):
        ends = distance.double().cumsum(0)
        if not ends[-1]:
            break
        drawn = torch.rand(1, generator=generator, dtype=torch.float64) * ends[-1]
        colours[i] = pixels[torch.searchsorted(ends, drawn, right=True).clamp_max(len(pixels) - 1)[0]]
        distance = torch.minimum(distance, (pixels - colours[i]).square().sum(1))
    return colours


def _moved(pixels: Tensor, colours: Tensor) -> Float[Tensor, "colours 3"]:
    """A round of Lloyd's: each colour becomes the mean of the pixels that are nearest to it; one of none stays."""
    chosen = nearest(pixels, colours, -colours.square().sum(1) / 2)
    counts = torch.bincount(chosen, minlength=len(colours))
    sums = torch.zeros_like(colours).index_add_(0, chosen, pixels)
    return torch.where(counts[:, None] > 0, sums / counts[:, None].clamp_min(1), colours)
