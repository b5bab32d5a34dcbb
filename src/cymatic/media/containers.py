"""What the structure of a sound file says about its length: more than it holds, or nothing at all.

Just enough of RIFF (WAV, RF64), AIFF, CAF, AU, Wave64, VOC, NIST SPHERE, Ogg (RFC 3533) and MP3 (`mpeg`) to tell a
file that was cut short from one whose writer could not know the length, which libsndfile does not do.
"""

from __future__ import annotations

import io
import math
import re
import struct
from collections.abc import Iterator

from cymatic.media import mpeg
from cymatic.media.spliced import spliced

_WAVES = (b"RIFF", b"RIFX", b"RF64", b"BW64")
# Whoever writes into a pipe can't go back and say how long it was, so lengths stand for "unknown": 0, all ones
# (ffmpeg), 0x7FFFF000 (SoX, espeak), 0x7FFFFFFF, 0x80000000 (arecord); each less what a header takes, or cut to whole
# samples.
_SLACK = 2**16
_MP3 = b"\x55\0"  # the code of MPEG layer III
_PLAIN = (b"\x01\0", b"\x03\0", b"\xfe\xff")  # whole numbers, floats, and either with more said
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")  # the name of a Wave64's first chunk
_WHOLE = (b"OggS", b"fLaC")  # what a file begins with that a WAV may hold whole


def unknown(length: int, long_length: int = 0) -> bool:
    """Whether the length in bytes of a WAV's samples says that its writer did not know it; long: as RF64 has it."""
    if length == 0xFFFFFFFF and long_length:
        return long_length >= 2**62
    return length == 0 or 0x7FFFF000 - _SLACK <= length <= 0x80000000 + _SLACK or length >= 2**32 - _SLACK


def lacking(file: io.BufferedIOBase, size: int) -> int:
    """How many bytes a file is short of what it says in its chunks, blocks, pages, header, or MP3's Xing header."""
    file.seek(0)
    head = file.read(24)
    beginning, head = head, head[:12]
    if head[:4] in _WAVES and head[8:] == b"WAVE":
        end = _end_of_chunk(file, b"data", _layout(head[:4]), size)
    elif head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        end = _end_of_chunk(file, b"SSND", _RIFX, size)
    elif head[:4] == b"caff":
        end = _end_of_chunk(file, b"data", _CAF, size, first=8)
    elif head[:4] == b".snd" and len(head) == 12:
        start, length = struct.unpack(">II", head[4:])
        end = 0 if length == 0xFFFFFFFF else start + length
    elif head[:4] == b"OggS":
        end = _end_of_pages(file, size)
    elif beginning[:16] == _W64:
        end = _end_of_wave64(file, size)
    elif beginning[:20] == b"Creative Voice File\x1a" and len(beginning) == 24:
        end = _end_of_voc(file, size, *struct.unpack("<H", beginning[20:22]))
    elif head[:8] == b"NIST_1A\n":
        end = _end_of_sphere(file)
    else:
        end = mpeg.promised_end(file)
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
            long_length = (_ds64(file, start) or (0, 0))[1]
        if name == wanted:
            if length == -1 or unknown(length, long_length):  # CAF says -1
                return 0
            return start + (long_length if length == 0xFFFFFFFF else length)
    return 0


def _end_of_wave64(file: io.BufferedIOBase, size: int) -> int:
    """Where the samples of a Wave64 end. Its chunks count their own heads, and begin at multiples of 8."""
    start = 40
    while start + 24 <= size:
        file.seek(start)
        name, length = struct.unpack("<16sQ", file.read(24))
        if name[:4] == b"data":
            return 0 if length == 0 or length >= 2**62 else int(start + length)
        if length < 24:
            return 0
        start += length + -length % 8
    return 0


def _end_of_voc(file: io.BufferedIOBase, size: int, start: int) -> int:
    """Where the last block of a Creative Voice File ends; the block of kind 0 is the end, and may be left out."""
    while start + 4 <= size:
        file.seek(start)
        kind, *length = struct.unpack("<4B", file.read(4))
        if kind == 0:
            return start + 1
        start += 4 + int.from_bytes(bytes(length), "little")
    return start


def _end_of_sphere(file: io.BufferedIOBase) -> int:
    """Where the samples of a NIST SPHERE end, as its text says; 0 where they are compressed, or it does not say."""
    file.seek(8)
    text = file.read(1024).decode("latin-1")
    said = dict(re.findall(r"^(\w+) -\w+ (\S+)", text, re.MULTILINE))
    counts = [said.get(name, "") for name in ("sample_count", "channel_count", "sample_n_bytes")]
    begin = text.split("\n", 1)[0].strip()
    if not all(one.isdecimal() for one in (*counts, begin)) or "," in said.get("sample_coding", ""):
        return 0
    return int(begin) + math.prod(map(int, counts))


def _layout(kind: bytes) -> str:
    return _RIFX if kind == b"RIFX" else _RIFF


def _ds64(file: io.BufferedIOBase, start: int) -> tuple[int, int] | None:
    """RF64's 64-bit lengths: of the file, as RIFF has it, and of the samples."""
    file.seek(start)
    body = file.read(16)
    return struct.unpack("<QQ", body) if len(body) == 16 else None


def chunks_end(file: io.BufferedIOBase, at: int, size: int) -> int:
    """Where the WAV, AIFF, CAF or AU that begins at `at` ends, as it says; 0 where it does not know."""
    file.seek(at)
    head = file.read(12)
    if len(head) < 12:
        return 0
    if head[:4] == b".snd":
        start, length = struct.unpack(">II", head[4:])
        return 0 if length == 0xFFFFFFFF else int(at + start + length)
    if head[:4] == b"caff":
        end = 0
        for name, start, length in _chunks(file, _CAF, at + 8, size):
            if name[:4] == b"caff" or length < 0:
                break
            end = start + length
        return end
    layout = _RIFX if head[:4] == b"FORM" else _layout(head[:4])
    (length,) = struct.unpack(layout[0] + "I", head[4:8])
    first = next(_chunks(file, layout, at + 12, size), (b"", 0, 0))
    if length == 0xFFFFFFFF and first[0] == b"ds64":
        length = (_ds64(file, first[1]) or (0, 0))[0]
    return 0 if unknown(length) else int(at + 8 + length + length % 2)


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


def with_length(file: io.BufferedIOBase) -> io.BufferedIOBase:
    """`file`, or one with a length that libsndfile understands where the file itself does not know its length."""
    file.seek(0)
    head = file.read(12)
    if head[:4] in _WAVES and head[8:] == b"WAVE":
        return _streamed_wav(file, head[:4])
    if head[:4] == b"caff":
        return _streamed_caf(file)
    return mpeg.with_length(file)


def _streamed_wav(file: io.BufferedIOBase, kind: bytes) -> io.BufferedIOBase:
    """A WAV file with the length that libsndfile takes for "unknown"; an RF64 file with its length."""
    size = file.seek(0, io.SEEK_END)
    layout, long_at, long_length, code = _layout(kind), 0, 0, b""
    for name, start, length in _chunks(file, layout, 12, size):
        if name == b"ds64" and (body := _ds64(file, start)) is not None:
            long_at, long_length = start + 8, body[1]
        if name == b"fmt ":
            file.seek(start)
            code = file.read(2)
        if name != b"data":
            continue
        if code not in _PLAIN and start + 4 <= size:  # read as the Ogg or FLAC that it is
            file.seek(start)
            if file.read(4) in _WHOLE:
                return spliced(file, [(start, size if unknown(length) else min(size, start + length))])
        if code == _MP3:  # read as the MP3 that it is: inside a WAV, libsndfile stops where it guesses the end
            inside = spliced(file, [(start, size if unknown(length) else min(size, start + length))])
            if mpeg.first_frame(inside)[1]:
                return mpeg.with_length(inside)
        if not unknown(length, long_length) or (start + length <= size and length):
            return file
        if start == size or (length == 0 and _is_chunk(file, layout, start, size)):
            return file
        if long_at:
            new = struct.pack("<Q", size - start)
            return spliced(file, [(0, long_at), new, (long_at + 8, start - 4), b"\xff" * 4, (start, size)])
        return spliced(file, [(0, start - 4), b"\xff" * 4, (start, size)])
    return file


def _is_chunk(file: io.BufferedIOBase, layout: str, start: int, size: int) -> bool:
    """Whether a chunk follows there, and not samples."""
    name, _, length = next(_chunks(file, layout, start, size), (b"", 0, 0))
    return name.isalnum() and start + 8 + length <= size


def _streamed_caf(file: io.BufferedIOBase) -> io.BufferedIOBase:
    size = file.seek(0, io.SEEK_END)
    for name, start, length in _chunks(file, _CAF, 8, size):
        if name == b"data" and length == -1:
            return spliced(file, [(0, start - 8), struct.pack(">q", size - start), (start, size)])
    return file
