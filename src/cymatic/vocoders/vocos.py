"""A vocoder that never upsamples: ConvNeXt blocks at the mel's frame rate, then an inverse STFT.

Vocos (Siuzdak, 2023, arXiv 2306.00814): the network writes magnitude and phase of each frame, and the inverse STFT does
the rest, so that its cost is that of a small network at some hundred frames a second.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Complex, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from cymatic.config import Config
from cymatic.errors import ModelError
from cymatic.signal.mel import MelSpec
from cymatic.signal.stft import istft

MOST_MAGNITUDE = 100.0  # of a bin; a full-scale sine has about n_fft / 4 = 256, and -23 LUFS lies far below


class VocosShape(Config):
    """The size of the network; `widening`: how much wider the inside of a block is."""

    width: int = Field(default=256, gt=0, le=4096)
    depth: int = Field(default=8, gt=0, le=64)
    widening: int = Field(default=3, gt=0, le=8)


class VocosConfig(VocosShape):
    kind: Literal["vocos"] = "vocos"
    mel: MelSpec


class Mix(nn.Module):
    """A ConvNeXt block (Liu et al., 2022, arXiv 2201.03545): `x + gain * narrow(gelu(widen(norm(depthwise(x)))))`.

    Each channel looks at 7 frames on its own, then each frame mixes its channels.
    """

    def __init__(self, width: int, hidden: int, gain: float) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(self, x: Float[Tensor, "batch frames width"]) -> Float[Tensor, "batch frames width"]:
        near = self.near(x.transpose(1, 2)).transpose(1, 2)
        return x + self.gain * self.narrow(gelu(self.widen(self.norm(near)), approximate="tanh"))


class Vocos(nn.Module):
    """Log mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` at `config.mel.rate`.

    Raises ModelError where it was never trained.
    """

    config_class: ClassVar[type[VocosConfig]] = VocosConfig
    steps_trained: Tensor

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.config = config
        width, bins = config.width, config.mel.n_fft // 2 + 1
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.read = nn.Linear(7 * config.mel.mels, width)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(
            Mix(width, config.widening * width, 1 / config.depth) for _ in range(config.depth)
        )
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.write = nn.Linear(width, 2 * bins)
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv1d):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 samples"]:
        if not (self.training or self.steps_trained):
            raise ModelError("this vocoder was never trained (0 steps), so it can only make noise; train it first")
        return istft(self.spectrum(mel), self.config.mel)

    def spectrum(self, mel: Float[Tensor, "batch mels frames"]) -> Complex[Tensor, "batch bins frames"]:
        """`exp(m) * (cos p + i sin p)` for the network's m and p; the phase needs no unwrapping that way."""
        floor = torch.tensor(self.config.mel.floor).log().item()
        # Beyond both ends lies silence, as for the mel itself.
        frames = pad(mel, (3, 3), value=floor).transpose(1, 2)
        near = frames.unfold(1, 7, 1).flatten(2)
        x = self.first_norm(self.read(near / 4 + 1))  # log mels lie between -11.5 and 5
        for block in self.blocks:
            x = block(x)
        magnitude, phase = self.write(self.last_norm(x)).transpose(1, 2).chunk(2, dim=1)
        return torch.polar(magnitude.exp().clamp(max=MOST_MAGNITUDE), phase)
