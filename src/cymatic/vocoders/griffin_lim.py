"""Griffin-Lim as a vocoder: nothing to train, works for any mel; the fallback for every other."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from cymatic.signal.griffin_lim import griffin_lim, magnitude_from_mel
from cymatic.vocoders.mel_vocoder import MelVocoder, MelVocoderConfig


class GriffinLimConfig(MelVocoderConfig):
    """`rounds` of phase search, each one STFT and its inverse; `momentum` as in Perraudin et al. (2013)."""

    kind: Literal["griffin-lim"] = "griffin-lim"
    rounds: int = Field(default=60, ge=1, le=1000)
    momentum: float = Field(default=0.99, ge=0, lt=2)


class GriffinLimVocoder(MelVocoder):
    """Log mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` at `config.mel.rate`."""

    config_class: ClassVar[type[GriffinLimConfig]] = GriffinLimConfig
    config: GriffinLimConfig
    steps_trained = 1  # it needs no training

    def __init__(self, config: GriffinLimConfig) -> None:
        super().__init__()
        self.config = config

    @torch.no_grad()
    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 samples"]:
        spec = self.config.mel
        magnitude = magnitude_from_mel(mel, spec)
        return griffin_lim(magnitude, spec, rounds=self.config.rounds, momentum=self.config.momentum)
