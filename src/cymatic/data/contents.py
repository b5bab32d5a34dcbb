"""What is in a file, as a SHA-256: it decides splits, finds copies and keys what is cached."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from pathlib import Path
from typing import Self

from cymatic.data.cache import Cache

SETTLED_SECONDS = 2.0  # file systems stamp times as coarsely as that


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes in hex. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Contents:
    """The content of the files of one folder. What was read once is remembered in the user's cache, under the file's
    path, size and time of change, so that a folder of many gigabytes is read once.

    A context manager: what is new is remembered at its end.
    """

    def __init__(self, root: Path) -> None:
        self.prefix = 0 if root == Path() else len(str(root))
        self.cache = Cache()
        self.key = f"contents 1 {root.resolve()}"
        self.now = time.time()
        self.known = self._read()
        self.seen: dict[str, list[int | str]] = {}

    def _read(self) -> dict[str, list[int | str]]:
        data = self.cache.get(self.key)
        return json.loads(data) if data is not None else {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        if self.seen != self.known:
            self.cache.put(self.key, json.dumps(self.seen).encode())

    def of(self, path: Path) -> str | None:
        """The SHA-256 of a file's bytes in hex; None where it can't be read, and whoever opens it will say why."""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
                return None
            stamp = [status.st_size, status.st_mtime_ns]
            name = str(path)[self.prefix :]
            known = self.known.get(name)
            if known is not None and known[:2] == stamp:
                self.seen[name] = known
                return str(known[2])
            content = sha256_of(path)
        except (OSError, ValueError):
            return None
        # What was written a moment ago may be written again within the same tick of the clock.
        if self.now - status.st_mtime > SETTLED_SECONDS:
            self.seen[name] = [*stamp, content]
        return content
