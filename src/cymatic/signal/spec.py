"""`Spec`: what a part reads of a medium."""

from __future__ import annotations

from typing import ClassVar

from cymatic.config import Config


class Spec(Config):
    """How a file of a medium becomes a tensor; each medium has specs of its own (`MelSpec`, `WaveSpec`, ...).

    medium: the name of the medium. cached: whether preparing costs more than reading what was prepared. vocoded:
    whether it becomes a value of the medium again only through a vocoder. waveform: whether it is sound as it is heard,
    so that distances and discriminators of waveforms are for it.
    """

    medium: ClassVar[str]
    cached: ClassVar[bool] = False
    vocoded: ClassVar[bool] = False
    waveform: ClassVar[bool] = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the tensor that `Medium.prepare` gives; -1 where it depends on the file."""
        raise NotImplementedError

    @property
    def silence(self) -> float:
        """What the tensor holds where there is nothing."""
        return 0.0

    def seconds(self, length: int) -> float | None:
        """How long `length` steps along the open dimension last; None where length is no time."""
        return None

    def describe(self) -> str:
        """What it is, in a few words."""
        return ", ".join(f"{name} {value}" for name, value in self.model_dump().items() if value is not None)
