"""Griffin-Lim as a vocoder: nothing to train, works for any mel; the fallback for every other."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from cymatic.cond import TargetFacts
from cymatic.config import Config
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.griffin_lim import griffin_lim, magnitude_from_mel
from cymatic.signal.mel import MelSpec, log_mel


class GriffinLimShape(Config):
    """`rounds` of phase search, each one STFT and its inverse; `momentum` as in Perraudin et al. (2013)."""

    kind: Literal["griffin-lim"] = "griffin-lim"
    rounds: int = Field(default=60, ge=1, le=1000)
    momentum: float = Field(default=0.99, ge=0, lt=2)

    def config(self, facts: TargetFacts) -> GriffinLimConfig:
        """For the mels that `facts.spec` tells of."""
        return GriffinLimConfig.model_validate({**dict(self), "mel": facts.spec})


class GriffinLimConfig(GriffinLimShape):
    """The search, and the mels that it inverts."""

    mel: MelSpec

    @property
    def reads(self) -> MelSpec:
        """What it is given."""
        return self.mel

    @property
    def gives(self) -> WaveSpec:
        """What it makes."""
        return WaveSpec(rate=self.mel.rate)


class GriffinLimVocoder(nn.Module):
    """Log mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` at `config.mel.rate`."""

    config_class: ClassVar[type[GriffinLimConfig]] = GriffinLimConfig
    steps_trained: ClassVar[int] = 1  # it needs no training

    def __init__(self, config: GriffinLimConfig) -> None:
        super().__init__()
        self.config = config

    @torch.no_grad()
    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 samples"]:
        spec = self.config.mel
        magnitude = magnitude_from_mel(mel, spec)
        return griffin_lim(magnitude, spec, rounds=self.config.rounds, momentum=self.config.momentum)

    def analyse(self, wave: Float[Tensor, "batch 1 samples"]) -> Float[Tensor, "batch mels frames"]:
        """The mels that it reads, of waveforms at `config.mel.rate`."""
        return log_mel(wave, self.config.mel)

    def distance(
        self, made: Float[Tensor, "batch 1 samples"], wanted: Float[Tensor, "batch 1 samples"]
    ) -> Float[Tensor, ""]:
        """The multi-scale mel distance of two waveforms (see `signal.distances`)."""
        return multi_scale_mel_distance(made, wanted, self.config.mel.rate)

    def matrices(self) -> list[nn.Parameter]:
        """The weights that Muon's steps are for: none."""
        return []
