"""The user's cache of what can be computed again: contents, facts and features of recordings.

It lies in `CYMATIC_CACHE`, else where the system keeps caches, and never in a folder of recordings. An entry is one
file, named by the SHA-256 of its key and ended by a checksum, written under another name and renamed: any number of
processes may share the cache, and a damaged entry is as good as none. So an entry need not outlive a power cut, and
thousands are written without waiting for the disk (no fsync). What was written longest ago makes room.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from contextlib import suppress
from pathlib import Path

from cymatic.errors import Error
from cymatic.files import reason, write_atomically

CHECKSUM_BYTES = 4
LARGEST = 10.0  # GB that all entries may take; CYMATIC_CACHE_GB says otherwise
LOOK_EVERY = 200e6  # bytes written between two looks at how large it has become


def cache_folder() -> Path:
    """Where the cache lies: `CYMATIC_CACHE`, else below XDG_CACHE_HOME, ~/Library/Caches or LOCALAPPDATA."""
    if chosen := os.environ.get("CYMATIC_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "cymatic" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cymatic"
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "cymatic"  # as XDG says


def largest() -> float:
    """Bytes that the cache may take. Raises Error where CYMATIC_CACHE_GB is no number from 0 up."""
    given = os.environ.get("CYMATIC_CACHE_GB", "")
    try:
        most = float(given) if given else LARGEST
    except ValueError:
        most = -1.0
    if not most >= 0:
        raise Error(f'CYMATIC_CACHE_GB is "{given}"; give a number of gigabytes, such as {LARGEST:g}')
    return most * 1e9


class Cache:
    """Bytes by key. What can't be written is not an error: `trouble` says what went wrong first, and writing stops."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (cache_folder() if folder is None else folder) / "features"
        self.trouble: str | None = None
        self._since_look = LOOK_EVERY

    def path(self, key: str) -> str:
        name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(self.folder, name[:2], name[2:])

    def get(self, key: str) -> bytes | None:
        """The entry; None where there is none or it is damaged."""
        try:
            with open(self.path(key), "rb") as file:
                data = file.read()
        except OSError:
            return None
        content, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        return content if checksum == _checksum(content) else None

    def put(self, key: str, content: bytes) -> None:
        if self.trouble is not None:
            return
        path = self.path(key)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._since_look += len(content)
            if self._since_look >= LOOK_EVERY:
                self._since_look = 0.0
                self.trim(largest())
            write_atomically(path, content + _checksum(content), durable=False)
        except Error as error:
            self.trouble = str(error).removeprefix(f"{path} ").partition(";")[0]
        except OSError as error:
            self.trouble = f"can't be written: {reason(error)}"

    def trim(self, most: float) -> None:
        """Removes what was written longest ago, where all of it is larger than `most` bytes, down to nine tenths."""
        found = []
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):  # somebody else may clear it
                at = path.stat()
                found.append((at.st_mtime_ns, at.st_size, path))
        over = sum(size for _, size, _ in found) - most
        if over <= 0:
            return
        for _, size, path in sorted(found):
            if over <= -0.1 * most:
                break
            path.unlink(missing_ok=True)
            over -= size

    def size(self) -> tuple[int, int]:
        """How many entries there are, and their bytes."""
        sizes = []
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):  # somebody else may clear it
                sizes.append(path.stat().st_size)
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        """Removes all entries, and nothing that isn't one."""
        for path in self.folder.glob("??/*"):
            path.unlink(missing_ok=True)
        for folder in self.folder.glob("??"):
            with suppress(OSError):  # somebody else may write there
                folder.rmdir()


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(CHECKSUM_BYTES, "little")
