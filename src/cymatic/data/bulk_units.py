"""Work in bulk: a folder of sounds, or tar archives of them as webdataset has them, cut into units.

A unit becomes one shard. The same sounds give the same units, wherever and whenever it is cut.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cymatic.config import Config
from cymatic.data import splits
from cymatic.data.captions_by_name import Captions, caption_of
from cymatic.data.contents import Contents
from cymatic.data.folder import captions_taken, chosen_captions, read_folder
from cymatic.data.layouts import CAPTION_BYTES, NO_TEXT, is_text
from cymatic.data.rows import SPLITS, Skipped
from cymatic.data.spelling import nfc
from cymatic.data.table_lines import CAPTION_FIELDS
from cymatic.data.tar import Member, TarReader
from cymatic.errors import Error, TemporaryError
from cymatic.files import IS_LFS_POINTER, into_temporary, is_lfs_pointer, reason
from cymatic.media.audio import AUDIO

MOST_BYTES = 2**30  # of the sounds of a unit, unless it has one sound only
MOST_SOUND = 2**35  # bytes of one sound in an archive
TEXT, ABOUT = ".txt", ".json"


class ListedFile(Config):
    """A file of a folder: its name in it, its caption and split, and the SHA-256 of its bytes, if they can be read."""

    name: str
    caption: str
    split: str
    content: str | None = None


class Unit(Config):
    """The sounds of one shard: files of a folder, or one `archive` with all that it holds."""

    number: int
    archive: ListedFile | None = None
    files: tuple[ListedFile, ...] = ()

    @property
    def shard(self) -> str:
        """Its name without a suffix."""
        return f"shard-{self.number:06}"


@dataclass(frozen=True)
class BulkInputs:
    """Where the sounds lie, the units, the fingerprint of all that goes in, and what was left out at once.

    captions_by: what was asked for, or what `auto` came to; chosen: that in words, where there was a choice.
    """

    root: Path
    units: tuple[Unit, ...]
    fingerprint: str
    skipped: tuple[Skipped, ...]
    captions_by: Captions = "auto"
    chosen: str = ""


@dataclass(frozen=True)
class ShardSample:
    """A sound, ready to be read at `path`; `name` is how messages and shards call it."""

    name: str
    path: Path
    caption: str
    split: str


def read_inputs(place: Path, clips: int, captions_by: Captions = "auto") -> BulkInputs:
    """The units of a folder of sounds (`clips` files or 1 GB each), or of its tar archives (one each). captions_by: see
    `read_layout`.

    Raises Error as `read_folder` does, for a place that is neither, and for archives of which captions are asked.
    """
    try:
        archives = [place] if place.is_file() else sorted(place.glob("*.tar"))
    except (OSError, ValueError) as error:
        raise Error(f"{str(place)!r:.200} can't be read ({error}); give a folder of sounds") from None
    if archives:
        if captions_by != "auto":
            raise Error(
                f"{place} holds archives, whose sounds are called as their .txt, their .json or their keys say; leave "
                "--captions out"
            )
        root = place.parent if place.is_file() else place
        with Contents(root) as contents:
            listed = [ListedFile(name=one.name, caption="", split="", content=contents.of(one)) for one in archives]
        return BulkInputs(root, tuple(Unit(number=i, archive=one) for i, one in enumerate(listed)), _digest(listed), ())
    folder = read_folder(place, role=AUDIO.name, captions_by=captions_by)
    listed, sizes = [], []
    for item in sorted(folder.items, key=lambda item: str(item.path())):
        name = item.path().relative_to(place).as_posix()
        if not is_text(name):
            folder.skipped.append(Skipped(name, NO_TEXT))
            continue
        listed.append(ListedFile(name=name, caption=item.caption, split=item.split, content=item.content))
        sizes.append(item.path().stat().st_size if item.content else 0)
    return BulkInputs(
        place, tuple(_cut(listed, sizes, clips)), _digest(listed), tuple(folder.skipped),
        captions_taken(captions_by, folder), chosen_captions(folder) if captions_by == "auto" else "",
    )  # fmt: skip


def _cut(listed: list[ListedFile], sizes: list[int], clips: int) -> Iterator[Unit]:
    files: list[ListedFile] = []
    held = number = 0
    for one, size in zip(listed, sizes, strict=True):
        if files and (len(files) == clips or held + size > MOST_BYTES):
            yield Unit(number=number, files=tuple(files))
            files, held, number = [], 0, number + 1
        files.append(one)
        held += size
    yield Unit(number=number, files=tuple(files))


def _digest(listed: list[ListedFile]) -> str:
    lines = (json.dumps([one.name, one.caption, one.split, one.content]) for one in listed)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def samples_of(root: Path, unit: Unit, skipped: list[Skipped]) -> Iterator[ShardSample]:
    """The sounds of a unit one after the other, each to be used before the next one is asked for.

    What an archive holds in vain is named in `skipped`. Raises Error where an archive can't be opened at all.
    """
    if unit.archive is None:
        for one in unit.files:
            yield ShardSample(one.name, root / one.name, one.caption, one.split)
        return
    path = root / unit.archive.name
    try:
        if is_lfs_pointer(path):
            raise Error(f"{path} {IS_LFS_POINTER}")
        with into_temporary():
            scratch = tempfile.TemporaryDirectory(prefix="cymatic-")
        with open(path, "rb") as stream, scratch as folder:
            gathered = _Gathered(unit.archive.name, Path(folder) / "sound", skipped)
            tar = TarReader(stream, unit.archive.name)
            try:
                for member in tar:
                    yield from gathered.add(member, tar)
            except TemporaryError:
                raise
            except Error as error:
                skipped.append(Skipped(unit.archive.name, str(error).removeprefix(f"{unit.archive.name} ")))
            yield from gathered.whole()
    except OSError as error:
        raise Error(f"{path} can't be read: {reason(error)}; copy it again") from None


class _Gathered:
    """The members of one key: a sound, which is put down under a name of our own, and what is said about it."""

    def __init__(self, archive: str, place: Path, skipped: list[Skipped]) -> None:
        self.archive, self.place, self.skipped = archive, place, skipped
        self.key = self.audio = ""
        self.content = ""
        self.texts: dict[str, bytes] = {}

    def add(self, member: Member, tar: TarReader) -> Iterator[ShardSample]:
        folder, _, last = member.name.rpartition("/")
        stem, dot, suffix = last.partition(".")  # as webdataset has it: the key ends at the first dot
        key, suffix = nfc(f"{folder}/{stem}" if folder else stem), dot + suffix.lower()
        if not stem:
            return
        if key != self.key:
            yield from self.whole()
            self.key = key
        if suffix in AUDIO.suffixes and not self.audio:
            if member.size > MOST_SOUND:
                self._skip(member.name, f"has {member.size} bytes, more than a sound may")
                return
            digest = hashlib.sha256()
            with into_temporary():
                file = open(self.place, "wb")  # noqa: SIM115
            with file:
                for data in tar.chunks():
                    digest.update(data)
                    with into_temporary():
                        file.write(data)
                        file.flush()
            self.audio, self.content = member.name, digest.hexdigest()
        elif suffix in (TEXT, ABOUT) and member.size <= CAPTION_BYTES:
            self.texts[suffix] = tar.read()
        else:
            self._skip(member.name, "is not a sound by its extension, or one too many", broken=False)

    def whole(self) -> Iterator[ShardSample]:
        """The sound of the members so far, if they hold one; then they are forgotten."""
        if self.audio:
            about = self._about()
            given = next((said for name in CAPTION_FIELDS if isinstance(said := about.get(name), str)), "")
            caption = " ".join(given.split()) or caption_of(self.key.rpartition("/")[2])
            yield ShardSample(f"{self.archive}:{self.audio}", self.place, caption, self._split(about))
        elif self.texts:
            self._skip(self.key, "has no sound beside what is said about it")
        self.key = self.audio = self.content = ""
        self.texts = {}

    def _about(self) -> dict[str, object]:
        about: dict[str, object] = {}
        try:
            said = json.loads(self.texts.get(ABOUT, b"{}"))
            about |= said if isinstance(said, dict) else {}
            if TEXT in self.texts:
                about = {"caption": self.texts[TEXT].decode("utf-8-sig"), **about}
        except (ValueError, RecursionError):
            self._skip(self.key, "says nothing that can be read about itself", broken=False)
        return about

    def _split(self, about: dict[str, object]) -> str:
        """As it says; else a tenth is held out by its content, or its group where it has one."""
        split = SPLITS.get(str(about.get("split", "")).strip().lower())
        unit = str(about.get("group") or self.content)
        return split or ("valid" if splits.place(unit) < splits.VALID_SHARE else "train")

    def _skip(self, name: str, why: str, *, broken: bool = True) -> None:
        self.skipped.append(Skipped(f"{self.archive}:{name}"[:400], why, broken))


@contextmanager
def named(found: ShardSample) -> Iterator[None]:
    """Errors about the file name the sound instead."""
    try:
        yield
    except TemporaryError:
        raise
    except (Error, OSError) as error:
        raise Error(str(error).replace(os.fspath(found.path), found.name)) from None
