"""What the structure of a sound file says about its length: more than it holds, or nothing at all.

Just enough of RIFF (WAV, RF64), AIFF, CAF, AU, Ogg (RFC 3533) and MP3 (the Xing header) to tell a file that was cut
short from one whose writer could not know the length, which libsndfile does not do.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator


def lacking(file: io.BufferedIOBase, size: int) -> int:
    """How many bytes a file is short of what it says: RIFF, RF64, AIFF, CAF, AU, Ogg's pages, MP3's Xing header."""
    file.seek(0)
    head = file.read(12)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:] == b"WAVE":
        end = _end_of_chunk(file, b"data", _RIFX if head[:4] == b"RIFX" else _RIFF, size)
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        end = _end_of_chunk(file, b"SSND", _RIFX, size)
    elif head[:4] == b"caff":
        end = _end_of_chunk(file, b"data", _CAF, size, first=8)
    elif head[:4] == b".snd" and len(head) == 12:
        start, length = struct.unpack(">II", head[4:])
        end = 0 if length == 0xFFFFFFFF else start + length
    elif head[:4] == b"OggS":
        end = _end_of_pages(file, size)
    else:
        end = _end_of_mp3(file)
    return max(0, end - size)


# The name and the length that begin a chunk. RIFF and AIFF chunks begin at even places, CAF's anywhere.
_RIFF, _RIFX, _CAF = "<4sI", ">4sI", ">4sq"


def _chunks(file: io.BufferedIOBase, layout: str, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and promised length of each chunk from `start` to `end`."""
    head = struct.calcsize(layout)
    while start + head <= end:
        file.seek(start)
        name, length = struct.unpack(layout, file.read(head))
        yield name, start + head, length
        if length < 0:
            return
        start += head + length + (length % 2 if layout != _CAF else 0)


def _end_of_chunk(file: io.BufferedIOBase, wanted: bytes, layout: str, size: int, first: int = 12) -> int:
    """Where the chunk of samples ends; 0 where a stream's writer could not know it."""
    long_length = 0
    for name, start, length in _chunks(file, layout, first, size):
        if name == b"ds64":  # RF64's 64-bit lengths: RIFF's, then data's
            body = file.read(16)
            long_length = struct.unpack("<Q", body[8:])[0] if len(body) == 16 else 0
        if name == wanted:
            if length == 0xFFFFFFFF and long_length:
                return start + int(long_length)
            # What ffmpeg (0 or all ones), SoX and arecord write into a pipe; CAF says -1.
            return 0 if length in (-1, 0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000) else start + length
    return 0


def riff_comment(file: io.BufferedIOBase) -> bytes:
    """The comment of a WAV file, which libsndfile drops when it is longer than 2 kB."""
    file.seek(0)
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return b""
    size = file.seek(0, io.SEEK_END)
    for name, start, length in _chunks(file, _RIFF, 12, size):
        if name == b"LIST" and file.read(4) == b"INFO":
            for tag, at, long in _chunks(file, _RIFF, start + 4, min(start + length, size)):
                if tag == b"ICMT":
                    file.seek(at)
                    return file.read(min(long, size)).rstrip(b"\0")
    return b""


def _end_of_pages(file: io.BufferedIOBase, size: int) -> int:
    """Where the last page of an Ogg file ends; beyond `size`, too, where bytes between two pages belong to none."""
    end, closed = 0, False
    while end < size:
        file.seek(end)
        page = file.read(27 + 255)
        if page[:4] != b"OggS"[: len(page)]:
            file.seek(end)
            lost = file.read().find(b"OggS\0")
            if lost > 0:
                return size + lost
            return 0 if closed else size + 1  # after the last page there may be a tag
        if len(page) < 27 or len(page) < 27 + page[26]:
            return size + 1  # not even a whole page header
        end += 27 + page[26] + sum(page[27 : 27 + page[26]])
        closed = bool(page[5] & 4)  # the flag of the last page
    return end


def _mp3_head(file: io.BufferedIOBase) -> tuple[int, bytes]:
    """Where the first MPEG frame begins (behind an ID3 tag) and its first 64 bytes; empty where it is no layer III."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        a, b, c, d = head[6:]
        start = 10 + (a << 21 | b << 14 | c << 7 | d)
    file.seek(start)
    frame = file.read(64)
    # Sync, a version, layer III, a bit rate and a sample rate that are not the reserved ones.
    valid = len(frame) == 64 and frame[0] == 0xFF and frame[1] & 0xE6 == 0xE2 and frame[1] & 0x18 != 0x08
    if not valid or frame[2] >> 4 in (0, 15) or frame[2] >> 2 & 3 == 3:
        return 0, b""
    return start, frame


def _end_of_mp3(file: io.BufferedIOBase) -> int:
    """Where an MP3 with a Xing header ends, as that says; 0 for others."""
    start, frame = _mp3_head(file)
    xing = max(frame.find(b"Xing", 0, 44), frame.find(b"Info", 0, 44))
    if xing < 0 or frame[xing + 7] & 3 != 3:  # bit 0: number of frames, bit 1: number of bytes
        return 0
    return start + int(struct.unpack(">I", frame[xing + 12 : xing + 16])[0])


def with_length(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """`file`, or a copy that tells libsndfile to read up to its end where the file itself does not know its length."""
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _streamed_wav(file)
    return _streamed_mp3(file)


def _streamed_wav(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """A WAV file with the length that libsndfile takes for "unknown", where it has 0 and samples all the same."""
    size = file.seek(0, io.SEEK_END)
    samples = next(
        (start for name, start, length in _chunks(file, _RIFF, 12, size) if name == b"data" and not length), 0
    )
    if samples == 0:
        return file
    name, _, length = next(_chunks(file, _RIFF, samples, size), (b"", 0, 0))
    if samples == size or (name.isalnum() and samples + 8 + length <= size):  # nothing, or a chunk, follows
        return file
    file.seek(0)
    data = file.read()
    return io.BytesIO(data[: samples - 4] + b"\xff" * 4 + data[samples:])


def _streamed_mp3(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """An MP3 file with a Xing header, where it has none.

    libsndfile guesses the length from the first bit rate and stops there, in the middle of a variable-rate file. This
    header promises more frames than there can be, and reading ends with the file.
    """
    start, frame = _mp3_head(file)
    if not frame or any(name in frame for name in (b"Xing", b"Info", b"VBRI")):
        return file
    file.seek(0)
    data = file.read()
    version, mono = frame[1] >> 3 & 3, frame[3] >> 6 == 3  # version 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
    rate = (44_100, 48_000, 32_000)[frame[2] >> 2 & 3] // {3: 1, 2: 2, 0: 4}[version]
    length = 144 * 320_000 // rate if version == 3 else 72 * 160_000 // rate
    side = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    header = bytes([0xFF, frame[1] | 1, 14 << 4 | frame[2] & 0x0C, frame[3]])  # no checksum, the highest bit rate
    xing = header + bytes(side) + b"Xing" + struct.pack(">II", 1, len(data) // 24 + 1)
    return io.BytesIO(data[:start] + xing.ljust(length, b"\0") + data[start:])
