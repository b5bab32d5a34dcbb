"""Bytes and sounds through pipes, where nobody can go back.

A WAV is taken in as it comes, so that it can be listened to or coded before it is over; everything else goes through a
temporary file first, as most decoders need to go back and forth.
"""

from __future__ import annotations

import os
import struct
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from cymatic.errors import Note, SoundError
from cymatic.files import into_temporary
from cymatic.media import audio_files as files
from cymatic.media import containers
from cymatic.media.audio_files import MAX_RATE
from cymatic.media.sound import MAX_CHANNELS

NAME = "the standard input"
SECONDS = 0.1  # of a WAV at once
MOST_HEAD = 2**20  # bytes before the samples; more is a WAV with pictures in it, which a temporary file will hold

# Format and bits -> how samples are stored, and what is the largest.
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SAMPLES = {
    (_PCM, 8): ("u1", 128), (_PCM, 16): ("<i2", 2**15), (_PCM, 24): ("u1", 2**31), (_PCM, 32): ("<i4", 2**31),
    (_FLOAT, 32): ("<f4", 1), (_FLOAT, 64): ("<f8", 1),
}  # fmt: skip


@runtime_checkable
class Sink(Protocol):
    """Takes bytes: an open file, a pipe."""

    def write(self, data: bytes, /) -> Any: ...


@runtime_checkable
class ByteSource(Protocol):
    """Gives at most so many bytes, and none only at its end."""

    def read(self, size: int, /) -> bytes: ...


def take(source: ByteSource, size: int) -> bytes:
    """The next `size` bytes, fewer only at the end; a pipe gives them in pieces of its own choice."""
    chunks = []
    while size and (chunk := source.read(size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


class _Form(NamedTuple):
    rate: int
    channels: int
    kind: tuple[int, int]

    @property
    def size(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.kind[1] // 8


def blocks(stream: ByteSource) -> Iterator[tuple[Float[np.ndarray, "channels _"], int]]:
    """The sound of a pipe piece by piece, each with the rate in Hz, as `files.blocks` gives that of a file.

    Several sounds one after the other are one, as there. Raises SoundError for what is no sound, holds less than
    0.01 s, is cut short, or holds NaN or infinity.
    """
    head, form, length = _head(stream)
    if form is not None:
        yield from _wavs(stream, form, length)
        return
    # A folder, since Windows opens no file a second time that is still open, as a NamedTemporaryFile is.
    with into_temporary():
        scratch = tempfile.TemporaryDirectory(prefix="cymatic-")
    with scratch as folder:
        name = os.path.join(folder, "sound")
        chunk = head
        with into_temporary():
            file = open(name, "wb")  # noqa: SIM115
        with file:
            while chunk:
                with into_temporary():
                    file.write(chunk)
                    file.flush()
                chunk = stream.read(2**20)
        try:
            yield from files.blocks(name, lambda what: warnings.warn(f"{NAME} {what}", Note, stacklevel=2))
        except SoundError as error:
            raise SoundError(str(error).replace(name, NAME)) from None


def _head(stream: ByteSource, head: bytes = b"") -> tuple[bytes, _Form | None, int]:
    """What was read (`head` before), and the form and length in bytes of the samples, if it was a plain WAV's head."""
    head += take(stream, 12 - len(head))
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return head, None, 0
    form = None
    while len(chunk := take(stream, 8)) == 8:
        head += chunk
        name, length = struct.unpack("<4sI", chunk)
        if name == b"data":
            return head, form, length
        if length > MOST_HEAD:
            break
        body = take(stream, length + length % 2)
        head += body
        if name == b"fmt " and len(body) >= 16:
            form = _form(body)
    else:
        head += chunk
    return head, None, 0


def _form(body: bytes) -> _Form | None:
    code, channels, rate, _, align, width = struct.unpack_from("<HHIIHH", body)
    if code == _EXTENSIBLE and len(body) >= 40:
        (code,) = struct.unpack_from("<H", body, 24)
    form = _Form(rate, channels, (code, width))
    known = form.kind in _SAMPLES and 1 <= rate <= MAX_RATE and 1 <= channels <= MAX_CHANNELS
    return form if known and align == form.size else None


def _wavs(stream: ByteSource, form: _Form, length: int) -> Iterator[tuple[Float[np.ndarray, "channels _"], int]]:
    """A WAV, and those that follow it, as `cat` joins them; of another form than the first they are left out."""
    samples, left, sounds = 0, 0, 1
    yielding = _wav(stream, form, length)
    while True:
        for block in yielding:
            samples += block.shape[1]
            yield block, form.rate
        if containers.unknown(length) or not _at_another(stream, length):
            break
        sounds += 1
        _, other, length = _head(stream, b"RIFF")
        if other != form:
            left += 1
            while take(stream, 2**16):  # lest the writer meets a closed pipe
                pass
            break
        yielding = _wav(stream, form, length)
    if samples + 1 < files.SHORTEST_SECONDS * form.rate:
        raise SoundError(f"{NAME} is too short ({samples} samples); give at least {files.SHORTEST_SECONDS} s")
    if left:
        warnings.warn(
            f"{NAME} goes on after {sounds - 1} sound{'' if sounds == 2 else 's'} with what is no WAV of the same "
            "form, which is left out",
            Note,
            stacklevel=2,
        )


def _at_another(stream: ByteSource, length: int) -> bool:
    """Passes over what stands behind the samples; whether another WAV begins there, of which "RIFF" is read."""
    take(stream, length % 2)
    while len(name := take(stream, 4)) == 4:
        if name == b"RIFF":
            return True
        (left,) = struct.unpack("<I", take(stream, 4).ljust(4, b"\0"))
        left += left % 2
        while left and (data := take(stream, min(left, 2**16))):
            left -= len(data)
    return False


def _wav(stream: ByteSource, form: _Form, length: int) -> Iterator[Float[np.ndarray, "channels _"]]:
    """The samples of one WAV; up to the end of the pipe where its length is unknown."""
    endless = containers.unknown(length)
    left = 2**62 if endless else length
    at_once = max(1, min(round(form.rate * SECONDS), 2**18 // form.channels)) * form.size
    while left and (data := take(stream, min(at_once, left))):
        left -= len(data)
        whole = data[: len(data) // form.size * form.size]
        if whole:
            block = _decoded(whole, form)
            if not np.isfinite(block).all():
                raise SoundError(f"{NAME} holds samples that are NaN or infinite; give a sound of finite samples")
            yield block
    if left and not endless:
        raise SoundError(
            f"{NAME} is damaged or cut short ({left} bytes of what it promises are missing); give a whole sound"
        )


def _decoded(data: bytes, form: _Form) -> Float[np.ndarray, "channels samples"]:
    stored, scale = _SAMPLES[form.kind]
    numbers = np.frombuffer(data, stored)
    if form.kind == (_PCM, 24):  # into the upper three bytes of 32 bits
        wide = np.zeros((len(numbers) // 3, 4), np.uint8)
        wide[:, 1:] = numbers.reshape(-1, 3)
        numbers = wide.view("<i4")[:, 0]
    floats = numbers.astype(np.float64) - 128 if form.kind == (_PCM, 8) else numbers.astype(np.float64)
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused
        return np.ascontiguousarray((floats / scale).astype(np.float32).reshape(-1, form.channels).T)


class WavPipe:
    """Writes a WAV of 16 bits into a pipe, its length unknown as yet, which the header says as ffmpeg's does."""

    def __init__(self, stream: Sink, rate: int, channels: int) -> None:
        self._stream = stream
        form = struct.pack("<HHIIHH", 1, channels, rate, 2 * channels * rate, 2 * channels, 16)
        unknown = b"\xff" * 4
        stream.write(b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + unknown)

    def add(self, samples: Float[np.ndarray, "channels samples"]) -> None:
        """The next samples; those beyond -1..1 are clipped."""
        scaled = np.floor(np.clip(samples.T * np.float32(32768), -32768, 32767))  # as libsndfile rounds
        self._stream.write(scaled.astype("<i2").tobytes())
