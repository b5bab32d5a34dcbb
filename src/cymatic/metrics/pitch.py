"""Which note is it? One pitch for the sound of one note, by YIN (de Cheveigné and Kawahara, 2002)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from cymatic.signal.sound import Sound

RATE = 48_000  # Hz; at half of this the dip of a note of 2 kHz would fall between two lags and look shallow
LOWEST, HIGHEST = 30.0, 3_000.0  # Hz: below the lowest note of a double bass (41 Hz), above F7 (2794 Hz)
WINDOW = 0.05  # seconds of sound that each frame compares with its shifted self
HOP = 0.01  # seconds from frame to frame
DIP = 0.15  # the first lag whose difference dips below this is the period
VOICED = 0.35  # frames whose best dip is no deeper have no pitch
LOUD = 20.0  # dB below the loudest frame within which frames count


@dataclass(frozen=True)
class Track:
    """Frame by frame: the pitch in Hz, how far from periodic the frame is (0: perfectly periodic), and its power."""

    hz: Float[np.ndarray, " frames"]
    aperiodicity: Float[np.ndarray, " frames"]
    power: Float[np.ndarray, " frames"]


def note_pitch(sound: Sound) -> float | None:
    """The pitch of a sound that holds one note, as a MIDI number with fractions (69 is A4, 440 Hz; 1 is 100 cents).

    The median over the frames that are voiced and within 20 dB of the loudest frame; None where there is no such
    frame, as in silence and noise, or in a sound shorter than a tenth of a second.
    """
    found = track(sound)
    if not len(found.hz):
        return None
    chosen = (found.aperiodicity < VOICED) & (found.power > found.power.max() * 10 ** (-LOUD / 10))
    return float(np.median(midi_of(found.hz[chosen]))) if chosen.any() else None


def midi_of(hz: Float[np.ndarray, "*any"]) -> Float[np.ndarray, "*any"]:
    """Hz -> MIDI numbers with fractions."""
    return 69 + 12 * np.log2(hz / 440)


def track(sound: Sound) -> Track:
    """YIN over all channels mixed, one frame each 10 ms; no frames where the sound is shorter than one."""
    samples = sound.mono().resample(RATE).samples[0].astype(np.float64)
    window, longest = round(WINDOW * RATE), round(RATE / LOWEST) + 1
    if len(samples) < window + longest:
        return Track(*(np.zeros(0) for _ in range(3)))
    frames = sliding_window_view(samples, window + longest)[:: round(HOP * RATE)]
    power = (frames[:, :window] ** 2).mean(1)
    normal = normalised(difference(frames, longest))
    best = np.array([_period(row, round(RATE / HIGHEST)) for row in normal])
    lag, depth = best.T
    return Track(RATE / lag, depth, power)


def difference(frames: Float[np.ndarray, "frames samples"], longest: int) -> Float[np.ndarray, "frames lags"]:
    """`d(lag) = sum_j (x_j - x_{j + lag})^2` over the first `samples - longest` samples, lags 0 to `longest`.

    By the Fourier transform: the two energies less twice the correlation.
    """
    window = frames.shape[1] - longest
    size = 2 ** int(np.ceil(np.log2(frames.shape[1])))  # what wraps around lands beyond `longest`
    head = np.fft.rfft(frames[:, :window], size)
    together = np.fft.irfft(head.conj() * np.fft.rfft(frames, size), size)[:, : longest + 1]
    summed = np.pad(np.cumsum(frames**2, axis=1), [(0, 0), (1, 0)])
    energies = summed[:, window : window + longest + 1] - summed[:, : longest + 1]
    # Rounding may leave less than nothing.
    return np.maximum(energies[:, :1] + energies - 2 * together, 0)


def normalised(differences: Float[np.ndarray, "frames lags"]) -> Float[np.ndarray, "frames lags"]:
    """`d'(lag) = d(lag) / mean of d(1) to d(lag)`, and 1 at lag 0 and in silence: a period is a dip towards 0."""
    lags = np.arange(1, differences.shape[1])
    mean = np.cumsum(differences[:, 1:], axis=1) / lags
    rest = np.divide(differences[:, 1:], mean, out=np.ones_like(mean), where=mean > 0)
    return np.concatenate([np.ones((len(rest), 1)), rest], axis=1)


def _period(normal: Float[np.ndarray, " lags"], shortest: int) -> tuple[float, float]:
    """The lag (with fractions) of the first dip below `DIP`, else of the deepest dip, and how deep it goes."""
    inner = normal[shortest : len(normal) - 1]
    dips = shortest + np.flatnonzero((inner <= normal[shortest - 1 : -2]) & (inner < normal[shortest + 1 :]))
    if not len(dips):
        return float(len(normal)), 1.0
    deep = dips[normal[dips] < DIP]
    lag = int(deep[0]) if len(deep) else int(dips[np.argmin(normal[dips])])
    before, here, after = normal[lag - 1 : lag + 2]
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0 else 0.0  # the vertex of the parabola through three points
    return lag + shift, float(here - 0.25 * (before - after) * shift)
