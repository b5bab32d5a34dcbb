"""Real recordings in memory, as an evaluation and the training of a judge need them: sounds, captions, fields."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cymatic.data.cache import Cache
from cymatic.data.facts import facts_of, say_trouble
from cymatic.data.folder import Item
from cymatic.data.packs import Sources, fingerprint
from cymatic.data.settings import Long
from cymatic.encoders.text import normalise
from cymatic.errors import Error, PromptError
from cymatic.evaluation.diversity import by_caption
from cymatic.media.audio_facts import read_windows, windows
from cymatic.media.sound import Sound
from cymatic.pipelines.finish import check_positive

MOST_TRAIN, MOST_HELD_OUT = 2000, 500  # clips that are read; of more, of every caption about as many
LONGEST = 10.0  # seconds, where nobody says otherwise


@dataclass(frozen=True)
class Recordings:
    """Sounds of one channel, their captions (normalised), and what else is known of each."""

    sounds: list[Sound]
    captions: list[str]
    fields: list[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.sounds)

    def at(self, rows: Sequence[int]) -> Recordings:
        """Those rows."""
        return Recordings(
            [self.sounds[row] for row in rows], [self.captions[row] for row in rows], [self.fields[row] for row in rows]
        )


@dataclass(frozen=True)
class Corpus:
    """What a model was trained on and what was held out, as far as it was read; `there`: how many there are in all.

    sha256: of contents, captions and splits of all that are there.
    """

    names: list[str]
    train: Recordings
    valid: Recordings
    there: tuple[int, int]
    skipped: list[str]
    sha256: str


def read_corpus(sources: Sources, rate: int, *, longest: float = LONGEST, long: Long = "skip", seed: int = 0) -> Corpus:
    """Up to 2,000 clips trained on and 500 held out, as mono at `rate` Hz, of every caption about as many.

    A recording longer than `longest` seconds (or than its pack says) is left out, or gives its first window where long
    ones are cut. Raises Error where nothing is left to compare with.
    """
    check_positive("the length of the longest sound, in seconds,", longest, math.inf)
    cache = Cache()
    skipped: list[str] = []
    read: dict[str, Recordings] = {}
    there: dict[str, int] = {}
    for split, most in (("train", MOST_TRAIN), ("valid", MOST_HELD_OUT)):
        listed = [
            (item, source.pack.longest or longest, source.pack.long or long)
            for source in sources.packs
            for item in source.of(split)
        ]
        there[split] = len(listed)
        chosen = [listed[row] for row in balanced([item.caption for item, *_ in listed], most, seed)]
        with ThreadPoolExecutor() as pool:
            found = list(pool.map(lambda one: _load(*one, rate=rate, cache=cache), chosen))
        good = [one for one in found if not isinstance(one, str)]
        skipped += [one for one in found if isinstance(one, str)]
        read[split] = Recordings([one[0] for one in good], [one[1] for one in good], [one[2] for one in good])
    say_trouble(cache)
    names = [str(source.folder.root) for source in sources.packs]
    if not read["train"]:
        raise Error(f"none of the {there['train']} sounds in {', '.join(names)} can be used ({'; '.join(skipped[:2])})")
    everything = fingerprint(sources.of("train") + sources.of("valid"))
    return Corpus(names, read["train"], read["valid"], (there["train"], there["valid"]), skipped, everything)


def _load(
    item: Item, longest: float, long: Long, *, rate: int, cache: Cache
) -> tuple[Sound, str, Mapping[str, Any]] | str:
    """A recording, its caption and fields; or why it is left out."""
    try:
        facts, sound = facts_of(item, cache, keep=longest)
        if facts.empty:
            return f"{item.path()} is silent"
        seconds = facts.length or 0.0
        if seconds > longest and long == "skip":
            return f"{item.path()} is {seconds:.1f} s long, more than {longest:g} s"
        if seconds > longest:
            sound = read_windows(item.path(), windows(facts, longest))[0]
        caption = normalise(item.caption)
        return (sound or Sound.read(item.path())).mono().resample(rate), caption, item.fields
    except (Error, OSError) as error:
        return str(error)


def readable(caption: str) -> str | None:
    """A caption as models spell it; None for one that can't be a prompt."""
    try:
        return normalise(caption)
    except PromptError:
        return None


def balanced(captions: Sequence[str], most: int, seed: int = 0) -> list[int]:
    """At most `most` rows in order, of every caption about as many; the same for the same seed."""
    if len(captions) <= most:
        return list(range(len(captions)))
    chance = np.random.default_rng(seed)
    turns = [
        (turn, float(chance.random()), row)
        for rows in by_caption(captions).values()
        for turn, row in enumerate(chance.permutation(rows).tolist())
    ]
    return sorted(row for *_, row in sorted(turns)[:most])


def plain(value: object) -> Any:
    """Values as JSON has them: six digits are enough, and NaN is null."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value


def as_json(value: object) -> bytes:
    """`plain` as bytes."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n").encode()
