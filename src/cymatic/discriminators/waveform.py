"""Discriminators that look at samples: at every n-th one, or at all of a waveform halved in rate some times."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from cymatic.config import Config
from cymatic.discriminators.output import DiscriminatorOutput
from cymatic.errors import Error

SLOPE = 0.2  # of each leaky rectifier of a scale's discriminator
STRIDE, TAPS = 4, 41
AROUND = 7  # samples that the first layer sees on either side


class PeriodDiscriminatorConfig(Config):
    """`period`: samples. `width`: channels of the first layer."""

    kind: Literal["period"] = "period"
    period: int = Field(ge=1, le=1024)
    width: int = Field(default=16, ge=1, le=1024)

    @property
    def longest_window(self) -> int:
        """None: it looks at a waveform of any length."""
        return 0


class ScaleDiscriminatorConfig(Config):
    """`halvings`: how often the rate is halved first. `channels`: of the layer of 15 taps, of each strided one, and
    of the one of 5 taps. `groups`: of each strided one."""

    kind: Literal["scale"] = "scale"
    halvings: int = Field(default=0, ge=0, le=8)
    channels: tuple[int, ...] = (16, 64, 256, 1024, 1024, 1024)
    groups: tuple[int, ...] = (4, 16, 64, 256)

    @model_validator(mode="after")
    def _consistent(self) -> ScaleDiscriminatorConfig:
        if len(self.channels) != len(self.groups) + 2 or min(*self.channels, *self.groups, 1) < 1:
            raise ValueError("channels need two entries more than groups, and all of both are 1 at least")
        for (before, after), groups in zip(pairwise(self.channels[:-1]), self.groups, strict=True):
            if before % groups or after % groups:
                raise ValueError(f"{groups} groups can't share {before} channels that become {after}")
        return self

    @property
    def longest_window(self) -> int:
        """None: it looks at a waveform of any length."""
        return 0


class PeriodDiscriminator(nn.Module):
    """Convolutions along every `period`-th sample (HiFi-GAN: Kong et al., 2020, arXiv 2010.05646)."""

    def __init__(self, config: PeriodDiscriminatorConfig) -> None:
        super().__init__()
        self.period, width = config.period, config.width
        widths = (1, width, 2 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 1), stride=(3, 1), padding=(2, 0))) for i, o in pairwise(widths)
        )
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        x = pad(waveform, (0, -waveform.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        features = []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.1)
            features.append(x)
        return self.last(x), features


class ScaleDiscriminator(nn.Module):
    """Convolutions along a waveform: 15 taps, then grouped ones of 41 taps that each keep every fourth place, then 5
    taps and 3 (MelGAN: Kumar et al., 2019, arXiv 1910.06711, section 2.2; SoundStream has the same).

    A halving takes means of four samples, two apart.
    """

    def __init__(self, config: ScaleDiscriminatorConfig) -> None:
        super().__init__()
        self.halvings = config.halvings
        *narrow, wider = config.channels
        self.first = weight_norm(nn.Conv1d(1, narrow[0], 2 * AROUND + 1))
        layers = [
            nn.Conv1d(before, after, TAPS, STRIDE, padding=TAPS // 2, groups=groups)
            for (before, after), groups in zip(pairwise(narrow), config.groups, strict=True)
        ]
        layers.append(nn.Conv1d(narrow[-1], wider, 5, padding=2))
        self.layers = nn.ModuleList(map(weight_norm, layers))
        self.last = weight_norm(nn.Conv1d(wider, 1, 3, padding=1))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        """Raises Error where too little is left of a waveform."""
        least = (AROUND + 1) << self.halvings
        if waveform.shape[-1] < least:
            raise Error(f"{waveform.shape[-1]} samples were given to a discriminator that needs {least} at least")
        for _ in range(self.halvings):
            waveform = avg_pool1d(waveform, 4, stride=2, padding=1, count_include_pad=False)
        x = leaky_relu(self.first(pad(waveform, (AROUND, AROUND), mode="reflect")), SLOPE)
        features = [x]
        for layer in self.layers:
            x = leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.last(x), features
