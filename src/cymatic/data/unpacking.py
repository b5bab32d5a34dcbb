"""Tar archives as webdataset has them (`key.png`, `key.txt`, `key.json`) -> a folder with a manifest.

Members of one key that follow each other are one row: files of known media, each under its medium's name, the caption
of `.txt`, and the fields of `.json`. Names in an archive are somebody else's, so files get names of our own; the key
stands in the row.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cymatic.data.rows import Skipped
from cymatic.data.spelling import nfc
from cymatic.data.tar import Member, TarReader
from cymatic.errors import Error
from cymatic.files import reason
from cymatic.media import medium_of

MANIFEST = "manifest.jsonl"
TEXT, ABOUT = ".txt", ".json"
MOST_FILE, MOST_TEXT = 2**30, 2**16  # bytes of a member
IN_ONE_FOLDER = 1000


@dataclass
class Unpacked:
    """Where it lies, how many rows there are, and what was left out."""

    folder: Path
    rows: int = 0
    skipped: list[Skipped] = field(default_factory=list)


def archives_in(place: Path) -> list[Path]:
    """The archive itself, or those of a folder. Raises Error where there is none."""
    found = sorted(place.glob("*.tar")) if place.is_dir() else [place] if place.is_file() else []
    if not found:
        raise Error(f"{place} is no tar archive and no folder of them; give one, as webdataset writes them")
    return found


def unpack(archives: Sequence[Path], output: Path, *, on_row: Callable[[int], None] = lambda rows: None) -> Unpacked:
    """Writes what `archives` hold into the new folder `output`, which appears whole or not at all.

    Raises Error for an archive that is damaged or can't be read, an `output` that is there already or can't be made,
    and archives without any row.
    """
    if os.path.lexists(output):
        raise Error(f"{output} is there already; give the name of a new folder")
    if not output.absolute().parent.is_dir():
        raise Error(f"{output} can't be made: there is no folder {output.parent}; create it or give another")
    found = Unpacked(output)
    try:
        with tempfile.TemporaryDirectory(prefix=".cymatic-", dir=output.absolute().parent) as scratch:
            work = Path(scratch) / "made"
            work.mkdir()
            with open(work / MANIFEST, "w", encoding="utf-8") as manifest:
                for archive in archives:
                    for row in _rows(archive, work, found):
                        manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
                        on_row(found.rows)
            if not found.rows:
                named = "; ".join(f"{one.name} {one.why}" for one in found.skipped[:3])
                raise Error(f"{archives[0]} holds no picture or sound{f' ({named})' if named else ''}; give another")
            os.rename(work, output)
    except OSError as error:
        raise Error(f"{error.filename or output}: {reason(error)}; free space or give another folder") from None
    return found


def _rows(archive: Path, work: Path, found: Unpacked) -> Iterator[dict[str, Any]]:
    gathered = _Gathered(archive.name, work, found)
    with open(archive, "rb") as stream:
        tar = TarReader(stream, archive.name)
        for member in tar:
            folder, _, last = member.name.rpartition("/")
            stem, dot, suffix = last.partition(".")  # as webdataset has it: the key ends at the first dot
            key = nfc(f"{folder}/{stem}" if folder else stem)
            if not stem:
                continue
            if key != gathered.key:
                yield from gathered.whole()
                gathered = _Gathered(archive.name, work, found, key)
            gathered.add(member, dot + suffix.lower(), tar)
    yield from gathered.whole()


class _Gathered:
    """The members of one key."""

    def __init__(self, archive: str, work: Path, found: Unpacked, key: str = "") -> None:
        self.archive, self.work, self.found, self.key = archive, work, found, key
        self.files: dict[str, str] = {}
        self.about: dict[str, Any] = {}
        self.caption = ""

    def add(self, member: Member, suffix: str, tar: TarReader) -> None:
        medium = medium_of(f"x{suffix}")
        if suffix in (TEXT, ABOUT) and member.size <= MOST_TEXT:
            self._say(member.name, suffix, tar.read())
        elif medium is None or suffix not in medium.suffixes or medium.name in self.files or member.size > MOST_FILE:
            why = "is of no kind that is known, too large, or one too many"
            self.found.skipped.append(Skipped(f"{self.archive}:{member.name}"[:400], why, broken=False))
        else:
            number = self.found.rows
            name = f"{number // IN_ONE_FOLDER:04d}/{number % IN_ONE_FOLDER:03d}{suffix}"
            (self.work / name).parent.mkdir(exist_ok=True)
            with open(self.work / name, "wb") as file:
                file.writelines(tar.chunks())
            self.files[medium.name] = name

    def _say(self, name: str, suffix: str, data: bytes) -> None:
        try:
            if suffix == TEXT:
                self.caption = " ".join(data.decode("utf-8-sig").split())
                return
            said = json.loads(data)
            self.about = said if isinstance(said, dict) else {}
        except (ValueError, RecursionError):
            self.found.skipped.append(Skipped(f"{self.archive}:{name}"[:400], "can't be read; it should be UTF-8"))

    def whole(self) -> Iterator[dict[str, Any]]:
        """The row, if there is a file in it."""
        if self.files:
            self.found.rows += 1
            caption = {"caption": self.caption} if self.caption else {}
            yield {**self.about, **self.files, **caption, "key": f"{self.archive}:{self.key}"}
        elif self.about or self.caption:
            why = "has no file beside what is said about it"
            self.found.skipped.append(Skipped(f"{self.archive}:{self.key}"[:400], why))
