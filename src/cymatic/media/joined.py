"""Several sounds in one file, one after the other: chained Ogg (RFC 3533), and whatever `cat a b` makes of others.

libsndfile reads the first and says nothing of the rest, or refuses the whole.
"""

from __future__ import annotations

import io
import struct

from cymatic.media import mpeg
from cymatic.media.containers import chunks_end
from cymatic.media.spliced import spliced

_FLAC = b"fLaC\0\0\0\x22"  # the marker and the head of the block that must follow it
_HEADS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"caff", b".snd")
_WINDOW = 2**20


def streams(file: io.BufferedIOBase) -> list[io.BufferedIOBase]:
    """The sounds of a file, each as a file of its own; the file itself where it holds one."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b"OggS":
        starts = _ogg(file, size)
    elif head[:4] in _HEADS:
        starts = _chunked(file, size)
    elif head[:4] == b"fLaC" or (head[:3] == b"ID3" and not mpeg.first_frame(file)[1]):
        starts = _flac(file)
    elif mpeg.first_frame(file)[1]:
        starts = mpeg.starts(file, size)
    else:
        starts = [0]
    if len(starts) == 1:
        return [file]
    return [spliced(file, [(start, end)]) for start, end in zip(starts, [*starts[1:], size], strict=True)]


def _ogg(file: io.BufferedIOBase, size: int) -> list[int]:
    """A page that begins a stream begins a sound where it does not follow another such page."""
    starts, at, beginning = [0], 0, True
    while at < size:
        file.seek(at)
        page = file.read(27 + 255)
        if page[:4] != b"OggS" or len(page) < 27 or len(page) < 27 + page[26]:
            break
        begins = bool(page[5] & 2)
        if begins and not beginning:
            starts.append(at)
        beginning = begins
        at += 27 + page[26] + sum(page[27 : 27 + page[26]])
    return starts


def _chunked(file: io.BufferedIOBase, size: int) -> list[int]:
    starts, at = [0], 0
    while (end := chunks_end(file, at, size)) and end + 12 <= size:
        file.seek(end)
        if not _begins(file.read(12)):
            break
        starts.append(end)
        at = end
    return starts


def _begins(head: bytes) -> bool:
    """Whether a WAV, AIFF, CAF or AU begins so."""
    if head[:4] == b".snd":
        return 24 <= int(struct.unpack(">I", head[4:8])[0]) < 2**16
    riff = head[:4] in _HEADS[:4] and head[8:] == b"WAVE"
    return riff or (head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC")) or head[:6] == b"caff\0\1"


def _flac(file: io.BufferedIOBase) -> list[int]:
    found, base, held = [], 0, b""
    file.seek(0)
    while data := file.read(_WINDOW):
        held += data
        at = held.find(_FLAC)
        while at >= 0:
            found.append(base + at)
            at = held.find(_FLAC, at + 1)
        base += max(0, len(held) - len(_FLAC) + 1)
        held = held[-len(_FLAC) + 1 :]
    return [0, *found[1:]]
