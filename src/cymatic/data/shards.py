"""Shards of codes: tar archives of `KEY.cym` beside `KEY.json`, as webdataset has them, written whole and read as a
stream.

The JSON says `caption`, `seconds`, `source` and `split`. A corpus may be larger than memory and disk cache: nothing
here holds more than a buffer of items, and nothing is ever written to disk by reading.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from cymatic.data.rows import Skipped, check_strictly
from cymatic.data.tar import TarReader, TarWriter
from cymatic.errors import Error, Note
from cymatic.files import reason, writing
from cymatic.media.cym import CymHeader, CymReader
from cymatic.seeds import mixed

SHARD = ".tar"
CODES, ABOUT = ".cym", ".json"
MOST_CODES = 2**26  # bytes of one sound's codes: a day and more
MOST_ABOUT = 2**20  # bytes of what is said about it
MOST_WAITING = 2**28  # bytes of what is shuffled at once
MOST_KEY = 200  # characters


@dataclass(frozen=True, eq=False)
class CodedSound:
    """One sound of a shard: its codes, int64 `[levels, frames]`, what they are, and what was said about it."""

    key: str
    codes: Int[np.ndarray, "levels frames"]
    header: CymHeader
    caption: str
    seconds: float
    source: str
    split: str


@dataclass(frozen=True)
class ShardBytes:
    """One sound of a shard as its bytes, before anybody looked inside. `place`: how messages call it."""

    key: str
    place: str
    codes: bytes
    about: bytes

    def sound(self) -> CodedSound:
        """Raises Error for what is no `.cym` file, is damaged or cut short, or says nothing usable about itself."""
        try:
            about = json.loads(self.about)
            caption, seconds, source, split = (about[name] for name in ("caption", "seconds", "source", "split"))
            if not all(isinstance(text, str) for text in (caption, source, split)):
                raise TypeError("no text")
            seconds = float(seconds)
        except (ValueError, RecursionError, KeyError, TypeError):
            raise Error(f"{self.place}{ABOUT} does not say caption, seconds, source and split") from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Note)  # of a file that is cut short: here it is damaged
            reader = CymReader(io.BytesIO(self.codes), self.place + CODES)
            blocks = [np.zeros((len(reader.header.sizes), 0), np.int64), *reader]
        if reader.samples is None:
            raise Error(f"{self.place}{CODES} is cut short; get it again")
        return CodedSound(self.key, np.concatenate(blocks, axis=1), reader.header, caption, seconds, source, split)


def write_shard(path: str | os.PathLike[str], sounds: Iterable[tuple[str, bytes, Mapping[str, Any]]]) -> int:
    """Writes sounds (a key, the bytes of a `.cym` file, what is said about it) as they come; returns the bytes.

    The shard appears whole or not at all, and the same sounds give the same bytes. Raises Error for a key that can't
    be, one that does not come after the one before it, and where the file can't be written.
    """
    before = ""
    with writing(path) as file:
        tar = TarWriter(file)
        for key, codes, about in sounds:
            if trouble := _trouble(key):
                raise Error(f"{key!r:.200} can't be the key of a sound: it {trouble}")
            if key <= before:
                raise Error(f"{key} came after {before}; give the sounds of a shard in the order of their keys")
            tar.add(key + CODES, codes)
            tar.add(key + ABOUT, json.dumps(dict(about), ensure_ascii=False, sort_keys=True).encode() + b"\n")
            before = key
        tar.close()
    return tar.written


def _trouble(key: str) -> str:
    """Why a key can't be one; nothing where it can."""
    if not key or len(key) > MOST_KEY:
        return f"has {len(key)} characters, and 1 to {MOST_KEY} are needed"
    if not key.isprintable() or "\\" in key:
        return "holds characters that no name should"
    if any(part in ("", ".", "..") for part in key.split("/")):
        return "leads out of its archive"
    return "holds a dot" if "." in key.rpartition("/")[2] else ""


def find_shards(place: str | os.PathLike[str]) -> list[Path]:
    """One shard, or those of a folder in the order of their names. Raises Error where there are none."""
    path = Path(place)
    try:
        found = sorted(path.glob(f"*{SHARD}")) if path.is_dir() else [path] if path.is_file() else []
    except (OSError, ValueError) as error:
        raise Error(f"{str(place)!r:.200} can't be read ({error}); give a shard or a folder of them") from None
    if not found:
        raise Error(f"{place} holds no shard (*{SHARD}); give a shard that cymatic encode wrote, or a folder of them")
    return found


def read_shard(path: Path, skipped: list[Skipped]) -> Iterator[ShardBytes]:
    """The sounds of a shard one after the other; what is damaged is left out and named in `skipped`."""
    parts: dict[str, bytes] = {}
    key, seen, refused = "", "", ""

    def said(what: str, why: str) -> None:
        skipped.append(Skipped(f"{path}:{what}" if what else str(path), why))

    def whole() -> Iterator[ShardBytes]:
        if key and len(parts) == 2:
            yield ShardBytes(key, f"{path}:{key}", parts[CODES], parts[ABOUT])
        elif key and parts:
            said(key, f"lacks its {CODES if ABOUT in parts else ABOUT}")

    try:
        with open(path, "rb") as stream:
            tar = TarReader(stream, str(path))
            for member in tar:
                name, suffix = os.path.splitext(member.name)
                most = {CODES: MOST_CODES, ABOUT: MOST_ABOUT}.get(suffix)
                trouble = "is no codes and nothing about them" if most is None else _trouble(name)
                if most is not None and member.size > most:
                    trouble = f"has {member.size} bytes, more than the {most} that can be"
                if trouble:
                    said(repr(member.name)[1:-1][:MOST_KEY], trouble)
                    continue
                if name == refused:
                    continue
                if name != key:
                    yield from whole()
                    parts, key = {}, ""
                    if name <= seen:
                        said(name, "is there twice, or out of order")
                        refused = name
                        continue
                    key = seen = name
                if suffix in parts:
                    said(member.name, "is there twice")
                else:
                    parts[suffix] = tar.read()
        yield from whole()
    except Error as error:
        yield from whole()
        said("", str(error).removeprefix(f"{path} "))
    except OSError as error:
        said("", f"can't be read: {reason(error)}")


@dataclass
class Shards:
    """The sounds of one shard, or of a folder of them, as a stream in constant memory.

    `skipped` names what was damaged in what was read last; with `strict` the first of it raises Error. Of `ranks`
    processes each is given every `ranks`th sound of one order, from `rank` on, so that together they have each sound
    once, whatever the sizes of the shards.
    """

    place: str | os.PathLike[str]
    strict: bool = False
    rank: int = 0
    ranks: int = 1
    skipped: list[Skipped] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.paths = find_shards(self.place)

    def __iter__(self) -> Iterator[CodedSound]:
        """In the order in which they were written."""
        return self._opened(self._own(self._raw(self.paths)))

    def shuffled(self, seed: int, epoch: int = 0, buffer: int = 1000) -> Iterator[CodedSound]:
        """In an order that seed and epoch alone determine: shards at random, and sounds out of a buffer of `buffer`."""
        return self._opened(self._own(self.raw_shuffled(seed, epoch, buffer)))

    def raw_shuffled(self, seed: int, epoch: int = 0, buffer: int = 1000) -> Iterator[ShardBytes]:
        """As `shuffled`, for all processes together, and nobody has looked at the codes yet."""
        chance = np.random.Generator(np.random.PCG64(mixed(seed, epoch)))
        waiting: list[ShardBytes] = []
        held = 0
        for raw in self._raw([self.paths[i] for i in chance.permutation(len(self.paths))]):
            waiting.append(raw)
            held += len(raw.codes) + len(raw.about)
            while len(waiting) > buffer or held > MOST_WAITING:
                chosen = _taken(waiting, chance)
                held -= len(chosen.codes) + len(chosen.about)
                yield chosen
        while waiting:
            yield _taken(waiting, chance)

    def _raw(self, paths: Sequence[Path]) -> Iterator[ShardBytes]:
        self.skipped.clear()
        for path in paths:
            for raw in read_shard(path, self.skipped):
                self._check()
                yield raw
            self._check()

    def _own(self, raws: Iterator[ShardBytes]) -> Iterator[ShardBytes]:
        return (raw for i, raw in enumerate(raws) if i % self.ranks == self.rank)

    def _opened(self, raws: Iterator[ShardBytes]) -> Iterator[CodedSound]:
        for raw in raws:
            if (sound := self.opened(raw)) is not None:
                yield sound

    def opened(self, raw: ShardBytes) -> CodedSound | None:
        """The sound; None for one that is damaged, which is then among the `skipped`. With `strict`, raises Error."""
        try:
            return raw.sound()
        except Error as error:
            self.skipped.append(Skipped(raw.place, str(error).removeprefix(raw.place).removeprefix(CODES).strip()))
            self._check()
            return None

    def _check(self) -> None:
        if self.strict:
            check_strictly(self.skipped)


def _taken(waiting: list[ShardBytes], chance: np.random.Generator) -> ShardBytes:
    at = int(chance.integers(len(waiting)))
    waiting[at], waiting[-1] = waiting[-1], waiting[at]
    return waiting.pop()
