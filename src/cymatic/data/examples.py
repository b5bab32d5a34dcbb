"""A recipe's files -> examples in memory, with everything that was left out accounted for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from cymatic.data.packs import Sources
from cymatic.data.settings import DataSettings
from cymatic.media.medium import Spec


@dataclass(frozen=True, eq=False)
class Example:
    """What a task sees of one row.

    target: what is learned, as the target's spec has it. given: by role, what it is made from, each as its own spec
    has it. variants: other renderings of the target, met in turn, one an epoch. name: how messages call it.
    """

    target: Tensor
    given: Mapping[str, Tensor] = field(default_factory=dict)
    caption: str = ""
    variants: tuple[Tensor, ...] = ()
    name: str = ""


@dataclass(frozen=True)
class Reading:
    """A role of a row, and the spec that its file is read by.

    auto: whether data that are prepared already (see `data.vas`) may say another spec.
    """

    role: str
    spec: Spec
    auto: bool = False


@dataclass(frozen=True)
class Data:
    """Examples in memory, where they are from, and the fingerprint of it all.

    train: to learn from, each once. epoch: the same as often as their packs say (`repeat`), pack after pack. weights:
    of each in `train`, the root of its length times its pack's `repeat`: how often random crops are cut from it, since
    long ones hold more, and short ones would hardly be met otherwise. valid: held out. spec: the target's.
    """

    train: list[Example]
    epoch: list[Example]
    weights: list[float]
    valid: list[Example]
    spec: Spec
    sources: Sources
    fingerprint: str

    @property
    def seconds(self) -> float:
        """Of `train` together; 0 where length is no time."""
        raise NotImplementedError


def load_examples(
    settings: DataSettings,
    target: Reading,
    given: Sequence[Reading] = (),
    *,
    captions: bool,
    strict: bool = False,
    say: Callable[[str], None] = print,
) -> Data:
    """Reads all packs of `settings` into memory, so that what happens to the folders later does not matter."""
    raise NotImplementedError


def at_other_pitches(data: Data, settings: DataSettings, pitch: float) -> list[Example]:
    """Each sound to train on moved up and down by `pitch` semitones, as often as its pack says."""
    raise NotImplementedError
