"""A waveform -> levels of codes -> a waveform, whole or as a stream.

Zeghidour et al. (2021, arXiv 2107.03312): an encoder, a residual quantizer, a decoder, trained as one. What the two
networks are is a family's own business; a codec needs of them a rate of frames, a delay, and that they look back only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from cymatic.batch_shard import BatchShard
from cymatic.codecs.fast import FastNet, FastShape
from cymatic.codecs.latent import Latent
from cymatic.codecs.pitch import Pitch
from cymatic.codecs.soundstream import SoundStreamNet, SoundStreamShape
from cymatic.codecs.stream import FixedBlocks, Stream
from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.nn.energy_transformer import EnergyTransformer, EnergyTransformerConfig
from cymatic.nn.streaming import StreamingState
from cymatic.quantizers.finite import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    LookupFreeQuantizer,
    LookupFreeQuantizerConfig,
)
from cymatic.quantizers.gaussian import GaussianBottleneck, GaussianBottleneckConfig
from cymatic.quantizers.quantized import Quantized
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig

BottleneckConfig = Annotated[
    ResidualQuantizerConfig | FiniteScalarQuantizerConfig | LookupFreeQuantizerConfig | GaussianBottleneckConfig,
    Field(discriminator="kind"),
]
Bottleneck = ResidualQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer | GaussianBottleneck


class WaveformCodecConfig(Config):
    """`rate` in Hz; `tile`: frames that go through the networks at once outside of training, see `nn/streaming.py`. More of
    them take less time, but a stream runs a whole tile for each frame.

    energy: an energy transformer that the latent goes through before it is quantised.
    """

    kind: Literal["waveform"] = "waveform"
    rate: int = Field(gt=0, le=768_000)
    channels: int = Field(default=1, ge=1, le=64)
    network: Annotated[FastShape | SoundStreamShape, Field(discriminator="kind")] = FastShape()
    quantizer: BottleneckConfig
    energy: EnergyTransformerConfig | None = None
    tile: int = Field(default=64, ge=1, le=4096)

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.energy is not None and self.energy.dim != self.quantizer.dim:
            raise ValueError(
                f"the energy transformer takes {self.energy.dim} numbers and the quantizer {self.quantizer.dim}; give "
                "both the same dim"
            )
        if isinstance(self.network, FastShape) and self.network.pitch is not None:
            if isinstance(self.quantizer, GaussianBottleneckConfig):
                raise ValueError("a pitch is codes, and a gaussian bottleneck has none; set network.pitch to null")
        return self


class WaveReconstruction(NamedTuple):
    """What went in, what came out, and what lay between them: before it was quantised, and after."""

    wanted: Float[Tensor, "batch channels samples"]
    made: Float[Tensor, "batch channels samples"]
    latent: Float[Tensor, "batch dim frames"]
    quantized: Quantized


class WaveformCodec(nn.Module):
    """Waveform `[batch, channels, samples]` in -1..1 at `config.rate` -> codes `[batch, levels, frames]` -> waveform.

    A sound has `frames(samples)` frames: enough for its last sample to come out of a decoder that is `delay` samples
    late. Outside of training the networks run tiles of one size, on one thread, so a whole sound, its chunks and a
    stream of it give equal codes and equal samples, bit for bit. A codec of 0 steps refuses to work outside of
    training.
    """

    config_class: ClassVar[type[WaveformCodecConfig]] = WaveformCodecConfig
    steps_trained: Tensor

    def __init__(self, config: WaveformCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.network: FastNet | SoundStreamNet
        if isinstance(config.network, SoundStreamShape):
            self.network = SoundStreamNet(config.network, config.channels, config.quantizer.dim)
        else:
            self.network = FastNet(config.network, config.channels, config.quantizer.dim, config.rate)
        self.energy = None if config.energy is None else EnergyTransformer(config.energy)
        self.quantizer = _bottleneck(config.quantizer)
        self.pitch: Pitch | None = self.network.pitch if isinstance(self.network, FastNet) else None

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.network.hop

    @property
    def delay(self) -> int:
        """Samples by which the decoder is late; with the frame that must be full, the whole latency of a stream."""
        return self.network.delay

    @property
    def latency(self) -> float:
        """Seconds from a sample's arrival to its coming out again, computing not counted."""
        return (self.hop + self.delay) / self.config.rate

    @property
    def streamable(self) -> bool:
        """Whether the networks look back only."""
        return self.network.streamable and self.energy is None

    @property
    def levels(self) -> int:
        """Codes of a frame at most; fewer of them say the same less exactly."""
        return len(self.sizes)

    @property
    def least(self) -> int:
        """Codes of a frame at least: those of its pitch and one more."""
        return 1 + self.beside

    @property
    def beside(self) -> int:
        """Codes of a frame that come before the quantizer's."""
        return 0 if self.pitch is None else len(self.pitch.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has to choose from."""
        return (*(() if self.pitch is None else self.pitch.sizes), *self.quantizer.sizes)

    def frames(self, samples: int) -> int:
        """Frames from which `samples` samples can be made again."""
        return -(-(samples + self.delay) // self.hop)

    def forward(
        self,
        wave: Float[Tensor, "batch channels samples"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
    ) -> WaveReconstruction:
        """A step of training: all items as long as each other. `generator` and `share` are the quantizer's."""
        samples = wave.shape[-1]
        padded = pad(wave, (0, self.frames(samples) * self.hop - samples))
        latent, said = self.parted(self.latent(padded))
        quantized = self.quantizer(latent, generator, shard=shard)
        z = quantized.z if said is None else torch.cat([quantized.z, said], 1)
        made = self.network.decoder(z)[..., self.delay : self.delay + samples]
        return WaveReconstruction(wave, made, latent, quantized)

    @torch.no_grad()
    def encode(
        self,
        wave: Float[Tensor, "batch channels samples"],
        samples: Int[Tensor, " batch"] | None = None,
        levels: int | None = None,
    ) -> Latent:
        """Codes and their vectors, 0 beyond an item's own frames; `lengths` are in frames. A Gaussian bottleneck gives
        no codes, and as vectors the latents that a prior learns.

        `samples` are the items' lengths, all of `wave` without them; `levels`: how many of the codes, all without it.
        Raises ModelError where the codec was never trained, Error for a length that `wave` does not have, another
        number of channels, or levels that the codec has not.
        """
        self._ready(wave.shape[1], levels)
        if samples is None:
            samples = torch.full((len(wave),), wave.shape[-1])
        if len(wave) and not 1 <= int(samples.min()) <= int(samples.max()) <= wave.shape[-1]:
            raise Error(
                f"lengths of {samples.tolist()} samples were given for waveforms of {wave.shape[-1]}; give 1 to all"
            )
        inside = torch.arange(wave.shape[-1], device=wave.device) < samples.to(wave.device)[:, None, None]
        frames = torch.tensor([self.frames(int(n)) for n in samples], device=wave.device)
        longest = int(frames.max())
        padded = pad(wave * inside, (0, max(0, longest * self.hop - wave.shape[-1])))[..., : longest * self.hop]
        codes = self._by_length(lambda n: self.coding(levels, n), padded, frames)
        mine = torch.arange(longest, device=wave.device) < frames[:, None]
        codes = codes * mine[:, None]
        if isinstance(self.quantizer, GaussianBottleneck):
            return Latent(codes, None, frames, "levels")
        return Latent(self.lookup(codes) * mine[:, None], codes, frames, "levels")

    @torch.no_grad()
    def decode(self, latent: Latent, samples: int | None = None) -> Float[Tensor, "batch channels samples"]:
        """Waveforms of `samples` samples, or as many as the frames of the longest hold; beyond an item's frames: zero.

        Raises ModelError where the codec was never trained, Error for a latent of another layout, and for more samples
        than the frames hold.
        """
        self._ready(self.config.channels, None)
        config = self.config.quantizer
        dim = config.latent if isinstance(config, GaussianBottleneckConfig) else config.dim
        dim += 0 if self.pitch is None else self.pitch.numbers
        if latent.layout != "levels" or latent.z.dim() != 3 or latent.z.shape[1] != dim:
            raise Error(
                f'a latent "{latent.layout}" of {list(latent.z.shape)} was given; this codec reads "levels" of '
                f"[batch, {dim}, frames]"
            )
        if int(latent.lengths.max()) != latent.z.shape[-1]:
            raise Error(f"the longest item has {int(latent.lengths.max())} frames and the latent {latent.z.shape[-1]}")
        held = latent.z.shape[-1] * self.hop - self.delay
        samples = held if samples is None else samples
        if not 1 <= samples <= held:
            raise Error(f"{samples} samples were asked for, and {latent.z.shape[-1]} frames hold 1 to {held}")
        lengths = latent.lengths.to(latent.z.device)
        if latent.codes is not None:
            made = self._by_length(self.decoding, latent.codes, lengths)
        else:
            made = self._by_length(self._made if self.quantizer.levels else self.decoding, latent.z, lengths)
        wave = pad(made, (0, max(0, self.delay + samples - made.shape[-1])))[..., self.delay : self.delay + samples]
        ends = lengths * self.hop - self.delay
        return wave * (torch.arange(samples, device=wave.device) < ends[:, None, None])

    def decode_codes(
        self, codes: Int[Tensor, "batch levels frames"], samples: int | None = None
    ) -> Float[Tensor, "batch channels samples"]:
        """The waveforms that the codes stand for. Raises Error for codes beyond the codebooks, and as `decode`."""
        lengths = torch.full((len(codes),), codes.shape[-1], device=codes.device)
        return self.decode(Latent(self.lookup(codes), codes, lengths, "levels"), samples)

    def lookup(self, codes: Int[Tensor, "batch levels frames"]) -> Float[Tensor, "batch numbers frames"]:
        """What the decoder reads: the quantizer's vectors, and behind them what the frames say of their pitch. Raises
        Error for codes beyond the codebooks, for fewer of them than `least`, and where there are no codes."""
        if isinstance(self.quantizer, GaussianBottleneck):
            raise Error("this codec has no codes; give decode the latent that encode gave")
        if self.pitch is None:
            return self.quantizer.lookup(codes)
        if codes.shape[1] < self.least:
            raise Error(f"{codes.shape[1]} codes a frame were given; this codec says a sound in {self.least} or more")
        said, rest = codes[:, : self.beside], codes[:, self.beside :]
        for level, size in enumerate(self.pitch.sizes):
            if said.numel() and not 0 <= int(said[:, level].min()) <= int(said[:, level].max()) < size:
                raise Error(f"level {level + 1} holds codes beyond its {size}; give the codes of this codec")
        return torch.cat([self.quantizer.lookup(rest), self.pitch.decode(said)], 1)

    def coding(self, levels: int | None = None, frames: int = 0) -> FixedBlocks:
        """From waveforms to codes, a tile at a time; `frames` at a time where the networks look ahead.

        The quantizer is inside, for the same reason as the networks: its products round by their shapes.
        """

        def network(wave: Tensor, state: StreamingState | None) -> Tensor:
            z, said = self.parted(self.latent(wave, state))
            if isinstance(self.quantizer, GaussianBottleneck):
                return self.quantizer.to_latent(z)
            codes = self.quantizer.encode(z, None if levels is None else levels - self.beside)
            if said is None or self.pitch is None:
                return codes
            return torch.cat([self.pitch.encode(said), codes], 1)

        return FixedBlocks(network, self.hop, self.config.tile if self.streamable else frames)

    def decoding(self, frames: int = 0) -> FixedBlocks:
        """From codes to waveforms that are `delay` samples late; as `coding`."""

        def network(codes: Tensor, state: StreamingState | None) -> Tensor:
            if isinstance(self.quantizer, GaussianBottleneck):
                z = self.quantizer.from_latent(codes)
            else:
                z = self.lookup(codes)
            made: Tensor = self.network.decoder(z, state)
            return made

        return FixedBlocks(network, 1, self.config.tile if self.streamable else frames)

    def latent(
        self, wave: Float[Tensor, "batch channels samples"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch numbers frames"]:
        """What whole frames of sound are before they become codes, and behind it what they say of their pitch."""
        read: Tensor = self.network.encoder(wave, state)
        if self.energy is None:
            return read
        z, said = self.parted(read)
        return self.energy(z) if said is None else torch.cat([self.energy(z), said], 1)

    def parted(self, read: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the quantizer is for, and what is said of the pitch."""
        if self.pitch is None:
            return read, None
        return read[:, : -self.pitch.numbers], read[:, -self.pitch.numbers :]

    def _made(self, frames: int) -> FixedBlocks:
        return FixedBlocks(self.network.decoder, 1, self.config.tile if self.streamable else frames)

    def _by_length(self, tiles: Callable[[int], FixedBlocks], x: Tensor, frames: Tensor) -> Tensor:
        """`x` through tiles; where the networks look ahead, items of different lengths never share a batch."""
        if self.streamable:
            return tiles(0).all(x)
        longest, made = int(frames.max()), None
        for length in frames.unique().tolist():
            items = frames == length
            some = tiles(length).all(x[items][..., : x.shape[-1] // longest * length])
            if made is None:
                made = some.new_zeros(len(x), some.shape[1], some.shape[2] // length * longest)
            made[items, :, : some.shape[2]] = some
        assert made is not None
        return made

    def streaming(self, levels: int | None = None) -> Stream:
        """Both directions of one sound, chunk by chunk; see `Stream`. Raises Error for a codec that looks ahead."""
        self._ready(self.config.channels, levels)
        if not self.streamable:
            raise Error("this codec looks at a sound as a whole, so it can't be streamed; encode the whole sound")
        if isinstance(self.quantizer, GaussianBottleneck):
            raise Error("this codec has no codes that could be streamed; encode the whole sound")
        return Stream(self, levels)

    def _ready(self, channels: int, levels: int | None) -> None:
        if not (self.training or self.steps_trained):
            raise ModelError("this codec was never trained (0 steps), so it can only make noise; train it first")
        if channels != self.config.channels:
            raise Error(f"a sound of {channels} channels was given; this codec takes {self.config.channels}")
        if levels is not None and not self.least <= levels <= max(1, self.levels):
            raise Error(f"{levels} levels were asked for; this codec has {self.least} to {self.levels}")


def _bottleneck(config: BottleneckConfig) -> Bottleneck:
    match config:
        case ResidualQuantizerConfig():
            return ResidualQuantizer(config)
        case FiniteScalarQuantizerConfig():
            return FiniteScalarQuantizer(config)
        case LookupFreeQuantizerConfig():
            return LookupFreeQuantizer(config)
        case GaussianBottleneckConfig():
            return GaussianBottleneck(config)
