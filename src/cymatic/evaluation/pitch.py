"""Which note is it? One pitch for the sound of one note, by YIN (de Cheveigné and Kawahara, 2002)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from cymatic.media.sound import Sound
from cymatic.signal.yin import difference, normalised, period

RATE = 48_000  # Hz; at half of this the dip of a note of 2 kHz would fall between two lags and look shallow
LOWEST, HIGHEST = 30.0, 3_000.0  # Hz: below the lowest note of a double bass (41 Hz), above F7 (2794 Hz)
WINDOW = 0.05  # seconds of sound that each frame compares with its shifted self
HOP = 0.01  # seconds from frame to frame
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
    lag, depth = period(normalised(difference(torch.from_numpy(frames.copy()), longest)), round(RATE / HIGHEST))
    return Track(RATE / lag.numpy(), depth.numpy(), power)
