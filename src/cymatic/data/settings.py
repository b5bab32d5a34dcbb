"""What a recipe says about its data: a folder or packs, how long a clip may be, how clips are changed."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cymatic.config import Config
from cymatic.data.captions_by_name import Captions

Long = Literal["skip", "cut"]
Scalar = bool | int | float | str
Values = Annotated[
    tuple[Scalar, ...], BeforeValidator(lambda given: given if isinstance(given, list | tuple) else [given])
]
Decibels = Annotated[float, Field(ge=-20, le=80)]
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
    captions: Captions | None = None  # the recipe's data.captions
    transpose: tuple[Semitones, ...] = Field(default=(), max_length=48)  # further clips, each moved by so much


class Augmentation(Config):
    """How far clips are changed; 0 leaves them as they are. The first eleven are for sounds, the others for pictures.

    gain: dB up or down at most; clips are at one loudness otherwise. shift: seconds that start and end are moved at
    most, inwards by cutting, outwards by silence. filter: dB of a smooth random equaliser (its spread). mix: share of
    textures (see `data.augment.is_texture`) that are overlaid with another clip of their caption. pitch: semitones that
    each clip is moved up, and down, to make two further clips, where its caption does not speak of pitch.

    The next are for speech (see `data.augment_speech`), and change what an encoder hears; of a prior over mels that
    reads captions they change the mels. tract: share by which vocal tracts are shorter or longer
    at most; speed: share by which a sound is faster or slower at most, pitch and all; neither where its caption speaks
    of pitch. room: seconds of reverberation at most. noise: share that gets noise between white and pink. overlay:
    share that is overlaid with another item's sound. snr: the range of decibels by which either is fainter.

    move: share of the side by which a picture is moved at most; zoom: share by which it is made larger or smaller;
    colour: share by which red, green and blue are each made stronger or weaker; flip: mirrored half of the time, left
    and right, where its caption does not speak of sides or of what is read.
    """

    gain: float = Field(default=0.0, ge=0, le=24)
    shift: float = Field(default=0.0, ge=0, le=1)
    filter: float = Field(default=0.0, ge=0, le=24)
    mix: float = Field(default=0.0, ge=0, le=1)
    pitch: float = Field(default=0.0, ge=0, le=6)
    tract: float = Field(default=0.0, ge=0, le=0.3)
    speed: float = Field(default=0.0, ge=0, le=0.5)
    room: float = Field(default=0.0, ge=0, le=5)
    noise: float = Field(default=0.0, ge=0, le=1)
    overlay: float = Field(default=0.0, ge=0, le=1)
    snr: tuple[Decibels, Decibels] = (5.0, 30.0)
    move: float = Field(default=0.0, ge=0, le=0.5)
    zoom: float = Field(default=0.0, ge=0, le=0.5)
    colour: float = Field(default=0.0, ge=0, le=0.9)
    flip: bool = False

    @model_validator(mode="after")
    def _from_low_to_high(self) -> Self:
        if self.snr[0] > self.snr[1]:
            raise ValueError(f"snr goes from {self.snr[0]:g} to {self.snr[1]:g} dB; give the lower end first")
        return self

    @property
    def changes_speech(self) -> bool:
        """Whether sounds are changed as speech is, in each epoch."""
        return bool(self.tract or self.speed or self.room or self.noise or self.overlay)

    @property
    def changes(self) -> bool:
        """Whether sounds are changed at each step."""
        return bool(self.gain or self.shift or self.filter or self.mix)

    @property
    def changes_pictures(self) -> bool:
        """Whether pictures are."""
        return bool(self.move or self.zoom or self.colour or self.flip)


class DataSettings(Config):
    """A folder; or packs, whose relative folders lie in it. `long` says what happens to clips beyond `longest`.

    captions: of which names captions are made where nothing else says them (see `data.captions_by_name`); or the fields
    of a manifest whose texts are drawn from, anew each time (see `data.caption_fields`). balance: a field of the
    items, `caption` among them: each of its values is met equally often in training, however many items have it; with
    a balance_power, as often as the number of its items to that power says.
    limit: how many rows are trained on at most, of all packs together, distinct captions first (see `data.limit`).
    augment: how examples are changed from step to step where a prior learns from them directly.
    """

    folder: str | None = None
    longest: float = Field(default=10.0, gt=0, le=600)  # seconds
    long: Long = "skip"
    packs: tuple[Pack, ...] = ()
    captions: Captions = "auto"
    limit: int | None = Field(default=None, ge=1)
    balance: str | None = Field(default=None, min_length=1)
    balance_power: float = Field(default=0.0, ge=0, le=1)
    augment: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _a_power_is_of_a_balance(self) -> Self:
        if self.balance_power and self.balance is None:
            raise ValueError("balance_power is for data.balance, and there is none; give the field, or leave it out")
        return self
