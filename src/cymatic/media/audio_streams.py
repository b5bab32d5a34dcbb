"""Sounds piece by piece, so that hours of them need no memory: to another rate and number of channels, into a file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from types import TracebackType
from typing import Any, Self

import numpy as np
import soundfile
import soxr
from jaxtyping import Float

from cymatic.errors import Note, SoundError
from cymatic.media.audio_files import FORMATS, tags
from cymatic.signal.cancellation import Cancellation

Blocks = Iterable[
    tuple[np.ndarray, int]
]  # float32 [channels, samples] and the rate in Hz, as `files.blocks` gives them
AUDIBLE = 1e-3  # of full scale
MOST_SILENCE = 60  # seconds before the first sound that are held
MOST_WAV = 2**32 - 2**20  # bytes; a WAV file can't say that it holds more


def fitted(
    blocks: Blocks, rate: int, channels: int, mix: Cancellation | None = None, *, name: str = "the sound"
) -> Iterator[Float[np.ndarray, "channels _"]]:
    """A sound at `rate` Hz in `channels` channels, in the same pieces; what `Sound.resample` gives, bit for bit.

    One channel is spread to all; otherwise, where the numbers differ, all are mixed to one first, and one Note says so.
    Where a mix would cancel what it is made of, the loudest channel is taken instead. `mix` has heard all of the sound
    and knows (see `heard`); without it the first second that is not silent decides, and is waited for. name: of the
    sound, in what is said of it.

    Raises SoundError where there are no samples, or a rate that can't be reached from the sound's own.
    """
    converter, given, total, count = None, 0, 0.0, 0
    waiting = iter(blocks)
    first: list[tuple[np.ndarray, int]] = []
    if mix is None:
        first, mix = _first_second(waiting, channels)
    loudest = mix.loudest if mix is not None else None
    for block, own in chain(first, waiting):
        if count == 0 and block.shape[0] not in (1, channels):
            _say_mix(name, block.shape[0], channels, mix if loudest is not None else None)
        if block.shape[0] != channels:
            one = block.mean(axis=0, keepdims=True) if loudest is None else block[loudest : loudest + 1]
            block = np.repeat(one, channels, axis=0)
        if own != rate:
            total, count = total + float(block.sum()), count + block.size
            if converter is None:
                converter = _converter(own, rate, channels)
            block = np.ascontiguousarray(converter.resample_chunk(np.ascontiguousarray(block.T)).T)
        else:
            count += block.size
        given += block.shape[1]
        if block.shape[1]:
            yield block
    if count == 0:
        raise SoundError("the sound is empty (0 samples); give at least one sample")
    if converter is not None:
        rest = np.ascontiguousarray(converter.resample_chunk(np.zeros((0, channels), np.float32), last=True).T)
        if given + rest.shape[1] == 0:  # less than half a sample
            rest = np.full((channels, 1), total / count, np.float32)
        if rest.shape[1]:
            yield rest


def heard(blocks: Blocks, channels: int) -> Cancellation | None:
    """What a mix of a sound would cancel, all of it heard; None where it need not be mixed to fit `channels`."""
    mix = None
    for block, rate in blocks:
        if block.shape[0] in (1, channels):
            return None
        mix = mix or Cancellation(block.shape[0], rate)
        mix.add(block)
    return mix


def _first_second(
    blocks: Iterator[tuple[np.ndarray, int]], channels: int
) -> tuple[list[tuple[np.ndarray, int]], Cancellation | None]:
    """The first pieces, a second that is not silent among them, and what a mix of them would cancel."""
    held, mix, sounding = [], None, 0
    for block, rate in blocks:
        held.append((block, rate))
        if block.shape[0] in (1, channels):
            break
        mix = mix or Cancellation(block.shape[0], rate)
        if sounding == 0:  # what is before the first sound says nothing
            loud = np.flatnonzero(np.abs(block).max(axis=0, initial=0) > AUDIBLE)
            block = block[:, loud[0] :] if len(loud) else block[:, :0]
        sounding += block.shape[1]
        mix.add(block[:, : max(0, rate - sounding + block.shape[1])])
        if sounding >= rate or sum(one.shape[1] for one, _ in held) >= MOST_SILENCE * rate:
            break
    return held, mix


def _say_mix(name: str, given: int, channels: int, mix: Cancellation | None) -> None:
    expected = f"{channels} {'is' if channels == 1 else 'are'} expected"
    if mix is not None:
        say = f"it {mix.remark.removesuffix(' there')}"
    else:
        say = "it is mixed to one" if channels == 1 else f"it is mixed to one, and that is used for all {channels}"
    warnings.warn(f"{name} has {given} channels where {expected}; {say}", Note, stacklevel=3)


def _converter(own: int, rate: int, channels: int) -> soxr.ResampleStream:
    try:
        return soxr.ResampleStream(own, rate, channels, dtype="float32", quality="HQ")
    except (RuntimeError, ValueError) as error:
        raise SoundError(
            f"a sound at {own} Hz can't be resampled to {rate} Hz ({error}); go in smaller steps"
        ) from None


class SoundWriter:
    """Writes a sound to an open file as it comes, in the format of `extension`; samples beyond -1..1 are clipped.

    Where a format does not know the rate the sound is resampled to the next one that it knows. Leaving the block makes
    the file complete. `info` is stored as in `files.write`. Raises SoundError for an unknown extension, more channels
    than the format holds, and more sound than a WAV file can.
    """

    def __init__(
        self, file: Any, extension: str, rate: int, channels: int, info: Mapping[str, Any] | None = None
    ) -> None:
        if extension.lower() not in FORMATS:
            raise SoundError(f'a sound can\'t be written as "{extension}"; use one of {", ".join(FORMATS)}')
        container, subtype, most, rates = FORMATS[extension.lower()]
        if channels > most:
            raise SoundError(f"{extension} can hold {most} channels at most, not {channels}; write a .wav")
        self.rate = rate if rate in rates else min((known for known in rates if known > rate), default=rates[-1])
        self._converter = None if self.rate == rate else _converter(rate, self.rate, channels)
        self._left = MOST_WAV // (2 * channels) if container == "WAV" else 2**62  # samples
        self._guarded = _Guarded(file)
        try:
            self._file = soundfile.SoundFile(self._guarded, "w", self.rate, channels, subtype, format=container)
        except RuntimeError as error:
            raise SoundError(
                f"{channels} channels at {self.rate} Hz can't be written as {extension} ({error}); try a .wav"
            ) from None
        for name, text in tags(info or {}).items():
            if text:
                setattr(self._file, name, text)

    def add(self, samples: Float[np.ndarray, "channels samples"]) -> None:
        """The next samples."""
        if self._converter is not None:
            samples = self._converter.resample_chunk(np.ascontiguousarray(samples.T)).T
        self._write(samples)

    def _write(self, samples: Float[np.ndarray, "channels samples"]) -> None:
        self._left -= samples.shape[1]
        if self._left < 0:
            raise SoundError("the sound is longer than a WAV file can hold (4 GB); write a .flac")
        step = max(1, 2**16 // samples.shape[0])  # libsndfile puts a whole Vorbis write on the stack
        for start in range(0, samples.shape[1], step):
            self._file.write(np.clip(samples[:, start : start + step], -1, 1).T)
            if self._guarded.error is not None:
                raise self._guarded.error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._converter is not None:
            nothing = np.zeros((0, self._file.channels), np.float32)
            self._write(self._converter.resample_chunk(nothing, last=True).T)
        self._file.close()
        if kind is None and self._guarded.error is not None:
            raise self._guarded.error


class _Guarded:
    """A file that keeps its errors for later: inside libsndfile's callbacks they would only end up on stderr."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: OSError | None = None
        self.tell, self.seek, self.read = file.tell, file.seek, file.read

    def write(self, data: bytes) -> int:
        try:
            self._file.write(data)
        except OSError as error:
            self.error = self.error or error
        return len(data)
