"""A waveform -> levels of codes -> a waveform, whole or as a stream.

Zeghidour et al. (2021, arXiv 2107.03312): an encoder, a residual quantizer and a decoder, trained as one. Which two
networks these are is up to a family (`fast`, `soundstream`); the codec needs their hop and their delay, and that they
are causal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn
from torch.nn.functional import pad

from cymatic.batch_shard import BatchShard
from cymatic.codecs.fast import FastNet, FastShape
from cymatic.codecs.pitch import Pitch
from cymatic.codecs.soundstream import SoundStreamNet, SoundStreamShape
from cymatic.codecs.stream import Stream
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.latent import Latent, Reconstruction
from cymatic.media.wave_spec import WaveSpec
from cymatic.nn.autoencoder import Autoencoder
from cymatic.nn.energy_transformer import EnergyTransformer, EnergyTransformerConfig
from cymatic.nn.streaming import FixedBlocks, StreamingState
from cymatic.nn.trained import refuse_untrained
from cymatic.quantizers import LevelsQuantizer, LevelsQuantizerConfig, build_quantizer
from cymatic.quantizers.gaussian import GaussianBottleneck, GaussianBottleneckConfig
from cymatic.signal.distances import multi_scale_mel_distance


class WaveformCodecConfig(Config):
    """rate, channels: of the waveforms that it is for, `rate` in Hz.

    energy: an energy transformer that the latent goes through before it is quantised. block: frames that the networks
    run at once outside of training (see `nn/streaming.py`); longer blocks cost less a second of sound, but a stream
    runs a whole block for each frame.
    """

    kind: Literal["waveform"] = "waveform"
    rate: int = Field(default=24_000, gt=0, le=768_000)
    channels: int = Field(default=1, ge=1, le=64)
    network: Annotated[FastShape | SoundStreamShape, Field(discriminator="kind")] = FastShape()
    quantizer: LevelsQuantizerConfig
    energy: EnergyTransformerConfig | None = None
    block: int = Field(default=64, ge=1, le=4096)

    @field_validator("network", mode="before")
    @classmethod
    def _fast_by_default(cls, values: Any) -> Any:
        return {"kind": "fast", **values} if isinstance(values, dict) else values

    @field_validator("quantizer", mode="before")
    @classmethod
    def _residual_by_default(cls, values: Any) -> Any:
        return {"kind": "residual", **values} if isinstance(values, dict) else values

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

    @property
    def reads(self) -> WaveSpec:
        """What it encodes."""
        return WaveSpec(rate=self.rate, channels=self.channels)

    @property
    def gives(self) -> WaveSpec:
        """What it decodes to."""
        return self.reads

    @property
    def names_its_spec(self) -> bool:
        """Whether the rate or the channels were given, and are not the defaults."""
        return bool({"rate", "channels"} & self.model_fields_set)

    def reading(self, spec: WaveSpec) -> WaveformCodecConfig:
        """The same for other waveforms."""
        return WaveformCodecConfig(**{**dict(self), "rate": spec.rate, "channels": spec.channels})


class WaveformCodec(Autoencoder):
    """Waveform `[batch, channels, samples]` in -1..1 at `config.rate` -> codes `[batch, levels, frames]` -> waveform.

    A sound has `columns(samples)` frames: enough for its last sample to come out of a decoder that is `delay` samples
    late. Outside of training the networks run blocks of one size, on one thread, so a whole sound, its chunks and a
    stream of it give equal codes and equal samples, bit for bit. A codec of 0 steps refuses to work outside of
    training.
    """

    config_class: ClassVar[type[WaveformCodecConfig]] = WaveformCodecConfig
    layout: ClassVar[Literal["levels", "grid"]] = "levels"
    kept_in_shards: ClassVar[bool] = True
    use: ClassVar[str | None] = "use it: cymatic encode in.wav -o out.cym --model {run}"
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
        self.quantizer = cast(LevelsQuantizer, build_quantizer(config.quantizer))
        self.pitch: Pitch | None = self.network.pitch if isinstance(self.network, FastNet) else None

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return self.network.hop

    @property
    def channels(self) -> int:
        """Channels of its waveforms."""
        return self.config.channels

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
        """The most codes of a frame; fewer of them describe the same sound less exactly."""
        return len(self.sizes)

    @property
    def rows(self) -> int:
        """Codes in a column: all levels."""
        return self.levels

    @property
    def min_levels(self) -> int:
        """The fewest codes of a frame that decode to a sound: the side codes and one of the quantizer's."""
        return 1 + self.side_codes

    @property
    def side_codes(self) -> int:
        """Codes of a frame that hold side information (pitch and loudness); they come before the quantizer's."""
        return 0 if self.pitch is None else len(self.pitch.sizes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many codes each level has to choose from."""
        return (*(() if self.pitch is None else self.pitch.sizes), *self.quantizer.sizes)

    def columns(self, length: int) -> int:
        """Frames of codes from which `length` samples can be made again."""
        return -(-(length + self.delay) // self.hop)

    def length(self, columns: int) -> int:
        """Samples that `columns` frames of codes hold."""
        return columns * self.hop - self.delay

    @property
    def cell(self) -> int:
        """Samples of a frame, by the name that all codecs have for it."""
        return self.hop

    @property
    def whitened(self) -> bool:
        """Whether training may pull the latent towards a white one: a Gaussian bottleneck has a term of its own."""
        return not isinstance(self.quantizer, GaussianBottleneck)

    @property
    def decoder_stages(self) -> tuple[nn.Module, ...]:
        """The decoder's stages, coarse first, whose outputs may be compared with the target: SoundStream's."""
        return self.network.decoder_stages

    @property
    def last(self) -> nn.Parameter | None:
        """The decoder's last weights where all of the output comes through them, else None."""
        return self.network.decoder.last

    def matrices(self) -> list[nn.Parameter]:
        """The weights that Muon's steps are for: the matrices inside the fast family's blocks."""
        return self.network.matrices()

    def fit_statistics(self, targets: Sequence[Float[Tensor, "channels _"]]) -> None:
        """Does nothing: the networks see waveforms as they are."""

    def distance(
        self, made: Float[Tensor, "batch channels samples"], wanted: Float[Tensor, "batch channels samples"]
    ) -> Float[Tensor, ""]:
        """The multi-scale mel distance (see `signal.distances`), each channel on its own."""
        made, wanted = made.flatten(0, 1)[:, None], wanted.flatten(0, 1)[:, None]
        return multi_scale_mel_distance(made, wanted, self.config.rate)

    def forward(
        self,
        wave: Float[Tensor, "batch channels samples"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
    ) -> Reconstruction:
        """A step of training on items of one length. `generator` and `shard` are the quantizer's."""
        samples = wave.shape[-1]
        padded = pad(wave, (0, self.columns(samples) * self.hop - samples))
        latent, side = self.split_side(self.latent(padded))
        quantized = self.quantizer(latent, generator, shard=shard)
        z = quantized.z if side is None else torch.cat([quantized.z, side], 1)
        made = self.network.decoder(z)[..., self.delay : self.delay + samples]
        return Reconstruction(wave, made, latent, quantized)

    reconstruct = forward  # as vocoders call it, whose `forward` reads mels

    @torch.no_grad()
    def encode(
        self,
        wave: Float[Tensor, "batch channels samples"],
        lengths: Int[Tensor, " batch"] | None = None,
        levels: int | None = None,
    ) -> Latent:
        """Codes and their vectors, 0 beyond an item's own frames. A Gaussian bottleneck gives no codes, and as vectors
        the latents that a prior learns.

        `lengths` are the items' own, in samples, all of `wave` without them; `levels`: how many of the codes, all
        without it. Raises ModelError where the codec was never trained, Error for a length that `wave` does not have,
        another number of channels, or levels that the codec has not.
        """
        self._ready(wave.shape[1], levels)
        if lengths is None:
            lengths = torch.full((len(wave),), wave.shape[-1])
        if len(wave) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= wave.shape[-1]:
            raise Error(
                f"lengths of {lengths.tolist()} samples were given for waveforms of {wave.shape[-1]}; give 1 to all"
            )
        lengths = lengths.to(wave.device)
        inside = torch.arange(wave.shape[-1], device=wave.device) < lengths[:, None, None]
        frames = self._frames(lengths)
        longest = int(frames.max())
        padded = pad(wave * inside, (0, max(0, longest * self.hop - wave.shape[-1])))[..., : longest * self.hop]
        codes = self._by_length(lambda n: self.coding(levels, n), padded, frames)
        own = torch.arange(longest, device=wave.device) < frames[:, None]
        codes = codes * own[:, None]
        if isinstance(self.quantizer, GaussianBottleneck):
            return Latent(codes, None, lengths, "levels")
        return Latent(self.lookup(codes) * own[:, None], codes, lengths, "levels")

    @torch.no_grad()
    def decode(self, latent: Latent) -> Float[Tensor, "batch channels samples"]:
        """Waveforms as long as the longest item; beyond an item's own length lies silence.

        Raises ModelError where the codec was never trained, Error for a latent of another layout, and for lengths that
        its frames don't hold.
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
        lengths, held = latent.lengths.to(latent.z.device), self.length(latent.z.shape[-1])
        if not 1 <= int(lengths.min()) <= int(lengths.max()) <= held:
            raise Error(f"{lengths.tolist()} samples were asked for, and {latent.z.shape[-1]} frames hold 1 to {held}")
        frames, samples = self._frames(lengths), int(lengths.max())
        longest = int(frames.max())
        if latent.codes is not None:
            made = self._by_length(self.decoding, latent.codes[..., :longest], frames)
        else:
            blocks = self._from_vectors if self.quantizer.levels else self.decoding
            made = self._by_length(blocks, latent.z[..., :longest], frames)
        wave = made[..., self.delay : self.delay + samples]
        return wave * (torch.arange(samples, device=wave.device) < lengths[:, None, None])

    def decode_codes(
        self, codes: Int[Tensor, "batch levels frames"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channels samples"]:
        """The waveforms of `lengths` samples that the codes stand for, or of as many as there are.

        Raises Error for codes beyond the codebooks, and as `decode`.
        """
        if lengths is None:
            lengths = torch.full((len(codes),), self.length(codes.shape[-1]), device=codes.device)
        return self.decode(Latent(self.lookup(codes), codes, lengths, "levels"))

    def _frames(self, lengths: Int[Tensor, " batch"]) -> Int[Tensor, " batch"]:
        return torch.tensor([self.columns(int(n)) for n in lengths], device=lengths.device)

    def lookup(self, codes: Int[Tensor, "batch levels frames"]) -> Float[Tensor, "batch numbers frames"]:
        """What the decoder reads: the quantizer's vectors, then the side information of the frames.

        Raises Error for codes beyond the codebooks, for fewer of them than `min_levels`, and where there are no codes.
        """
        if isinstance(self.quantizer, GaussianBottleneck):
            raise Error("this codec has no codes; give decode the latent that encode gave")
        if self.pitch is None:
            return self.quantizer.lookup(codes)
        if codes.shape[1] < self.min_levels:
            raise Error(f"{codes.shape[1]} codes a frame were given; this codec needs {self.min_levels} or more")
        side, rest = codes[:, : self.side_codes], codes[:, self.side_codes :]
        for level, size in enumerate(self.pitch.sizes):
            if side.numel() and not 0 <= int(side[:, level].min()) <= int(side[:, level].max()) < size:
                raise Error(f"level {level + 1} holds codes beyond its {size}; give the codes of this codec")
        return torch.cat([self.quantizer.lookup(rest), self.pitch.decode(side)], 1)

    def coding(self, levels: int | None = None, frames: int = 0) -> FixedBlocks:
        """From waveforms to codes, a block at a time; `frames` at a time where the networks look ahead.

        The quantizer is inside for the same reason as the networks: how its products round depends on their shapes.
        """

        def network(wave: Tensor, state: StreamingState | None) -> Tensor:
            z, side = self.split_side(self.latent(wave, state))
            if isinstance(self.quantizer, GaussianBottleneck):
                return self.quantizer.to_latent(z)
            codes = self.quantizer.encode(z, None if levels is None else levels - self.side_codes)
            if side is None or self.pitch is None:
                return codes
            return torch.cat([self.pitch.encode(side), codes], 1)

        return FixedBlocks(network, self.hop, self.config.block if self.streamable else frames)

    def decoding(self, frames: int = 0) -> FixedBlocks:
        """From codes to waveforms that are `delay` samples late; as `coding`."""

        def network(codes: Tensor, state: StreamingState | None) -> Tensor:
            if isinstance(self.quantizer, GaussianBottleneck):
                z = self.quantizer.from_latent(codes)
            else:
                z = self.lookup(codes)
            made: Tensor = self.network.decoder(z, state)
            return made

        return FixedBlocks(network, 1, self.config.block if self.streamable else frames)

    def latent(
        self, wave: Float[Tensor, "batch channels samples"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch numbers frames"]:
        """What the quantizer reads of whole frames of sound, then their side information."""
        read: Tensor = self.network.encoder(wave, state)
        if self.energy is None:
            return read
        z, side = self.split_side(read)
        return self.energy(z) if side is None else torch.cat([self.energy(z), side], 1)

    def split_side(self, read: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the quantizer reads, and the side information where there is any."""
        if self.pitch is None:
            return read, None
        return read[:, : -self.pitch.numbers], read[:, -self.pitch.numbers :]

    def _from_vectors(self, frames: int) -> FixedBlocks:
        return FixedBlocks(self.network.decoder, 1, self.config.block if self.streamable else frames)

    def _by_length(self, blocks: Callable[[int], FixedBlocks], x: Tensor, frames: Tensor) -> Tensor:
        """`x` in blocks; where the networks look ahead, items of different lengths never share a batch."""
        if self.streamable:
            return blocks(0).all(x)
        longest, made = int(frames.max()), None
        for length in frames.unique().tolist():
            items = frames == length
            some = blocks(length).all(x[items][..., : x.shape[-1] // longest * length])
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
        refuse_untrained(self, allow=self.training)
        if channels != self.config.channels:
            raise Error(f"a sound of {channels} channels was given; this codec takes {self.config.channels}")
        if levels is not None and not self.min_levels <= levels <= max(1, self.levels):
            raise Error(f"{levels} levels were asked for; this codec has {self.min_levels} to {self.levels}")
