"""What is done to a published sound before it lies in a pack: one channel, 24 kHz, no silence at its ends."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import soundfile
from jaxtyping import Float

from cymatic.errors import Error
from cymatic.media.sound import Sound

RATE = 24_000  # Hz
WINDOW, HOP = 0.02, 0.01  # seconds, over which a level is taken


def decoded(data: bytes, name: str) -> Sound:
    """The sound in the bytes of a file. Raises Error where there is none."""
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise Error(f"{name} is not a sound that can be read ({str(error).strip(' .')}); fetch it again") from None
    return Sound(samples.T, rate)


def as_in_packs(sound: Sound) -> Sound:
    """The mean of all channels at 24 kHz."""
    return sound.mono().resample(RATE)


def loud_part(
    samples: Float[np.ndarray, " samples"], threshold_db: float, before: float, after: float
) -> tuple[int, int]:
    """The first sample and the end of what is to be kept of a sound at 24 kHz.

    A level is taken over 20 ms every 10 ms; kept is what lies between `before` seconds ahead of the first window above
    `threshold_db` (dBFS) and `after` seconds behind the last one. Silence is kept whole.
    """
    window, hop = round(WINDOW * RATE), round(HOP * RATE)
    power = np.cumsum(np.pad(np.square(samples, dtype=np.float64), (1, 0)))
    starts = np.arange(0, max(len(samples) - window, 0) + 1, hop)
    ends = np.minimum(starts + window, len(samples))
    loud = np.flatnonzero(power[ends] - power[starts] > window * 10 ** (threshold_db / 10))
    if not len(loud):
        return 0, len(samples)
    first = starts[loud[0]] - round(before * RATE)
    end = starts[loud[-1]] + window + round(after * RATE)
    return max(int(first), 0), min(int(end), len(samples))


def levels(samples: Float[np.ndarray, " samples"], parts: int) -> list[float]:
    """The level in dBFS of each of `parts` equal parts of a sound, at least -99: enough to tell sounds apart."""
    edges = [round(i * len(samples) / parts) for i in range(parts + 1)]
    power = [np.mean(np.square(samples[a:b], dtype=np.float64)) if b > a else 0.0 for a, b in pairwise(edges)]
    return [max(-99.0, float(10 * np.log10(one + 1e-12))) for one in power]
