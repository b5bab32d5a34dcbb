"""MPEG audio, layer III: where its frames lie, and what the headers in some of them say (Xing, Info, VBRI)."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator

from cymatic.media.spliced import spliced

_RATES = (44_100, 48_000, 32_000)
# Kilobits a second by index, of MPEG 1 and of MPEG 2 and 2.5.
_BITS = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_HEAD = 64  # bytes of a frame that a header's name lies in
_WINDOW = 2**20  # bytes in memory at once


def first_frame(file: io.BufferedIOBase) -> tuple[int, bytes]:
    """Where the first frame begins (behind an ID3 tag) and its first 64 bytes; empty where it is no layer III."""
    file.seek(0)
    start = _id3(file.read(10))
    file.seek(start)
    frame = file.read(_HEAD)
    return (start, frame) if len(frame) == _HEAD and _valid(frame) else (0, b"")


def _id3(head: bytes) -> int:
    """Bytes of the ID3v2 tag that begins so."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    a, b, c, d = head[6:10]
    return 10 + (a << 21 | b << 14 | c << 7 | d)


def _valid(frame: bytes) -> bool:
    """Sync, a version, layer III, a bit rate and a sample rate that are not the reserved ones."""
    valid = len(frame) >= 4 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2 and frame[1] & 0x18 != 0x08
    return valid and frame[2] >> 4 not in (0, 15) and frame[2] >> 2 & 3 != 3


def _version(frame: bytes) -> int:
    """3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5."""
    return frame[1] >> 3 & 3


def _rate(frame: bytes) -> int:
    return _RATES[frame[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[_version(frame)]


def _length(frame: bytes) -> int:
    """Bytes of a frame that is valid."""
    first = _version(frame) == 3
    bits = 1000 * _BITS[0 if first else 1][frame[2] >> 4]
    return (144 if first else 72) * bits // _rate(frame) + (frame[2] >> 1 & 1)


def has_header(frame: bytes) -> bool:
    """Whether a frame holds no sound but says how long the stream is."""
    return len(frame) == _HEAD and any(frame.find(name, 0, 44) > 0 for name in (b"Xing", b"Info", b"VBRI"))


def _promised(frame: bytes) -> int | None:
    """How many frames follow a header; None where it does not say."""
    xing = max(frame.find(b"Xing", 0, 44), frame.find(b"Info", 0, 44))
    if xing > 0:
        return int(struct.unpack_from(">I", frame, xing + 8)[0]) if frame[xing + 7] & 1 else None
    return int(struct.unpack_from(">I", frame, 36 + 14)[0]) if frame[36:40] == b"VBRI" else None


def promised_end(file: io.BufferedIOBase) -> int:
    """Where a stream with a Xing header ends, as that says; 0 for others."""
    start, frame = first_frame(file)
    xing = max(frame.find(b"Xing", 0, 44), frame.find(b"Info", 0, 44))
    if xing < 0 or frame[xing + 7] & 3 != 3:  # bit 0: number of frames, bit 1: number of bytes
        return 0
    return start + int(struct.unpack(">I", frame[xing + 12 : xing + 16])[0])


def with_length(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """An MP3 file with a Xing header, where it has none, or one of Fraunhofer's (VBRI).

    libsndfile guesses the length from the first bit rate and stops there, in the middle of a variable-rate file. This
    header promises more frames than there can be, and reading ends with the file.
    """
    start, frame = first_frame(file)
    fraunhofer = frame[36:40] == b"VBRI"
    if not frame or (has_header(frame) and not fraunhofer):
        return file
    size = file.seek(0, io.SEEK_END)
    mono, first = frame[3] >> 6 == 3, _version(frame) == 3
    length = 144 * 320_000 // _rate(frame) if first else 72 * 160_000 // _rate(frame)
    side = (17 if mono else 32) if first else (9 if mono else 17)
    header = bytes([0xFF, frame[1] | 1, 14 << 4 | frame[2] & 0x0C, frame[3]])  # no checksum, the highest bit rate
    xing = header + bytes(side) + b"Xing" + struct.pack(">II", 1, size // 24 + 1)
    return spliced(file, [(0, start), xing.ljust(length, b"\0"), (start + _length(frame) * fraunhofer, size)])


def starts(file: io.BufferedIOBase, size: int) -> list[int]:
    """Where the streams of an MP3 file begin: at each further header, and where there are more frames than one says."""
    found, count, promised, last = [0], 0, None, 0
    for at, frame in _frames(file, size):
        if has_header(frame):
            if count:
                found.append(at)
            count, promised = 0, _promised(frame)
            if promised == 0:
                promised = None
            continue
        count += 1
        if promised is not None and count == promised + 1:
            last = at
        if promised is not None and count == promised + 2:  # some encoders count the header, too
            found.append(last)
            count, promised = 2, None
    return found


def _frames(file: io.BufferedIOBase, size: int) -> Iterator[tuple[int, bytes]]:
    """Each frame's place and first bytes. What belongs to none, such as tags between two streams, is passed over."""
    at, _ = first_frame(file)
    base, held = 0, b""
    while at < size:
        if not base <= at <= base + len(held) - 2 * _HEAD:
            file.seek(at)
            base, held = at, file.read(_WINDOW)
        frame = held[at - base : at - base + _HEAD]
        if _valid(frame):
            yield at, frame
            at += _length(frame)
        elif tag := _id3(frame):
            at += tag
        else:
            begin = at - base + 1
            sync = held.find(b"\xff", begin)
            while sync >= 0 and not _two(held, sync):
                sync = held.find(b"\xff", sync + 1)
            if tagged := max(0, held.find(b"ID3", begin, sync if sync >= 0 else None)):
                sync = tagged
            # The last bytes may be the beginning of a frame whose successor is not in memory.
            at = base + sync if sync >= 0 else max(at + 1, base + len(held) - 2 * _HEAD)
            if sync < 0 and base + len(held) >= size:
                return


def _two(held: bytes, at: int) -> bool:
    """Whether two frames follow each other here."""
    frame = held[at : at + 4]
    if not _valid(frame):
        return False
    after = held[at + _length(frame) : at + _length(frame) + 4]
    return _valid(after) and after[1] == frame[1]
