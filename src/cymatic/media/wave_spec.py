"""`WaveSpec`: what a part that reads waveforms reads."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cymatic.config import Config


class WaveSpec(Config):
    """Waveforms `[channels, samples]` at `rate` Hz, nominally in -1..1, at the level that they were recorded with."""

    medium: ClassVar[str] = "audio"
    cached: ClassVar[bool] = False  # a waveform is as large as its file

    rate: int = Field(gt=0, le=768_000)  # Hz
    channels: int = Field(default=1, ge=1, le=64)

    @property
    def shape(self) -> tuple[int, int]:
        return self.channels, -1

    @property
    def silence(self) -> float:
        """What a waveform holds where there is no sound."""
        return 0.0

    def seconds(self, samples: int) -> float:
        return samples / self.rate
