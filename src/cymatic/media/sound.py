"""`Sound`: samples, their rate and where they came from."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import soxr
from jaxtyping import Float
from numpy.typing import ArrayLike

from cymatic.errors import SoundError
from cymatic.media import audio_files as files
from cymatic.media.audio_files import MAX_RATE
from cymatic.scalars import Number, number, python_values
from cymatic.signal import loudness
from cymatic.signal.cancellation import one_channel

MAX_CHANNELS = 1024  # what libsndfile reads; more is nearly always [samples, channels] the wrong way round


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Sound:
    """A sound in memory: float32 samples `[channels, samples]`, nominally in -1..1, at `rate` Hz.

    `info` holds what is known about it (prompt, seed, model, hash), as JSON values; it travels through every method and
    into the files that `write` makes. Methods return new sounds and leave this one alone.
    """

    samples: Float[np.ndarray, "channels samples"]
    rate: int
    info: dict[str, Any]

    def __init__(self, samples: ArrayLike, rate: SupportsIndex, info: Mapping[str, Any] | None = None) -> None:
        """Takes `[channels, samples]` or `[samples]` (one channel); float32 arrays are kept, not copied.

        Raises SoundError for anything that is no sound: other shapes, no samples, NaN or infinity, 16-bit integers
        that were not scaled, a rate outside 1..768000 Hz.
        """
        object.__setattr__(self, "samples", _checked_samples(samples))
        object.__setattr__(self, "rate", _checked_rate(rate))
        object.__setattr__(self, "info", python_values(dict(info or {})))

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, rate: SupportsIndex | None = None, mono: bool = False) -> Sound:
        """Reads a sound file of any format that libsndfile knows, else through ffmpeg where that is installed.

        `rate` resamples, `mono` mixes the channels. Raises FileNotFoundError or SoundError (see `files.read`).
        """
        sound = cls(*files.read(path, mono=mono))
        return sound if rate is None else sound.resample(rate)

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes WAV, FLAC, Ogg Vorbis, Opus or MP3 as the extension says (see `files.write`) and returns the path.

        Samples beyond -1..1 are not clipped: the whole sound is scaled down until it fits. Raises SoundError.
        """
        return files.write(path, self.samples, self.rate, self.info)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.samples.shape[0]

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self) / self.rate

    def __len__(self) -> int:
        return self.samples.shape[1]

    def __repr__(self) -> str:
        return f"Sound({self.seconds:.2f} s, {self.channels} ch, {self.rate} Hz)"

    def _with(self, samples: Float[np.ndarray, "channels samples"], rate: int | None = None) -> Sound:
        return type(self)(samples, rate or self.rate, self.info)

    def resample(self, rate: SupportsIndex) -> Sound:
        """The same sound at `rate` Hz (soxr, high quality); `round(samples * rate / self.rate)` samples, at least 1."""
        rate = _checked_rate(rate)
        if rate == self.rate:
            return self
        try:
            resampled = soxr.resample(self.samples.T, self.rate, rate, quality="HQ").T
        except (RuntimeError, ValueError) as error:
            raise SoundError(
                f"a sound at {self.rate} Hz can't be resampled to {rate} Hz ({error}); go in smaller steps"
            ) from None
        if resampled.shape[1] == 0:  # less than half a sample: soxr gives nothing
            resampled = self.samples.mean(axis=1, keepdims=True)
        return self._with(resampled, rate)

    def mono(self) -> Sound:
        """The mean of all channels, `[1, samples]`; where they would cancel each other, the loudest of them instead
        (see `signal.cancellation`)."""
        return self if self.channels == 1 else self._with(one_channel(self.samples, self.rate))

    def cut(self, start: Number = 0.0, end: Number | None = None) -> Sound:
        """The part from `start` to `end` in seconds (None or beyond the end: to the end), at least one sample.

        Raises SoundError where `start` lies outside the sound or `end` is not after `start`.
        """
        start = number(start, "the start of a cut", SoundError)
        end = None if end is None else number(end, "the end of a cut", SoundError)
        if not 0 <= start < self.seconds:
            raise SoundError(f"a cut at {start:g} s lies outside the sound; start between 0 and {self.seconds:g} s")
        if end is not None and not end > start:
            raise SoundError(f"a cut from {start:g} s to {end:g} s is empty; let the end come after the start")
        first = min(round(start * self.rate), len(self) - 1)
        last = len(self) if end is None or end >= self.seconds else max(round(end * self.rate), first + 1)
        return self._with(self.samples[:, first:last].copy())

    def trim(self, threshold_db: Number = -60.0, pad: Number = 0.0) -> Sound:
        """Without the silence at both ends: whatever lies below `threshold_db` relative to the sound's own peak.

        `pad` seconds of what was there are kept on each side. A silent sound is returned unchanged. Raises SoundError.
        """
        pad, threshold_db = _checked_seconds("pad", pad), number(threshold_db, "threshold_db", SoundError)
        if not threshold_db <= 0:
            raise SoundError(f"threshold_db is {threshold_db:g}; give decibels below the peak, 0 or less")
        level = np.abs(self.samples).max(axis=0)
        if not level.any():
            return self
        # A slice of a float32 maximum against itself must hold at 0 dB, so the comparison stays in float32.
        loud = np.flatnonzero(level >= level.max() * np.float32(10 ** (threshold_db / 20)))
        margin = round(min(pad, self.seconds) * self.rate)
        return self._with(self.samples[:, max(loud[0] - margin, 0) : loud[-1] + 1 + margin].copy())

    def fade(self, fade_in: Number = 0.0, fade_out: Number = 0.0) -> Sound:
        """Raised-cosine fades from and to silence, in seconds; a fade longer than the sound takes all of it.

        Raises SoundError for negative times.
        """
        fade_in, fade_out = _checked_seconds("fade_in", fade_in), _checked_seconds("fade_out", fade_out)
        faded = self.samples.copy()
        faded *= self._ramp(fade_in)
        faded *= self._ramp(fade_out)[::-1]
        return self._with(faded)

    def _ramp(self, seconds: float) -> Float[np.ndarray, " samples"]:
        ramp = np.ones(len(self), dtype=np.float32)
        rising = round(min(seconds, self.seconds) * self.rate)
        ramp[:rising] = 0.5 - 0.5 * np.cos(np.pi * np.arange(rising) / max(rising, 1))
        return ramp

    def loudness(self) -> float:
        """Integrated loudness in LUFS (ITU-R BS.1770-4); -inf for silence. See `loudness.integrated`."""
        return loudness.integrated(self.samples, self.rate)

    def true_peak(self) -> float:
        """True peak in dBTP (ITU-R BS.1770-4, four times oversampled); -inf for silence."""
        return loudness.true_peak(self.samples, self.rate)

    def at_loudness(self, lufs: Number = -23.0, peak_db: Number = -1.0) -> Sound:
        """The same sound at `lufs` LUFS, or as near as its true peak allows without going above `peak_db` dBTP.

        One gain for the whole sound, so nothing is clipped or squashed. The defaults are EBU R 128's. Silence is
        returned unchanged.
        """
        lufs, peak_db = number(lufs, "the loudness", SoundError), number(peak_db, "the peak", SoundError)
        now = self.loudness()
        return self if now == -math.inf else self._amplified(min(lufs - now, self._headroom(peak_db)))

    def peak_limited(self, peak_db: Number = -1.0) -> Sound:
        """The same sound, quieter where its true peak lies above `peak_db` dBTP; otherwise unchanged."""
        gain = self._headroom(number(peak_db, "the peak", SoundError))
        return self if gain >= 0 else self._amplified(gain)

    def _headroom(self, peak_db: float) -> float:
        # A thousandth of a decibel less, so that rounding to float32 can't lift the result above the limit.
        return peak_db - 1e-3 - self.true_peak()

    def _amplified(self, gain_db: float) -> Sound:
        if not math.isfinite(gain_db):
            raise SoundError(f"a gain of {gain_db:g} dB is no gain; give a loudness and a peak in finite decibels")
        return self._with(self.samples * np.float32(10 ** (gain_db / 20)))

    def plot(self, path: str | os.PathLike[str], title: str | None = None) -> Path:
        """Draws the waveform and its mel spectrogram into a PNG; the title is the prompt unless given."""
        from cymatic.media.plot import plot  # brings in matplotlib

        return plot(self, path, str(self.info.get("prompt", "")) if title is None else title)


def _checked_samples(samples: ArrayLike) -> Float[np.ndarray, "channels samples"]:
    try:
        given = np.asarray(samples)
    except (TypeError, ValueError):  # rows of unequal length, a tensor that needs a gradient
        given = np.asarray(None)
    if given.dtype.kind not in "fiub":
        raise SoundError(
            f"samples given as {type(samples).__name__} are not real numbers in rows of equal length; give numbers in "
            "-1..1 shaped [channels, samples]"
        )
    if given.ndim not in (1, 2):
        raise SoundError(f"samples have shape {list(given.shape)}; give [channels, samples] or [samples]")
    if given.size == 0:
        raise SoundError(f"samples have shape {list(given.shape)}, so there is no sound; give at least one sample")
    if given.ndim == 2 and len(given) > MAX_CHANNELS:
        raise SoundError(
            f"samples have shape {list(given.shape)}, so {len(given)} channels, where {MAX_CHANNELS} is the most; "
            "give [channels, samples], perhaps by transposing"
        )
    # Narrow integers are what other libraries read from files: taken at their word they would be deafening.
    if given.dtype.kind in "iu" and given.dtype.itemsize <= 4 and (given.max() > 1 or given.min() < -1):
        raise SoundError(
            f"samples are {given.dtype} from {given.min()} to {given.max()}; give floats in -1..1 "
            f"(divide by {2 ** (8 * given.dtype.itemsize - 1)})"
        )
    with np.errstate(over="ignore"):  # too large for float32 becomes infinite, which is refused below
        array = np.ascontiguousarray(np.atleast_2d(given), dtype=np.float32)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise SoundError(f"{bad} of {array.size} samples are NaN or infinite; give finite numbers in -1..1")
    return array


def _checked_rate(rate: Any) -> int:
    try:
        whole = operator.index(rate)
    except TypeError:
        whole = 0
    if not 1 <= whole <= MAX_RATE:
        raise SoundError(f"the rate is {rate!r}; give a whole number of Hz between 1 and {MAX_RATE}")
    return whole


def _checked_seconds(name: str, given: Number) -> float:
    seconds = number(given, name, SoundError)
    if not 0 <= seconds < math.inf:
        raise SoundError(f"{name} is {seconds:g}; give a time in seconds, 0 or more")
    return seconds
