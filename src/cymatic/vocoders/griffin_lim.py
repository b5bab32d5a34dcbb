"""Griffin-Lim as a vocoder: nothing to train, works for any mel; the fallback for every other."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.signal.griffin_lim import griffin_lim, magnitude_from_mel
from cymatic.signal.mel import MelSpec


class GriffinLimConfig(Config):
    """`rounds` of phase search, each one STFT and its inverse; `momentum` as in Perraudin et al. (2013)."""

    kind: Literal["griffin-lim"] = "griffin-lim"
    mel: MelSpec
    rounds: int = Field(default=60, ge=1, le=1000)
    momentum: float = Field(default=0.99, ge=0, lt=2)


class GriffinLimVocoder(nn.Module):
    """Log mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` at `config.mel.rate`."""

    config_class: ClassVar[type[GriffinLimConfig]] = GriffinLimConfig

    def __init__(self, config: GriffinLimConfig) -> None:
        super().__init__()
        self.config = config

    @torch.no_grad()
    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 samples"]:
        spec = self.config.mel
        magnitude = magnitude_from_mel(mel, spec)
        return griffin_lim(magnitude, spec, rounds=self.config.rounds, momentum=self.config.momentum)
