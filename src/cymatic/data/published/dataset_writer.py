"""Writing a pack: sounds first, each whole or not at all, the manifest last, and the folder's name when all is there.

Until then the folder is called NAME.part, so nothing takes a half-made pack for a whole one, and the next attempt
finds in it what the last one made.
"""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import soundfile

from cymatic.data.published.catalogue import Published
from cymatic.errors import Error
from cymatic.files import reason, sync, write_atomically

ManifestRow = dict[str, Any]  # one line of a manifest: id, audio, caption, seconds, split and what else is known


class DatasetWriter:
    """The folder in which a pack is being made."""

    def __init__(self, pack: Published, folder: Path, *, on_sound: Callable[[int], None] = lambda done: None) -> None:
        """folder: holds all packs; on_sound: told how many sounds are done, those of an earlier attempt included."""
        self.pack, self.folder, self.on_sound = pack, folder, on_sound
        self.target = folder / pack.name
        self.work = folder / f"{pack.name}.part"
        self.downloads = folder / "downloads"
        self.done = 0

    def open(self) -> None:
        """Makes the folder, and says before the work whether it could be given its name after it. Raises Error."""
        if self.target.exists() or self.target.is_symlink():
            raise Error(f"{self.target} is in the way; move it away or give another folder with -o")
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"{self.work} can't be made: {reason(error)}; give another folder with -o") from error

    def has(self, audio: str, rate: int) -> float | None:
        """The length in seconds of a sound that an earlier attempt wrote; None where there is none that is right."""
        try:
            info = soundfile.info(self.work / audio)
        except (soundfile.SoundFileError, RuntimeError, OSError):
            return None
        return info.frames / info.samplerate if info.samplerate == rate and info.channels == 1 and info.frames else None

    def put(self, audio: str, data: bytes) -> None:
        """Writes one file of the pack. Raises Error."""
        path = self.work / audio
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Error(f"{path.parent} can't be made: {reason(error)}; give another folder with -o") from error
        write_atomically(path, data, durable=False)  # thousands of them; `close` waits for the disk once

    def count(self, sounds: int = 1) -> None:
        self.done += sounds
        self.on_sound(self.done)

    def close(self, rows: Sequence[ManifestRow], *, made: str, licence_text: str) -> Path:
        """Writes manifest, README and licence, and gives the folder its name. Raises Error."""
        self.put("LICENSE", licence_text.encode())
        self.put("README.md", _readme(self.pack, rows, made).encode())
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self.put("manifest.jsonl", lines.encode())
        try:
            for path in (self.work, *self.work.rglob("*")):
                sync(path)
            os.rename(self.work, self.target)
            sync(self.target.parent)
        except OSError as error:
            raise Error(
                f"{self.work} is whole but can't be called {self.target} ({reason(error)}); rename it yourself"
            ) from error
        return self.target


def read_manifest(folder: Path) -> list[ManifestRow] | None:
    """The rows of a pack that is there; None where its manifest can't be read."""
    try:
        lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        return [dict(json.loads(line)) for line in lines if line.strip()]
    except (OSError, ValueError, TypeError):
        return None


def encoded(samples: Any, rate: int, container: str, subtype: str) -> bytes:
    """A file in memory, of one channel: integers as they are, or floats in -1..1."""
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, subtype, format=container) as stream:
        for start in range(0, len(samples), 2**16):  # libsndfile puts a whole Vorbis write on the stack
            stream.write(samples[start : start + 2**16])
    return buffer.getvalue()


def splits_of(rows: Sequence[ManifestRow]) -> str:
    """`2400 train, 300 valid`."""
    counts = Counter(row["split"] for row in rows)
    return ", ".join(f"{counts[split]} {split}" for split in ("train", "valid", "test") if counts[split])


def _readme(pack: Published, rows: Sequence[ManifestRow], made: str) -> str:
    minutes = sum(row["seconds"] for row in rows) / 60
    return (
        f"# {pack.name}: {pack.title}\n\n"
        f"{len(rows)} sounds, {minutes:.1f} minutes; splits: {splits_of(rows)}.\n\n"
        f"**Source.** {pack.home}; all of it: {pack.address}\n\n"
        f"**Licence.** {pack.licence} ({pack.licence_address}). See LICENSE.\n\n"
        f"**How it was made.** By `cymatic data get {pack.name}`. {made}\n\n"
        f"**manifest.jsonl** has one row a sound: {', '.join(f'`{key}`' for key in _keys(rows))}.\n"
    )


def _keys(rows: Sequence[ManifestRow]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))
