"""A file made of pieces of another: without copying any of it, parts left out, headers replaced."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import accumulate

Span = bytes | tuple[int, int]  # bytes of our own, or from where to where of the file


def spliced(file: io.BufferedIOBase, parts: Sequence[Span]) -> io.BufferedReader:
    """A file to read that holds these parts of `file` one after the other; `file` stays the caller's to close."""
    return io.BufferedReader(_Spliced(file, [part for part in parts if _length(part)]), 2**16)


def _length(part: Span) -> int:
    return len(part) if isinstance(part, bytes) else max(0, part[1] - part[0])


class _Spliced(io.RawIOBase):
    def __init__(self, file: io.BufferedIOBase, parts: Sequence[Span]) -> None:
        self._file, self._parts = file, parts
        self._ends = list(accumulate(map(_length, parts)))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._ends[-1] if self._ends else 0}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        for part, end in zip(self._parts, self._ends, strict=True):
            if self._at < end:
                inside = self._at - (end - _length(part))
                wanted = min(len(view), end - self._at)
                if isinstance(part, bytes):
                    data = part[inside : inside + wanted]
                else:
                    self._file.seek(part[0] + inside)
                    data = self._file.read(wanted)
                view[: len(data)] = data
                self._at += len(data)
                return len(data)
        return 0
