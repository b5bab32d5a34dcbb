"""The network of a waveform codec from causal convolutions alone.

SoundStream (Zeghidour et al., 2021, arXiv 2107.03312): stages of residual units at one rate, each followed by a strided
convolution to a lower one; the decoder is the mirror. It computes at the rate of the samples, so it takes many times
the arithmetic of `codecs.fast`.
"""

from __future__ import annotations

import math
from typing import Literal, TypeVar

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.nn.causal_conv import CausalConv, CausalConvTranspose
from cymatic.nn.multires import MultiresConv, MultiresUp
from cymatic.nn.snake import Snake
from cymatic.nn.streaming import StreamingState
from cymatic.nn.wavelet import Mode, WaveletUp

Layer = TypeVar("Layer", CausalConv, CausalConvTranspose)
MULTIRES = (3, 5)  # taps and resolutions, which reach 62 samples back where dilations reach 6 to 54
DILATIONS = (1, 3, 9)  # of a stage's residual units
SLOPE = 0.1  # of the leaky rectifier
MOST_HOP = 2**16


class SoundStreamShape(Config):
    """The size of the network.

    strides: by how much each stage lowers the rate, the finest first; their product is the hop, the samples of a frame.
    widths: channels at the rate of the samples, then below each stage. kernel: taps of the residual units and at both
    ends. activation: `leaky` is max(x, x/10), which learns fastest at first; `snake` is `nn.snake`'s.

    multires: stages, 0 the finest, whose residual units hear by multiresolution convolutions (`nn.multires`) and which
    the decoder reaches by one. wavelets: stages that the decoder reaches by wavelets (`nn.wavelet`) in the mode
    `wavelet`; `moving-sum` looks ahead, and a network with it is not streamable.
    """

    strides: tuple[int, ...] = Field(default=(2, 4, 5, 8), min_length=1, max_length=8)
    widths: tuple[int, ...] = Field(default=(32, 64, 128, 256, 512), min_length=2, max_length=9)
    kernel: int = Field(default=7, ge=1, le=63)
    activation: Literal["leaky", "snake"] = "leaky"
    multires: tuple[int, ...] = ()
    wavelets: tuple[int, ...] = ()
    wavelet: Mode = "overlap-add"
    kind: Literal["soundstream"] = "soundstream"

    @model_validator(mode="after")
    def _consistent(self) -> SoundStreamShape:
        if min(self.strides) < 1 or self.hop > MOST_HOP:
            raise ValueError(
                f"strides are {self.strides}; give whole numbers from 1 whose product is at most {MOST_HOP}"
            )
        if min(self.widths) < 1 or max(self.widths) > 8192:
            raise ValueError(f"widths are {self.widths}; give whole numbers from 1 to 8192")
        if len(self.widths) != len(self.strides) + 1:
            raise ValueError(
                f"there are {len(self.widths)} widths for {len(self.strides)} strides; give one more than strides, the "
                "first for the rate of the samples"
            )
        for stages in (self.multires, self.wavelets):
            if not set(stages) <= set(range(len(self.strides))):
                raise ValueError(f"stages {stages} are named and there are 0 to {len(self.strides) - 1}")
        return self

    @property
    def hop(self) -> int:
        """Samples of a frame."""
        return math.prod(self.strides)


def lumen() -> SoundStreamShape:
    """The published size of audio_generation (Lumen): 100 frames a second at 48 kHz, for 10 levels of 512 codes of 512
    numbers, which is 9 kbit/s. The reference rises by repeating columns, which looks ahead; this network does not."""
    return SoundStreamShape(strides=(2, 3, 4, 4, 5), widths=(32, 64, 128, 256, 512, 1024), wavelets=(1,))


class ResidualUnit(nn.Module):
    """`x + mix(act(near(act(x))))`: taps `dilation` apart or at many resolutions, then each sample mixes its channels.

    Activations lie inside, as the Descript Audio Codec has them (Kumar et al., 2023, arXiv 2306.06546): on the way
    through all units, Snake would add up to fifty times what came in.
    """

    def __init__(self, shape: SoundStreamShape, stage: int, dilation: int) -> None:
        super().__init__()
        width = shape.widths[stage]
        self.act1 = activation(shape, width)
        self.near = (
            MultiresConv(width, *MULTIRES)
            if stage in shape.multires
            else CausalConv(width, width, shape.kernel, dilation=dilation)
        )
        self.act2 = activation(shape, width)
        self.mix = CausalConv(width, width, 1)

    def forward(
        self, x: Float[Tensor, "batch width n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch width n"]:
        return x + self.mix(self.act2(self.near(self.act1(x), state)))


class Lower(nn.Module):
    """A stage of the encoder: residual units, then a strided convolution over two strides and one sample."""

    def __init__(self, shape: SoundStreamShape, stage: int) -> None:
        super().__init__()
        stride, (width, below) = shape.strides[stage], shape.widths[stage : stage + 2]
        self.units = nn.ModuleList(ResidualUnit(shape, stage, dilation) for dilation in DILATIONS)
        self.act = activation(shape, width)
        self.change = through(CausalConv(width, below, 2 * stride + 1, stride=stride))

    def forward(
        self, x: Float[Tensor, "batch width n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch below m"]:
        for unit in self.units:
            x = unit(x, state)
        return self.change(self.act(x), state)


class Raise(nn.Module):
    """A stage of the decoder: up to a higher rate, then residual units."""

    def __init__(self, shape: SoundStreamShape, stage: int) -> None:
        super().__init__()
        self.act = activation(shape, shape.widths[stage + 1])
        self.change = up(shape, stage)
        self.units = nn.ModuleList(ResidualUnit(shape, stage, dilation) for dilation in DILATIONS)

    def forward(
        self, x: Float[Tensor, "batch below m"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch width n"]:
        x = self.change(self.act(x), state)
        for unit in self.units:
            x = unit(x, state)
        return x


def up(shape: SoundStreamShape, stage: int) -> WaveletUp | MultiresUp | CausalConvTranspose:
    """The layer by which the decoder comes to a stage: by default a transposed convolution over two strides.

    With two whole strides each sample hears two frames; with one tap more, every stride's first would hear three, and
    be heard as a tone (Odena et al., 2016, "Deconvolution and Checkerboard Artifacts"). A wavelet has four channels
    for each that comes out, and rings for eight frames, as in the reference.
    """
    stride, (width, below) = shape.strides[stage], shape.widths[stage : stage + 2]
    if stage in shape.wavelets:
        return WaveletUp(
            below, 4 * width, width, stride=stride, kernel=2 * stride + 1, points=8 * stride, mode=shape.wavelet
        )
    if stage in shape.multires:
        return MultiresUp(below, width, *MULTIRES, stride=stride)
    return through(CausalConvTranspose(below, width, 2 * stride, stride=stride))


class SoundStreamEncoder(nn.Module):
    """Waveform `[batch, channels, frames * hop]` -> latent `[batch, dim, frames]`."""

    def __init__(self, shape: SoundStreamShape, channels: int, dim: int) -> None:
        super().__init__()
        self.read = through(CausalConv(channels, shape.widths[0], shape.kernel))
        self.stages = nn.ModuleList(Lower(shape, stage) for stage in range(len(shape.strides)))
        self.act = activation(shape, shape.widths[-1])
        self.write = through(CausalConv(shape.widths[-1], dim, 3))

    def forward(
        self, x: Float[Tensor, "batch channels n"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch dim frames"]:
        x = self.read(x, state)
        for stage in self.stages:
            x = stage(x, state)
        return self.write(self.act(x), state)


class SoundStreamDecoder(nn.Module):
    """Latent `[batch, dim, frames]` -> waveform `[batch, channels, frames * hop]`; stage 0 is the finest, and last."""

    def __init__(self, shape: SoundStreamShape, channels: int, dim: int) -> None:
        super().__init__()
        self.read = through(CausalConv(dim, shape.widths[-1], shape.kernel))
        self.stages = nn.ModuleList(Raise(shape, stage) for stage in range(len(shape.strides)))
        self.act = activation(shape, shape.widths[0])
        self.write = through(CausalConv(shape.widths[0], channels, shape.kernel))

    @property
    def last(self) -> nn.Parameter:
        """The weights that every gradient of the output goes through first."""
        return self.write.weight  # type: ignore[return-value]

    def forward(
        self, z: Float[Tensor, "batch dim frames"], state: StreamingState | None = None
    ) -> Float[Tensor, "batch channels n"]:
        z = self.read(z, state)
        for stage in reversed(self.stages):
            z = stage(z, state)
        return self.write(self.act(z), state)


class SoundStreamNet(nn.Module):
    """Both halves, for waveforms of `channels` channels and latents of `dim` numbers.

    hop: samples of a frame. delay: samples by which the decoder is late: none. streamable: whether blocks of
    whole frames with a `StreamingState` give what the whole signal gives.
    """

    def __init__(self, shape: SoundStreamShape, channels: int, dim: int) -> None:
        super().__init__()
        self.hop, self.delay = shape.hop, 0
        self.streamable = not shape.wavelets or shape.wavelet == "overlap-add"
        self.encoder = SoundStreamEncoder(shape, channels, dim)
        self.decoder = SoundStreamDecoder(shape, channels, dim)

    @property
    def decoder_stages(self) -> tuple[nn.Module, ...]:
        """The decoder's stages, coarse first."""
        return tuple(reversed(self.decoder.stages))

    def matrices(self) -> list[nn.Parameter]:
        """The weights that Muon's steps are for: none, as all are convolutions."""
        return []


def activation(shape: SoundStreamShape, channels: int) -> nn.Module:
    if shape.activation == "leaky":
        return nn.LeakyReLU(SLOPE)
    return Snake(channels)


def through(layer: Layer) -> Layer:
    """The layer with a start that keeps a sound's power, as it lies on the only way from end to end.

    With torch's own start 1 % of a sound is left after a dozen layers. Inside residual units that is just right: at
    first they add little.
    """
    taps = layer.in_channels * layer.kernel_size[0]  # that each number is the sum of
    if isinstance(layer, CausalConvTranspose):
        taps //= layer.stride[0]
    nn.init.normal_(layer.weight, std=taps**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
