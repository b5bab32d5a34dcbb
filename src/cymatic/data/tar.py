"""Tar archives as streams of named bytes, to read and to write: no seeking, no extraction, nothing that is not a file.

Python's own reader ends without a word where a header is damaged, and believes any length that a header claims; here
damage is an error that names its place, and sizes are bounded. POSIX ustar, with the long names of pax and GNU.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cymatic.errors import Error
from cymatic.files import reason
from cymatic.media.pipes import Sink

BLOCK = 512  # bytes
MOST_NAME = 2**16  # bytes of what a long name takes
CHUNK = 2**20  # bytes read at once
REGULAR, LONG_NAME, PAX = b"\0" + b"07", b"L", b"x"


@dataclass(frozen=True)
class Member:
    """One regular file of an archive: its name, its size in bytes, and where its content begins."""

    name: str
    size: int
    offset: int


class TarReader:
    """Walks through the members of an open file; `read` and `copy` give the content of the one that came last.

    Directories and links are passed by. `name` is how messages call the archive. Raises Error where it is no tar, is
    damaged, or cut short: members before that place were given.
    """

    def __init__(self, stream: Any, name: str) -> None:
        self.stream, self.name = stream, name
        self._at = 0  # bytes consumed
        self._left = self._padding = 0  # of the member's content
        self._ended = False

    def __iter__(self) -> Iterator[Member]:
        long_name = None
        while (header := self._header()) is not None:
            kind, name, size = header
            self._left, self._padding = size, -size % BLOCK
            if kind in (LONG_NAME, PAX):
                if size > MOST_NAME:
                    raise self._damaged(f"a name of {size} bytes")
                data = self.read()
                long_name = (data.rstrip(b"\0") if kind == LONG_NAME else _pax_path(data)) or long_name
                continue
            name, long_name = name if long_name is None else long_name, None
            if kind in [bytes([one]) for one in REGULAR]:
                yield Member(name.decode("utf-8", "replace"), size, self._at)

    def read(self) -> bytes:
        """The rest of this member's content; the caller looks at its size first."""
        return b"".join(self.chunks())

    def chunks(self) -> Iterator[bytes]:
        """The rest of this member's content, in pieces."""
        while self._left:
            data = self._take(min(self._left, CHUNK))
            self._left -= len(data)
            yield data

    def _header(self) -> tuple[bytes, bytes, int] | None:
        """Kind, name and size of the next member; None at the end."""
        self._skip(self._left + self._padding)
        self._left = self._padding = 0
        if self._ended:
            return None
        block = self._take(BLOCK, partial=self._at == 0)
        if not block.strip(b"\0") and block:
            self._ended = True  # a second block of zeros may follow, and whatever fills up the last record
            return None
        if len(block) < BLOCK or not _has_checksum(block):
            if self._at <= BLOCK:
                raise Error(f"{self.name} is no tar archive; give one that holds files, not compressed")
            raise self._damaged("a header that fits no checksum", self._at - BLOCK)
        size = _number(block[124:136])
        if not 0 <= size < 2**62:
            raise self._damaged("a size that can't be", self._at - BLOCK)
        name = block[:100].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0] if block[257:263] == b"ustar\0" else b""
        return block[156:157], (prefix + b"/" + name if prefix else name), size

    def _skip(self, size: int) -> None:
        """Past `size` bytes, by seeking where that is possible."""
        if not size:
            return
        if self.stream.seekable():
            # The last of them is read, since seeking beyond the end is no error.
            self.stream.seek(size - 1, 1)
            self._at += size - 1
            self._take(1)
            return
        while size:
            size -= len(self._take(min(size, CHUNK)))

    def _take(self, size: int, *, partial: bool = False) -> bytes:
        chunks, wanted = [], size
        try:
            while wanted and (chunk := self.stream.read(wanted)):
                chunks.append(chunk)
                wanted -= len(chunk)
        except OSError as error:
            raise Error(f"{self.name} can't be read: {reason(error)}; copy it again") from None
        data = b"".join(chunks)
        self._at += len(data)
        if wanted and not partial:
            raise Error(f"{self.name} is cut short; get it again")
        return data

    def _damaged(self, what: str, at: int | None = None) -> Error:
        return Error(f"{self.name} is damaged at byte {self._at if at is None else at} ({what}); get it again")


class TarWriter:
    """Writes regular files into an open stream; the same names and bytes give the same archive. `close` ends it."""

    def __init__(self, stream: Sink) -> None:
        self.stream = stream
        self.written = 0  # bytes

    def add(self, name: str, data: bytes) -> None:
        """Raises Error for a name that no archive can hold."""
        info = tarfile.TarInfo(name)  # mode 644, no time, no owner
        info.size = len(data)
        try:
            self._write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict") + data + bytes(-len(data) % BLOCK))
        except ValueError as error:
            raise Error(f"{name!r:.200} can't be a name in a tar archive ({error}); give a shorter one") from None

    def close(self) -> None:
        self._write(bytes(2 * BLOCK))

    def _write(self, data: bytes) -> None:
        self.stream.write(data)
        self.written += len(data)


def _has_checksum(block: bytes) -> bool:
    unsigned = sum(block[:148]) + 8 * 32 + sum(block[156:])
    signed = unsigned - 256 * (sum(byte > 127 for byte in block[:148]) + sum(byte > 127 for byte in block[156:]))
    return _number(block[148:156]) in (unsigned, signed)


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary numbers; -1 for neither."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    return int(digits or b"0", 8) if not digits.strip(b"01234567") else -1


def _pax_path(data: bytes) -> bytes | None:
    """The path in a pax header, whose records are `LENGTH KEY=VALUE\\n`; None where there is none."""
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not 0 < int(length) <= len(data):
            return None
        key, _, value = data[len(length) + 1 : int(length)].partition(b"=")
        if key == b"path":
            return value.rstrip(b"\n")
        data = data[int(length) :]
    return None
