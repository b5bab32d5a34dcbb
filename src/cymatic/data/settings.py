"""What a recipe says about its data: a folder or packs, how long a clip may be, how clips are changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from cymatic.config import Config
from cymatic.data.captions_by_name import CaptionsBy

Long = Literal["skip", "cut"]
Scalar = bool | int | float | str
Values = Annotated[
    tuple[Scalar, ...], BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given])
]
Semitones = Annotated[float, Field(ge=-24, le=24)]


class Pack(Config):
    """One folder of a recipe. A clip is used where each field in `where` has one of the values given, and none in
    `where_not` has; `caption`, `group` and `split` are fields, too."""

    folder: str
    where: dict[str, Values] = Field(default_factory=dict)
    where_not: dict[str, Values] = Field(default_factory=dict)
    longest: float | None = Field(default=None, gt=0, le=600)  # seconds; the recipe's data.longest
    long: Long | None = None  # the recipe's data.long
    repeat: int = Field(default=1, ge=1, le=100)  # how often an epoch meets each of its clips
    captions: CaptionsBy | None = None  # the recipe's data.captions
    transpose: tuple[Semitones, ...] = Field(default=(), max_length=48)  # further clips, each moved by so much


class Augmentation(Config):
    """How far clips are changed; 0 leaves them as they are.

    gain: dB up or down at most; clips are at one loudness otherwise. shift: seconds that start and end are moved at
    most, inwards by cutting, outwards by silence. filter: dB of a smooth random equaliser (its spread). mix: share of
    textures (see `data.augment.is_texture`) that are overlaid with another clip of their caption. pitch: semitones that
    each clip is moved up, and down, to make two further clips, where its caption does not speak of pitch.
    """

    gain: float = Field(default=0.0, ge=0, le=24)
    shift: float = Field(default=0.0, ge=0, le=1)
    filter: float = Field(default=0.0, ge=0, le=24)
    mix: float = Field(default=0.0, ge=0, le=1)
    pitch: float = Field(default=0.0, ge=0, le=6)

    @property
    def changes(self) -> bool:
        """Whether anything is changed at each step."""
        return bool(self.gain or self.shift or self.filter or self.mix)


class DataSettings(Config):
    """A folder; or packs, whose relative folders lie in it. `long` says what happens to clips beyond `longest`.

    captions: of which names captions are made where nothing else says them (see `data.captions_by_name`).
    balance: a field of the items, `caption` among them: each of its values is met equally often in training, however
    many items have it. augment: how examples are changed from step to step where a prior learns from them directly.
    """

    folder: str | None = None
    longest: float = Field(default=10.0, gt=0, le=600)  # seconds
    long: Long = "skip"
    packs: tuple[Pack, ...] = ()
    captions: CaptionsBy = "auto"
    balance: str | None = Field(default=None, min_length=1)
    augment: Augmentation = Augmentation()
