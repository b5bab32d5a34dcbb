"""Real clips in memory, as an evaluation and the training of a classifier need them: values, captions, fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cymatic.data.folder import Item
from cymatic.data.packs import Sources, fingerprint
from cymatic.data.settings import Pack
from cymatic.encoders.text import normalise
from cymatic.errors import Error
from cymatic.evaluation.captions import balanced

MOST_TRAIN, MOST_HELD_OUT = 2000, 500  # clips that are read; of more, of every caption about as many


@dataclass(frozen=True)
class Clips:
    """Values of one domain (sounds, pictures, mels), their captions, and what else is known of each."""

    values: list[Any]
    captions: list[str]
    fields: list[Mapping[str, Any]]

    @classmethod
    def of(cls, values: Sequence[Any], captions: Sequence[str]) -> Clips:
        """Clips of which nothing but the captions is known."""
        return cls(list(values), list(captions), [{} for _ in captions])

    def __len__(self) -> int:
        return len(self.values)

    def at(self, rows: Sequence[int]) -> Clips:
        """Those rows."""
        return Clips(
            [self.values[row] for row in rows], [self.captions[row] for row in rows], [self.fields[row] for row in rows]
        )


@dataclass(frozen=True)
class Corpus:
    """What a model was trained on and what was held out, as far as it was read; `there`: how many there are in all.

    sha256: of contents, captions and splits of all that are there.
    """

    names: list[str]
    train: Clips
    valid: Clips
    there: tuple[int, int]
    skipped: list[str]
    sha256: str

    @classmethod
    def of(cls, train: Clips, valid: Clips) -> Corpus:
        """Clips that are in memory already."""
        return cls(["the clips"], train, valid, (len(train), len(valid)), [], "")


OnClip = Callable[[int, int], None]  # told how many clips are done, and how many there are


def silently(done: int, total: int) -> None:
    """For whoever does not follow a work."""


def read_corpus(
    sources: Sources, read: Callable[[Item, Pack], Any], *, seed: int = 0, on_clip: OnClip = silently
) -> Corpus:
    """Up to 2,000 clips trained on and 500 held out, of every caption about as many, their captions normalised.

    read: the value of an item of a pack, or a text that says why it is left out; what it raises as Error or OSError
    leaves an item out, too. It is called in several threads. Raises Error where nothing is left to compare with.
    """

    def load(item: Item, pack: Pack) -> tuple[Any, str, Mapping[str, Any]] | str:
        try:
            value = read(item, pack)
            return value if isinstance(value, str) else (value, normalise(item.caption), item.fields)
        except (Error, OSError) as error:
            return str(error)

    skipped: list[str] = []
    clips: dict[str, Clips] = {}
    there: dict[str, int] = {}
    chosen: dict[str, list[tuple[Item, Pack]]] = {}
    for split, most in (("train", MOST_TRAIN), ("valid", MOST_HELD_OUT)):
        listed = [(item, source.pack) for source in sources.packs for item in source.of(split)]
        there[split] = len(listed)
        chosen[split] = [listed[row] for row in balanced([item.caption for item, _ in listed], most, seed)]
    done, total = 0, sum(map(len, chosen.values()))
    for split, some in chosen.items():
        found = []
        with ThreadPoolExecutor() as pool:
            for one in pool.map(lambda one: load(*one), some):
                on_clip(done, total)
                found.append(one)
                done += 1
        good = [one for one in found if not isinstance(one, str)]
        skipped += [one for one in found if isinstance(one, str)]
        clips[split] = Clips([one[0] for one in good], [one[1] for one in good], [one[2] for one in good])
    names = [str(source.folder.root) for source in sources.packs]
    if not clips["train"]:
        raise Error(f"none of the {there['train']} files in {', '.join(names)} can be used ({'; '.join(skipped[:2])})")
    everything = fingerprint(sources.of("train") + sources.of("valid"))
    return Corpus(names, clips["train"], clips["valid"], (there["train"], there["valid"]), skipped, everything)
