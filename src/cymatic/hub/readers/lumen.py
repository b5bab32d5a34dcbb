"""CausalVQAE of audio_generation (LumenPallidium): a SoundStream with codebooks that were learned as maps.

What only its weights need is here: an activation behind every layer, filling up at each stride rather than once, and a
decoder that repeats each column and convolves around it, so it looks ahead. Codecs of ours are `codecs/soundstream.py`.
A file of it is a bare state_dict. It doesn't say its sizes, so they are read from the tensors, and not its rate.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad

from cymatic.errors import ModelError
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import fill
from cymatic.hub.readers.peers import PeerCodec, PeerConfig, plain
from cymatic.nn.causal_conv import CausalConv, CausalConvTranspose
from cymatic.nn.wavelet import WaveletUp

SLOPE = 0.1
KERNEL, LAST = 7, 3  # taps of most layers, and of the encoder's last one
WAVES, REACH = 4, 10.0  # channels of waves for each that comes out; waves lie between -10 and 10
UNIT = {"near": "conv1", "near.0": "conv1.0", "near.1": "conv1.1", "mix": "conv2"}
WAVELET = {"read": "conv_in", "write": "conv_out", "scale": "wavelet_scale"}
OF_LAYER = ("weight", "bias")
# The state of their quantizer's training, and what can be computed.
LEFT_OUT = re.compile(r"quantizer\.(som|quantizers\.\d+\.(som|cluster_frequency|ema_codebook))\b|.*\.cos_kernel$")


class LumenCodecConfig(PeerConfig):
    """`strides`, finest first; `width`: channels at the rate of the samples, `growth` times as many after each stride.

    `units`: in a block; `depthwise`: each has a gain a channel before its taps. `rises`: how the decoder comes to each
    stride's block, coarsest first. `sizes`: of the codebook of each level.
    """

    kind: Literal["lumen"] = "lumen"
    rate: int = Field(default=48_000, ge=1000, le=384_000)
    channels: int = Field(default=1, ge=1, le=64)
    width: int = Field(default=32, ge=1, le=1024)
    strides: tuple[int, ...] = Field(default=(2, 3, 4, 4, 5), min_length=1, max_length=8)
    growth: int = Field(default=2, ge=1, le=16)
    units: int = Field(default=3, ge=0, le=8)
    depthwise: bool = False
    rises: tuple[Literal["repeat", "transposed", "wavelet"], ...] = ("repeat", "repeat", "repeat", "wavelet", "repeat")
    dim: int = Field(default=512, ge=1, le=2**14)
    sizes: tuple[int, ...] = Field(default=(512,) * 10, min_length=1, max_length=128)

    @model_validator(mode="after")
    def _fits(self) -> LumenCodecConfig:
        if not all(1 <= stride <= 64 for stride in self.strides):
            raise ValueError(f"strides are {self.strides}; each is 1 to 64")
        if len(self.rises) != len(self.strides):
            raise ValueError(f"the decoder rises {len(self.rises)} times and there are {len(self.strides)} strides")
        if not all(2 <= size <= 2**20 for size in self.sizes):
            raise ValueError(f"codebooks hold {self.sizes} codes; give at least 2")
        if self.widths[-1] > 2**18:
            raise ValueError(f"channels are {self.widths}; give at most {2**18}")
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at the rate of the samples, then after each stride."""
        return tuple(self.width * self.growth**i for i in range(len(self.strides) + 1))


def act(x: Tensor) -> Tensor:
    return leaky_relu(x, SLOPE)


class Unit(nn.Module):
    """`act(x + mix(act(near(x))))`."""

    def __init__(self, width: int, dilation: int, depthwise: bool) -> None:
        super().__init__()
        near = CausalConv(width, width, KERNEL, dilation=dilation)
        self.near = nn.Sequential(CausalConv(width, width, 1, groups=width), near) if depthwise else near
        self.mix = CausalConv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return act(x + self.mix(act(self.near(x))))


class Lower(nn.Module):
    """Units, then a strided convolution, which fills up what it gets to whole strides."""

    def __init__(self, config: LumenCodecConfig, stage: int) -> None:
        super().__init__()
        width, below = config.widths[stage : stage + 2]
        self.stride = config.strides[stage]
        self.units = nn.ModuleList(Unit(width, 3**i, config.depthwise) for i in range(config.units))
        self.change = CausalConv(width, below, 2 * self.stride + 1, stride=self.stride)

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = unit(x)
        return act(self.change(pad(x, (0, -x.shape[-1] % self.stride))))


class Repeat(nn.Conv1d):
    """Each column `stride` times, and a convolution around it."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__(inside, outside, 2 * stride + 1, padding="same")
        self.times = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.repeat_interleave(self.times, dim=2))


class Raise(nn.Module):
    """The way up, then units."""

    def __init__(self, config: LumenCodecConfig, stage: int) -> None:
        super().__init__()
        width, below = config.widths[stage : stage + 2]
        stride, rise = config.strides[stage], config.rises[-1 - stage]
        taps = 2 * stride + 1
        self.change: nn.Module
        if rise == "wavelet":
            waves, points = WAVES * width, 2 * WAVES * stride
            self.change = WaveletUp(
                below, waves, width, stride=stride, kernel=taps, points=points, reach=REACH, mode="moving-sum"
            )
        elif rise == "repeat":
            self.change = Repeat(below, width, stride)
        else:
            self.change = CausalConvTranspose(below, width, taps, stride=stride)
        self.units = nn.ModuleList(Unit(width, 3**i, config.depthwise) for i in range(config.units))

    def forward(self, x: Tensor) -> Tensor:
        x = act(self.change(x))
        for unit in self.units:
            x = unit(x)
        return x


class LumenCodec(PeerCodec):
    """Their network and codebooks: wave -> codes of the nearest vectors, level after level -> wave."""

    config_class: ClassVar[type[LumenCodecConfig]] = LumenCodecConfig
    config: LumenCodecConfig

    def __init__(self, config: LumenCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.rate, self.channels, self.dim = config.rate, config.channels, config.dim
        self.hop, self.sizes = math.prod(config.strides), config.sizes
        deepest, stages = config.widths[-1], range(len(config.strides))
        self.encoder = nn.Sequential(
            CausalConv(config.channels, config.width, KERNEL),
            *(Lower(config, stage) for stage in stages),
            CausalConv(deepest, config.dim, LAST),
        )
        self.decoder = nn.Sequential(
            CausalConvTranspose(config.dim, deepest, KERNEL),
            *(Raise(config, stage) for stage in reversed(stages)),
            CausalConv(config.width, config.channels, KERNEL),
        )
        self.codebooks = nn.ModuleList(nn.Embedding(size, config.dim) for size in config.sizes)

    def _codes(self, wave: Tensor, levels: int) -> Tensor:
        rest, found = self.encoder(wave).mT, list[Tensor]()
        for codebook in list(self.codebooks)[:levels]:
            vectors: Tensor = codebook.weight  # type: ignore[assignment]
            found.append((rest @ vectors.T - vectors.square().sum(1) / 2).argmax(-1))
            rest = rest - vectors[found[-1]]
        return torch.stack(found, dim=1)

    def _vectors(self, codes: Tensor) -> Tensor:
        z = codes.new_zeros(len(codes), codes.shape[-1], self.dim, dtype=torch.float32)
        for codebook, level in zip(self.codebooks, codes.unbind(1), strict=False):
            z = z + codebook(level)
        return z.mT

    def _waves(self, z: Tensor) -> Tensor:
        return self.decoder(z)


def read_lumen(checkpoint: Path, *, rate: int = 48_000) -> LumenCodec:
    """The codec in a state_dict of `CausalVQAE`, in eval mode; `rate` in Hz is what it was trained at.

    Raises ModelError for a file that is none, and names every tensor that is missing, unexpected or of another shape.
    """
    tensors = plain(state_dict(checkpoint))
    codec = LumenCodec(_config(tensors, checkpoint, rate))
    for name, tensor in tensors.items():
        if name.endswith(".space") and not torch.allclose(
            tensor.flatten().float(), torch.linspace(-REACH, REACH, tensor.numel())
        ):
            raise ModelError(f"{checkpoint} has wavelets in {name} between other ends than -10 and 10; none is known")
    held = {
        name: tensor.flatten() if name.endswith("wavelet_scale") else tensor.T if name.endswith(".codebook") else tensor
        for name, tensor in tensors.items()
        if not LEFT_OUT.match(name) and not name.endswith(".space")
    }
    fill(codec, held, f"{checkpoint} is no CausalVQAE of its size", lambda name: _theirs(name, codec.config))
    return codec.eval()


def is_lumen(tensors: Mapping[str, Any]) -> bool:
    """Whether these are the tensors of a `CausalVQAE`."""
    return "encoders.0.1.conv.bias" in tensors and "quantizer.quantizers.0.codebook" in tensors


def _config(tensors: dict[str, Tensor], where: Path, rate: int) -> LumenCodecConfig:
    """The sizes, as the tensors tell them."""
    if not is_lumen(tensors):
        raise ModelError(f"{where} does not hold a CausalVQAE of audio_generation (encoders, decoders and codebooks)")
    try:
        last = max(int(name.split(".")[1]) for name in tensors if name.startswith("encoders."))
        strides, rises, units, growth = [], [], 0, 1
        for i in range(1, last):
            units = max(int(name.split(".")[3]) for name in tensors if name.startswith(f"encoders.{i}.layers."))
            below, above, taps = tensors[f"encoders.{i}.layers.{units}.0.conv.weight"].shape
            if taps % 2 == 0:
                raise ValueError(f"a stride has {taps} taps, as in its first versions")
            strides.append((taps - 1) // 2)
            growth = below // above
            rise = f"decoders.{i}.in_conv.0"
            if f"{rise}.wavelet_scale" in tensors:
                rises.append("wavelet")
            else:
                # Where a stride keeps the number of channels both kinds have one shape, and theirs repeats.
                like_repeat = len(tensors[f"{rise}.conv.weight"]) == len(tensors[f"{rise}.conv.bias"])
                rises.append("repeat" if like_repeat else "transposed")
        levels = [name for name in tensors if re.fullmatch(r"quantizer\.quantizers\.\d+\.codebook", name)]
        width, channels, _ = tensors["encoders.0.1.conv.weight"].shape
        values = {
            "rate": rate,
            "channels": channels,
            "width": width,
            "strides": strides,
            "growth": growth,
            "units": units,
            "depthwise": "encoders.1.layers.0.0.conv1.0.conv.weight" in tensors,
            "rises": rises,
            "dim": tensors[f"encoders.{last}.conv.weight"].shape[0],
            "sizes": [tensors[f"quantizer.quantizers.{i}.codebook"].shape[1] for i in range(len(levels))],
        }
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(
            f"{where} holds no whole CausalVQAE of audio_generation ({type(error).__name__} {error}); give a "
            "state_dict of its last version"
        ) from None
    return LumenCodecConfig.parse(values, str(where))


def _theirs(name: str, config: LumenCodecConfig) -> str:
    """Their name of a tensor of ours: they count layers."""
    half, number, *rest = name.split(".")
    if half == "codebooks":
        return f"quantizer.quantizers.{number}.codebook"
    root, layer = f"{half}s.{number}", rest[0]
    if layer == "units":
        return f"{root}.layers.{rest[1]}.0.{UNIT['.'.join(rest[2:-1])]}.conv.{rest[-1]}"
    if layer == "change":
        place = f"{root}.layers.{config.units}.0" if half == "encoder" else f"{root}.in_conv.0"
        return f"{place}.{WAVELET.get(rest[1], 'conv')}" + "".join(f".{last}" for last in rest[1:] if last in OF_LAYER)
    # The first and the last layer stand alone; before the encoder's first there is one that does nothing.
    return f"{root}.1.conv.{layer}" if half == "encoder" and number == "0" else f"{root}.conv.{layer}"
