"""Reading and writing sound files.

Reading goes by content, not by name, and trusts no header: libsndfile reads a file that was cut short without a word,
so `containers.lacking` compares what a file promises with what it holds.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from cymatic.errors import Error, Note, SoundError
from cymatic.files import IS_LFS_POINTER, into_temporary, is_lfs_pointer, reason, write_atomically
from cymatic.media import containers, joined
from cymatic.scalars import python_values
from cymatic.signal.cancellation import one_channel

MAX_RATE = 768_000  # Hz
SHORTEST_SECONDS = 0.01
CHECKED = ("WAV", "WAVEX", "RF64", "AIFF", "CAF", "AU")  # containers whose bytes `containers.lacking` counts
FFMPEG_SECONDS = 300  # a decoder that takes longer hangs
# Containers whose demuxers open nothing but the file they are given (playlists would reach out to other files).
FFMPEG_FORMATS = (
    "mov,mp4,m4a,matroska,webm,avi,flv,asf,mpeg,mpegts,aac,ac3,eac3,dts,amr,ape,caf,aiff,au,wav,w64,mp3,ogg,flac,tta,wv,"
    "tak,dsf,iff,mpc,mpc8,voc,nistsphere,ircam,pvf,rm,oma"
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
    Several sounds in one file, one after the other, are one sound (see `blocks`).

    Raises FileNotFoundError for a path that does not exist, SoundError for a folder, a file that may not be read, is
    empty, holds less than 0.01 s, is no sound, is cut short, or holds NaN or infinity; each in one sentence.
    """
    with _opened(path) as sounds:
        samples = np.concatenate(list(sounds.blocks(_note(path))), axis=1)
        return one_channel(samples, sounds.rate) if mono else samples, sounds.rate, sounds.info()


def blocks(
    path: str | os.PathLike[str], say: Callable[[str], None] | None = None
) -> Iterator[tuple[Float[np.ndarray, "channels samples"], int]]:
    """The sound of a file piece by piece, each with the rate in Hz, so that hours of it need no memory.

    Where a file holds several sounds one after the other (chained Ogg, joined MP3s), they are given as one. Those at
    another rate or of another number of channels than the first are left out: `say` is told, by default a Note is.

    Raises what `read` raises; damage comes to light when the pieces before it have been given.
    """
    with _opened(path) as sounds:
        for block in sounds.blocks(say or _note(path)):
            yield block, sounds.rate


def _note(path: str | os.PathLike[str]) -> Callable[[str], None]:
    return lambda what: warnings.warn(f"{path} {what}", Note, stacklevel=4)


def info_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The info of a sound file alone, of which no sample is read. Raises what `read` raises."""
    with _opened(path) as sounds:
        return sounds.info()


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_Sounds]:
    """The sounds of a file; what goes wrong with it or its decoder is said in one sentence."""
    try:
        status = os.stat(path)  # before opening, since opening a pipe would wait for ever
        if stat.S_ISDIR(status.st_mode):
            raise SoundError(f"{path} is a folder; give a sound file")
        if not stat.S_ISREG(status.st_mode):
            raise SoundError(f"{path} is not a regular file; give a sound file")
        if status.st_size == 0:
            raise SoundError(f"{path} is empty (0 bytes); give a sound file of at least {SHORTEST_SECONDS} s")
        if is_lfs_pointer(path):
            raise SoundError(f"{path} {IS_LFS_POINTER}")
        with open(path, "rb") as file, ExitStack() as stack:
            yield _Sounds(file, path, stack)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} does not exist; give the path of a sound file") from error
    except OSError as error:
        raise SoundError(f"{path} can't be read: {reason(error)}; give a sound file that you may read") from error
    except Error:
        raise
    except ValueError as error:  # a NUL in the name
        raise SoundError(f"{str(path)!r} can't be read: {error}; give the path of a sound file") from error


class _Sounds:
    """The sounds of an open file, which are read as one. `rate` in Hz and `channels` are those of the first."""

    def __init__(self, file: io.BufferedIOBase, path: str | os.PathLike[str], stack: ExitStack) -> None:
        self._path, self._stack = path, stack
        self._parts = joined.streams(file)
        for part in self._parts:
            missing = containers.lacking(part, part.seek(0, io.SEEK_END))
            if missing > 0:
                raise SoundError(
                    f"{path} is damaged or cut short ({missing} bytes of what it promises are missing); give a whole "
                    "file"
                )
        self._first = self._open(self._parts[0])
        if self._first is None:
            self._first, self._parts = self._through_ffmpeg(), self._parts[:1]
        self.rate, self.channels = self._first.samplerate, self._first.channels
        if not 1 <= self.rate <= MAX_RATE:
            raise SoundError(f"{path} claims a rate of {self.rate} Hz; give a sound between 1 and {MAX_RATE} Hz")

    def _open(self, part: io.BufferedIOBase) -> _Stream | None:
        """None where libsndfile can't read it."""
        try:
            whole = containers.with_length(part)
            whole.seek(0)
            return self._stack.enter_context(_Stream(_Nameless(whole)))
        except (RuntimeError, TypeError, ValueError):  # soundfile's own errors are RuntimeErrors
            return None

    def _through_ffmpeg(self) -> _Stream:
        decoded = self._stack.enter_context(_through_ffmpeg(self._path))
        stream = self._open(decoded)
        if stream is None:
            raise SoundError(f"{self._path} became no sound through ffmpeg; give a WAV, FLAC, Ogg, Opus or MP3")
        return stream

    def info(self) -> dict[str, Any]:
        assert self._first is not None
        return _info(self._parts[0], self._first.comment)

    def blocks(self, say: Callable[[str], None]) -> Iterator[Float[np.ndarray, "channels samples"]]:
        """All of it. `say` is told what is left out."""
        samples = left = 0
        stream = self._first
        for place, part in enumerate(self._parts):
            stream = self._first if place == 0 else self._open(part)
            if stream is None or (stream.samplerate, stream.channels) != (self.rate, self.channels):
                left += 1
                continue
            for block in self._decoded(stream):
                samples += block.shape[1]
                yield block
        if samples == 0:
            raise SoundError(f"{self._path} is empty (0 samples); give at least {SHORTEST_SECONDS} s")
        if samples + 1 < SHORTEST_SECONDS * self.rate:  # a sample of grace, since resampling rounds
            raise SoundError(
                f"{self._path} is too short ({samples} sample{'' if samples == 1 else 's'}, "
                f"{samples / self.rate:.2g} s); give at least {SHORTEST_SECONDS} s"
            )
        if left:
            say(
                f"holds {len(self._parts)} sounds one after the other, of which {left} at another rate or of another "
                f"number of channels than the first {'is' if left == 1 else 'are'} left out"
            )

    def _decoded(self, stream: _Stream) -> Iterator[Float[np.ndarray, "channels samples"]]:
        """One of the sounds; by ffmpeg, if there is one, where libsndfile opens it and can't decode it."""
        started = False
        try:
            for block in _decode(stream, self._path):
                started = True
                yield block
        except SoundError:
            if started or len(self._parts) > 1 or shutil.which("ffmpeg") is None:
                raise
            stream = self._through_ffmpeg()
            if (stream.samplerate, stream.channels) != (self.rate, self.channels):
                raise
            yield from _decode(stream, self._path)


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


def _decode(stream: _Stream, path: str | os.PathLike[str]) -> Iterator[Float[np.ndarray, "channels samples"]]:
    rate, known = stream.samplerate, stream.frames < 2**62  # a count near 2**63 means "unknown"
    step = max(1, 2**18 // stream.channels)
    frames, more = 0, True
    while more:  # block by block, since the number of frames in a header may be a lie that no memory could hold
        # Up to the end that is known at first, as libsndfile refuses a whole block for what follows (a tag of a FLAC).
        wanted = min(step, stream.frames - frames) if known and frames < stream.frames else step
        try:
            block = stream.read(wanted, dtype="float32", always_2d=True).T
        except (RuntimeError, ValueError) as error:
            if frames and frames == stream.frames:  # of what follows the end
                return
            raise SoundError(
                f"{path} is damaged or cut short after {frames / rate:.2f} s ({_said(error)}); give a whole file"
            ) from None
        more = block.shape[1] == wanted
        frames += block.shape[1]
        if not np.isfinite(block).all():
            raise SoundError(f"{path} holds samples that are NaN or infinite; give a sound of finite samples")
        yield block
    if known and frames < stream.frames and not _is_guess(stream):
        raise SoundError(
            f"{path} is damaged or cut short: it promises {stream.frames} samples and holds {frames}; give a whole file"
        )


def _is_guess(stream: _Stream) -> bool:
    """Whether the number of samples is reckoned from bytes, or somebody's word, and the bytes are known to be there."""
    plain = stream.subtype.startswith(("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW"))
    return stream.format == "MP3" or (stream.format in CHECKED and not plain)


def _said(error: Exception) -> str:
    return getattr(error, "error_string", str(error)).strip(" .") or "libsndfile refuses"


def _info(file: io.BufferedIOBase, comment: str) -> dict[str, Any]:
    try:
        info = json.loads(comment or containers.riff_comment(file))
    except (ValueError, RecursionError):  # somebody else's comment
        return {}
    return info if isinstance(info, dict) else {}


def _through_ffmpeg(path: str | os.PathLike[str]) -> Any:
    """The first sound stream of a file as a float WAV, decoded by ffmpeg into an open file without a name."""
    program = shutil.which("ffmpeg")
    if program is None:
        raise SoundError(
            f"{path} is not a sound that can be read (known: WAV, FLAC, Ogg, Opus, MP3, AIFF, ...); "
            "give one of these, or install ffmpeg, which reads more"
        )
    where = f"file:{os.path.abspath(path)}"
    command = [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", FFMPEG_FORMATS]
    command += ["-i", where, "-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"]
    with into_temporary():
        decoded = tempfile.TemporaryFile()  # noqa: SIM115 (closed by whoever lets go of it)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=decoded, stderr=subprocess.PIPE, timeout=FFMPEG_SECONDS
        )
    except subprocess.TimeoutExpired:
        decoded.close()
        raise SoundError(f"{path} took ffmpeg more than {FFMPEG_SECONDS} s; give a WAV or FLAC") from None
    if done.returncode != 0 or decoded.seek(0, io.SEEK_END) < 44:
        decoded.close()
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["no sound in it"]
        said = lines[0].rpartition("] ")[2].strip(" .")  # without [which part of ffmpeg @ address]
        full = os.strerror(errno.ENOSPC)
        if any(full in line for line in lines):
            with into_temporary():
                raise OSError(errno.ENOSPC, full)
        if "whitelist" in said or "matches no streams" in said:
            said = "no sound in it"
        raise SoundError(f"{path} is not a sound that can be read (ffmpeg: {said}); give a WAV, FLAC, Ogg, Opus or MP3")
    decoded.seek(0)
    return decoded


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
    data = encoded(samples, rate, info, path)
    try:
        return write_atomically(path, data)
    except Error as error:
        raise SoundError(str(error)) from error


def encoded(
    samples: Float[np.ndarray, "channels samples"],
    rate: int,
    info: Mapping[str, Any] | None,
    path: str | os.PathLike[str],
) -> bytes:
    """The bytes that `write` would put into a file called `path`. Raises SoundError as that does."""
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
        return _encode(samples / np.float32(peak), rate, container, subtype, tags(info or {}))
    except (RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, Error):
            raise SoundError(str(error)) from error
        raise SoundError(
            f"{path} can't be written at {rate} Hz with {len(samples)} channels ({_said(error)}); try a .wav"
        ) from error


def tags(info: Mapping[str, Any]) -> dict[str, str]:
    try:
        comment = json.dumps(python_values(dict(info)), allow_nan=False)  # pure ASCII, which every tag format keeps
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
