"""What a recipe for a waveform codec says of its loss: distances, and judges."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from cymatic.config import Config
from cymatic.discriminators.losses import Rule


class ObjectiveSettings(Config):
    """What a waveform codec's sound is compared by, as weights (see `signal.distances`, `signal.channel_average`).

    mel: multi-scale mels. loud: magnitudes by their roots. phase: complex spectra. stages: the mean
    channel of each of SoundStream's decoder stages against the sound.
    white: how far the latent is from a unit Gaussian (`nn.whiteness`).
    opening: the share of the steps in which a low-pass over what the codec is shown opens; 0 shows all from the
    start.
    """

    mel: float = Field(default=1.0, ge=0)
    loud: float = Field(default=1.0, ge=0)
    phase: float = Field(default=0.5, ge=0)
    stages: float = Field(default=0.0, ge=0)
    white: float = Field(default=0.03, ge=0)
    opening: float = Field(default=0.0, ge=0, le=1)


class WaveJudgeSettings(Config):
    """How a waveform codec meets its judges (see `adversarial`).

    judges: `spectrograms` and combs, or Lumen's set. choice: all of them at each step, or one for `every` steps, more
    often one that is hard to fool. alone: only what judges teach, and nothing of the objective once they are all there.
    """

    judges: Literal["spectrograms", "lumen"] = "spectrograms"
    width: int = Field(default=16, ge=1, le=512)  # of spectrograms'
    start: int = Field(default=6000, ge=0)  # steps before the judges come
    warmup: int = Field(default=500, ge=1)  # steps over which their push grows
    judged: int = Field(default=4, ge=1)  # pieces of a batch that the judges hear
    rate: float = Field(default=4.0, gt=0)  # of their steps, in the codec's
    rule: Rule = "hinge"
    weight: float = Field(default=1.0, ge=0)  # of what fools them
    features: float = Field(default=2.0, ge=0)  # of feature matching
    repulsion: float = Field(default=0.0, ge=0)
    choice: Literal["all", "difficulty"] = "all"
    every: int = Field(default=100, ge=1)
    balanced: bool = False  # weights are shares of the gradient, by EnCodec's balancer
    alone: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.balanced and self.alone:
            raise ValueError(
                "balanced weighs what judges teach against distances, and alone leaves these out; give one of the two"
            )
        return self
