"""`WaveSpec`: what a part that reads waveforms reads."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cymatic.signal.spec import Spec


class WaveSpec(Spec):
    """Waveforms `[channels, samples]` at `rate` Hz, nominally in -1..1, at the level that they were recorded with."""

    medium: ClassVar[str] = "audio"
    waveform: ClassVar[bool] = True

    rate: int = Field(gt=0, le=768_000)  # Hz
    channels: int = Field(default=1, ge=1, le=64)

    @property
    def shape(self) -> tuple[int, int]:
        return self.channels, -1

    def seconds(self, samples: int) -> float:
        return samples / self.rate

    def describe(self) -> str:
        """What it is, in a few words."""
        return f"{self.rate} Hz, {self.channels} channel{'s' if self.channels > 1 else ''}"
