"""Several discriminators of waveforms side by side, and the sets of them that papers chose.

Each gives a map of scores and the features on the way to it. No batch statistics anywhere: an item's score does not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.discriminators.output import DiscriminatorOutput
from cymatic.discriminators.spectrogram import SpectrogramDiscriminator, SpectrogramDiscriminatorConfig
from cymatic.discriminators.waveform import (
    PeriodDiscriminator,
    PeriodDiscriminatorConfig,
    ScaleDiscriminator,
    ScaleDiscriminatorConfig,
)
from cymatic.errors import Error

DiscriminatorConfig = Annotated[
    SpectrogramDiscriminatorConfig | PeriodDiscriminatorConfig | ScaleDiscriminatorConfig, Field(discriminator="kind")
]


class DiscriminatorSetConfig(Config):
    """Which discriminators sit side by side."""

    kind: Literal["discriminators"] = "discriminators"
    discriminators: tuple[DiscriminatorConfig, ...] = Field(min_length=1)

    @property
    def window(self) -> int:
        """Samples of the longest window that one of them looks at; 0 where none has windows."""
        return max(one.longest_window for one in self.discriminators)


class DiscriminatorSet(nn.Module):
    """One module for each discriminator of its config, in that order. Channels of a sound are outputs each on its
    own."""

    config_class = DiscriminatorSetConfig

    def __init__(self, config: DiscriminatorSetConfig) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        self.discriminators = nn.ModuleList(map(_built, config.discriminators))

    def forward(
        self,
        waveform: Float[Tensor, "batch channels samples"],
        which: Sequence[int] | None = None,
        vector: Float[Tensor, "batch dim"] | None = None,
    ) -> list[DiscriminatorOutput]:
        """The output of all discriminators, or of those in `which`; channels are items of the batch.

        Raises Error for a vector: discriminators of waveforms know no conditions.
        """
        if vector is not None:
            raise Error("discriminators of waveforms know no conditions, and were given some")
        mono = waveform.flatten(0, 1)[:, None]
        return [self.discriminators[i](mono) for i in (range(len(self.discriminators)) if which is None else which)]


def _built(config: DiscriminatorConfig) -> nn.Module:
    match config:
        case SpectrogramDiscriminatorConfig():
            return SpectrogramDiscriminator(config)
        case PeriodDiscriminatorConfig():
            return PeriodDiscriminator(config)
        case ScaleDiscriminatorConfig():
            return ScaleDiscriminator(config)


def spectrograms_and_periods(
    *, windows: Sequence[int] = (1024, 512, 256), periods: Sequence[int] = (2, 3, 5, 7), width: int = 16
) -> DiscriminatorSetConfig:
    """One discriminator of spectrograms for each window length, then one for each period; as Vocos and DAC have
    them."""
    spectrograms = [SpectrogramDiscriminatorConfig(window=window, width=width) for window in windows]
    return DiscriminatorSetConfig(
        discriminators=(*spectrograms, *(PeriodDiscriminatorConfig(period=p, width=width) for p in periods))
    )


def melgan_scales(*, width: int = 16, depth: int = 4, scales: int = 3) -> DiscriminatorSetConfig:
    """MelGAN's discriminators, which are SoundStream's, too; each at half the rate of the one before."""
    channels, groups = [width], []
    for _ in range(depth):
        groups.append(max(1, channels[-1] // 4))
        channels.append(min(4 * channels[-1], 1024))
    channels.append(min(2 * channels[-1], 1024))
    made = [ScaleDiscriminatorConfig(halvings=i, channels=tuple(channels), groups=tuple(groups)) for i in range(scales)]
    return DiscriminatorSetConfig(discriminators=tuple(made))


def lumen() -> DiscriminatorSetConfig:
    """As many discriminators as Lumen (audio_generation, 2023) has, of its widths: three scales of the waveform and
    five spectrograms of windows of 2048 to 128 samples."""
    channels, groups = (16, 64, 256, 512, 1024, 1024), (4, 16, 64, 256)
    scales = [ScaleDiscriminatorConfig(halvings=i, channels=channels, groups=groups) for i in range(3)]
    spectrograms = [SpectrogramDiscriminatorConfig(window=2048 >> i, width=32) for i in range(5)]
    return DiscriminatorSetConfig(discriminators=(*scales, *spectrograms))
