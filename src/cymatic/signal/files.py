"""Reading and writing sound files.

Reading goes by content, not by name, and trusts no header: libsndfile reads a file that was cut short without a word,
so `_lacking` compares what a file promises with what it holds.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from cymatic.errors import Error, SoundError
from cymatic.files import reason, write_atomically

SHORTEST_SECONDS = 0.01
FFMPEG_SECONDS = 300  # a decoder that takes longer hangs
# Containers whose demuxers open nothing but the file they are given (playlists would reach out to other files).
FFMPEG_FORMATS = (
    "mov,mp4,m4a,matroska,webm,avi,flv,asf,mpeg,mpegts,aac,ac3,eac3,dts,amr,ape,caf,aiff,au,wav,w64,mp3,ogg,flac,tta,wv,"
    "tak,dsf,mpc,mpc8"
)

# extension -> libsndfile's format and subtype, most channels, rates in Hz. Ogg above 192 kHz crashes libsndfile 1.2.2.
FORMATS: dict[str, tuple[str, str, int, Sequence[int]]] = {
    ".wav": ("WAV", "PCM_16", 1024, range(1, 768_001)),
    ".flac": ("FLAC", "PCM_16", 8, range(1, 655_351)),
    ".ogg": ("OGG", "VORBIS", 255, range(1, 192_001)),
    ".opus": ("OGG", "OPUS", 255, (8_000, 12_000, 16_000, 24_000, 48_000)),
    ".mp3": ("MP3", "MPEG_LAYER_III", 2, (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
}

Read = tuple[Float[np.ndarray, "channels samples"], int, dict[str, Any]]


def read(path: str | os.PathLike[str], *, mono: bool = False) -> Read:
    """Samples `[channels, samples]` (float32, mixed to one channel if `mono`), rate in Hz and info of a sound file.

    Whatever libsndfile can't read goes through ffmpeg if there is one on PATH. `info` is what `write` put there.

    Raises FileNotFoundError for a path that does not exist, SoundError for a folder, a file that may not be read, is
    empty, holds less than 0.01 s, is no sound, is cut short, or holds NaN or infinity; each in one sentence.
    """
    try:
        status = os.stat(path)  # before opening, since opening a pipe would wait for ever
        if stat.S_ISDIR(status.st_mode):
            raise SoundError(f"{path} is a folder; give a sound file")
        if not stat.S_ISREG(status.st_mode):
            raise SoundError(f"{path} is not a regular file; give a sound file")
        if status.st_size == 0:
            raise SoundError(f"{path} is empty (0 bytes); give a sound file of at least {SHORTEST_SECONDS} s")
        with open(path, "rb") as file:
            samples, rate, info = _read_open(file, path, status.st_size, mono)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} does not exist; give the path of a sound file") from error
    except OSError as error:
        raise SoundError(f"{path} can't be read: {reason(error)}; give a sound file that you may read") from error
    except SoundError:
        raise
    except ValueError as error:  # a NUL in the name
        raise SoundError(f"{str(path)!r} can't be read: {error}; give the path of a sound file") from error
    if not np.isfinite(samples).all():
        raise SoundError(f"{path} holds samples that are NaN or infinite; give a sound of finite samples")
    return samples, rate, info


def _read_open(file: io.BufferedIOBase, path: str | os.PathLike[str], size: int, mono: bool) -> Read:
    lacking = _lacking(file, size)
    if lacking > 0:
        raise SoundError(
            f"{path} is damaged or cut short ({lacking} bytes of what it promises are missing); give a whole file"
        )
    try:
        whole = _with_length(file)
        whole.seek(0)
        stream = _Stream(_Nameless(whole))
    except (RuntimeError, TypeError, ValueError):  # soundfile's own errors are RuntimeErrors
        stream = _Stream(_Nameless(io.BytesIO(_through_ffmpeg(path))))
    with stream:
        samples, rate = _decode(stream, path, mono)
        return samples, rate, _info(file, stream.comment)


class _Nameless:
    """A file that does not tell its name, so that libsndfile judges by content (it takes any .raw or .vox on trust).

    Broken headers make libsndfile seek to impossible places; an exception inside its callbacks would end up on stderr.
    """

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self.tell, self.read, self.readinto = file.tell, file.read, file.readinto

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, OverflowError, ValueError):
            return self._file.tell()


class _Stream(soundfile.SoundFile):
    """A SoundFile read from front to back; soundfile seeks after every read, and fails at the end of streamed FLACs."""

    def seekable(self) -> bool:
        return False


def _decode(
    stream: _Stream, path: str | os.PathLike[str], mono: bool
) -> tuple[Float[np.ndarray, "channels samples"], int]:
    from cymatic.signal.sound import MAX_RATE

    rate, channels = stream.samplerate, stream.channels
    if not 1 <= rate <= MAX_RATE:
        raise SoundError(f"{path} claims a rate of {rate} Hz; give a sound between 1 and {MAX_RATE} Hz")
    blocks: list[np.ndarray] = []
    step = max(1, 2**18 // channels)
    try:
        # Block by block, since the number of frames in a header may be a lie that no memory could hold.
        while not blocks or blocks[-1].shape[1] == step:
            block = stream.read(step, dtype="float32", always_2d=True).T
            blocks.append(block.mean(axis=0, keepdims=True) if mono else block)
    except (RuntimeError, ValueError) as error:
        seconds = sum(block.shape[1] for block in blocks) / rate
        raise SoundError(
            f"{path} is damaged or cut short after {seconds:.2f} s ({_said(error)}); give a whole file"
        ) from None
    samples = np.concatenate(blocks, axis=1)
    frames = samples.shape[1]
    # A frame count near 2**63 means "unknown"; an MP3's is a guess (see `_with_length`).
    if frames < stream.frames < 2**62 and stream.format != "MP3":
        raise SoundError(
            f"{path} is damaged or cut short: it promises {stream.frames} samples and holds {frames}; give a whole file"
        )
    if frames == 0:
        raise SoundError(f"{path} is empty (0 samples); give at least {SHORTEST_SECONDS} s")
    if frames + 1 < SHORTEST_SECONDS * rate:  # a sample of grace, since resampling rounds
        plural = "" if frames == 1 else "s"
        raise SoundError(
            f"{path} is too short ({frames} sample{plural}, {frames / rate:.2g} s); give at least {SHORTEST_SECONDS} s"
        )
    return samples, rate


def _said(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).strip(" .") or "libsndfile refuses"


def _info(file: io.BufferedIOBase, comment: str) -> dict[str, Any]:
    try:
        info = json.loads(comment or _riff_comment(file))
    except (ValueError, RecursionError):  # somebody else's comment
        return {}
    return info if isinstance(info, dict) else {}


def _lacking(file: io.BufferedIOBase, size: int) -> int:
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


def _riff_comment(file: io.BufferedIOBase) -> bytes:
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
    end = 0
    while end < size:
        file.seek(end)
        page = file.read(27 + 255)
        if page[:4] != b"OggS"[: len(page)]:
            file.seek(end)
            lost = file.read().find(b"OggS\0")  # after the last page there may be a tag
            return size + lost if lost > 0 else 0
        if len(page) < 27 or len(page) < 27 + page[26]:
            return size + 1  # not even a whole page header
        end += 27 + page[26] + sum(page[27 : 27 + page[26]])
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


def _with_length(file: io.BufferedIOBase) -> io.BufferedIOBase:
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


def _through_ffmpeg(path: str | os.PathLike[str]) -> bytes:
    """The first sound stream of a file as a float WAV, decoded by ffmpeg."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise SoundError(
            f"{path} is not a sound that can be read (known: WAV, FLAC, Ogg, Opus, MP3, AIFF, ...); "
            "give one of these, or install ffmpeg, which reads more"
        )
    where = f"file:{os.path.abspath(path)}"
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", FFMPEG_FORMATS]
    command += ["-i", where, "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=FFMPEG_SECONDS)
    except subprocess.TimeoutExpired:
        raise SoundError(f"{path} took ffmpeg more than {FFMPEG_SECONDS} s; give a WAV or FLAC") from None
    if done.returncode != 0 or len(done.stdout) < 44:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no sound in it"]
        said = lines[0].rpartition("] ")[2].strip(" .")  # without [which part of ffmpeg @ address]
        if "whitelist" in said or "matches no streams" in said:
            said = "no sound in it"
        raise SoundError(f"{path} is not a sound that can be read (ffmpeg: {said}); give a WAV, FLAC, Ogg, Opus or MP3")
    return done.stdout


def write(
    path: str | os.PathLike[str],
    samples: Float[np.ndarray, "channels samples"],
    rate: int,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Writes samples as the extension says: .wav and .flac (16 bits), .ogg (Vorbis), .opus, .mp3. Returns the path.

    Where a sample lies beyond -1..1 the whole sound is scaled so that the largest is 1, since clipping would distort
    it and scaling changes only the volume. Where a format does not know the rate (Opus and MP3 know a few), the sound
    is resampled to the next higher one, or to the highest. `info` is stored as JSON in the comment tag, its `prompt` as
    the title, and `read` gives it back.

    The file appears whole or not at all. Raises SoundError for an unknown extension, too many channels, info that
    is not JSON, and whatever the file system refuses.
    """
    kind = FORMATS.get(Path(path).suffix.lower())
    if kind is None:
        named = f'extension "{Path(path).suffix}"' if Path(path).suffix else "name without an extension"
        raise SoundError(f"{path} has an unknown {named}; use one of {', '.join(FORMATS)}")
    container, subtype, most_channels, rates = kind
    if len(samples) > most_channels:
        raise SoundError(
            f"{path} can hold {most_channels} channels at most, not {len(samples)}; mix with .mono() or write a .wav"
        )
    if rate not in rates:
        allowed = min((known for known in rates if known > rate), default=rates[-1])
        samples, rate = np.atleast_2d(soxr.resample(samples.T, rate, allowed, quality="HQ").T), allowed
    peak = max(1.0, float(np.abs(samples).max(initial=0)))
    try:
        data = _encode(samples / np.float32(peak), rate, container, subtype, _tags(info or {}))
        return write_atomically(path, data)
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, Error):
            raise SoundError(str(error)) from error
        raise SoundError(
            f"{path} can't be written at {rate} Hz with {len(samples)} channels ({_said(error)}); try a .wav"
        ) from error


def _tags(info: Mapping[str, Any]) -> dict[str, str]:
    try:
        comment = json.dumps(dict(info), allow_nan=False)  # pure ASCII, which every tag format keeps
    except (TypeError, ValueError) as error:
        raise SoundError(f"info can't be written as JSON ({error}); give strings, numbers and lists of them") from None
    title = " ".join(str(info.get("prompt", "")).replace("\0", " ").split())
    return {"title": title.encode("utf-8", "replace").decode(), "software": "cymatic", "comment": comment}


def _encode(
    samples: Float[np.ndarray, "channels samples"], rate: int, container: str, subtype: str, tags: Mapping[str, str]
) -> bytes:
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, len(samples), subtype, format=container) as stream:
        for name, text in tags.items():
            if text:
                setattr(stream, name, text)
        step = max(1, 2**16 // len(samples))  # libsndfile puts a whole Vorbis write on the stack
        for start in range(0, samples.shape[1], step):
            stream.write(samples[:, start : start + step].T)
    return buffer.getvalue()
