"""What a part that reads or writes waveforms says of them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cymatic.config import Config


class WaveSpec(Config):
    """A waveform `[channels, samples]` in -1..1 at `rate` Hz. Importing this needs no torch."""

    medium: ClassVar[str] = "audio"
    rate: int = Field(gt=0, le=768_000)
    channels: int = Field(default=1, ge=1, le=64)
