"""Channels that cancel each other when they are mixed: right = -left, wholly or in part of time and spectrum."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SECONDS = 0.1  # of a window; half as far apart
CELL = 8  # windows
LOWEST, BANDS_PER_OCTAVE = 50.0, 2  # Hz
DEPTH = 1e-4  # cells 40 dB below the loudest don't count
LOST = 0.1  # what is left of a cell's energy, against channels that have nothing to do with each other: 10 dB less
SHARE = 0.2  # of what is heard
_LOUDNESS = 0.3  # of energy, as it is heard (Stevens' power law)


class Cancellation:
    """Takes a sound of two or more channels piece by piece; `share` is what part of it a mix would lose.

    Time and spectrum are cut into cells of 0.4 s and half an octave. A cell is lost where the mix holds a tenth or less
    of the energy that the mix of unrelated channels would have. Cells count by their loudness.
    """

    def __init__(self, channels: int, rate: int) -> None:
        self.channels, self.rate = channels, rate
        self.power = np.zeros(channels)  # the sum of squares of each channel
        self._window = max(64, 2 * round(SECONDS * rate / 2))
        self._stretch = self._window // 2 * (CELL + 1)  # samples of a cell
        self._waiting = np.zeros((channels, 0), np.float32)
        self._cells: list[tuple[np.ndarray, np.ndarray]] = []  # energy of the mix, and of unrelated channels, by band
        top = max(LOWEST * 2, rate / 2)
        edges = LOWEST * 2 ** (np.arange(1, np.log2(top / LOWEST) * BANDS_PER_OCTAVE) / BANDS_PER_OCTAVE)
        frequencies = np.fft.rfftfreq(self._window, 1 / rate)
        self._starts = np.unique([1, *np.searchsorted(frequencies, edges)])
        self._starts = self._starts[self._starts < len(frequencies)]

    def add(self, samples: Float[np.ndarray, "channels _"]) -> None:
        """The next samples."""
        if self.channels == 1:
            return
        self.power += np.square(samples, dtype=np.float64).sum(axis=1)
        self._waiting = np.concatenate([self._waiting, samples], axis=1)
        while self._waiting.shape[1] >= self._stretch:
            self._measure(self._waiting[:, : self._stretch])
            self._waiting = self._waiting[:, CELL * self._window // 2 :]

    def _measure(self, samples: Float[np.ndarray, "channels _"]) -> None:
        hop = self._window // 2
        missing = -samples.shape[1] % hop + (hop if samples.shape[1] <= hop else 0)
        padded = np.pad(samples, ((0, 0), (0, missing)))
        taper = np.hanning(self._window)
        windows = np.lib.stride_tricks.sliding_window_view(padded, self._window, axis=1)[:, ::hop] * taper
        spectrum = np.fft.rfft(windows, axis=-1)
        unrelated = np.square(np.abs(spectrum)).sum(axis=(0, 1)) / self.channels**2
        mixed = np.square(np.abs(spectrum.mean(axis=0))).sum(axis=0)
        bands = [np.add.reduceat(energy, self._starts) for energy in (mixed, unrelated)]
        self._cells.append((bands[0], bands[1]))

    @property
    def share(self) -> float:
        """What part of the sound is lost in a mix, 0..1. Ask once all was added."""
        if self.channels == 1 or not self.power.any():
            return 0.0
        cells = list(self._cells)
        if self._waiting.shape[1] and (not cells or self._waiting.shape[1] > self._stretch // 4):
            self._measure(self._waiting)
            cells, self._cells = self._cells, cells
        mixed, unrelated = np.stack([a for a, _ in cells]), np.stack([b for _, b in cells])
        heard = np.where(unrelated > DEPTH * unrelated.max(), unrelated, 0) ** _LOUDNESS
        total = heard.sum()
        return float(heard[mixed < LOST * unrelated].sum() / total) if total > 0 else 0.0

    @property
    def loudest(self) -> int | None:
        """The channel to take instead of a mix; None where a mix is as good as any."""
        return int(self.power.argmax()) if self.share >= SHARE else None

    @property
    def remark(self) -> str:
        """What is said of a sound whose loudest channel is taken."""
        return (
            f"has channels that cancel each other where they are mixed to one ({100 * self.share:.0f} % of it would be "
            f"lost), so that channel {int(self.power.argmax()) + 1} alone, the loudest, is used there"
        )


def cancellation(samples: Float[np.ndarray, "channels _"], rate: int) -> Cancellation:
    """That of a sound in memory."""
    found = Cancellation(samples.shape[0], rate)
    step = max(1, 2**20 // samples.shape[0])
    for start in range(0, samples.shape[1], step):
        found.add(samples[:, start : start + step])
    return found


def one_channel(samples: Float[np.ndarray, "channels samples"], rate: int) -> Float[np.ndarray, "1 samples"]:
    """The mean of all channels; where they would cancel each other, the loudest of them."""
    if samples.shape[0] == 1:
        return samples
    loudest = cancellation(samples, rate).loudest
    return samples.mean(axis=0, keepdims=True) if loudest is None else samples[loudest : loudest + 1]
