"""Waveforms in memory -> batches of short pieces, each a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.seeds import mixed

QUIETEST, LOUDEST = -20.0, 6.0  # dB of gain drawn for each piece, so that a vocoder knows every level


class Crops:
    """Batches `[batch, 1, samples]` cut from waveforms at one rate; clips shorter than a piece end in silence.

    `weights`: how often each waveform is drawn, in proportion to nothing but them (its length, say, times its pack's
    share). Any step's batch can be asked for at once.
    """

    def __init__(
        self, waves: Sequence[np.ndarray], weights: Sequence[float], samples: int, batch: int, seed: int
    ) -> None:
        self.waves, self.samples, self.batch, self.seed = waves, samples, batch, seed
        self._bounds = np.cumsum(np.asarray(weights, dtype=np.float64))

    def __getitem__(self, step: int) -> Float[Tensor, "batch 1 samples"]:
        draws = np.random.Generator(np.random.PCG64(mixed(self.seed, step)))
        rows = np.zeros((self.batch, 1, self.samples), dtype=np.float32)
        for row in rows:
            wave = self.waves[int(np.searchsorted(self._bounds, draws.random() * self._bounds[-1], side="right"))]
            start = int(draws.integers(0, max(1, len(wave) - self.samples + 1)))
            piece = wave[start : start + self.samples].astype(np.float32)
            gain = 10 ** (draws.uniform(QUIETEST, LOUDEST) / 20)
            row[0, : len(piece)] = np.clip(piece * gain, -1, 1)
        return torch.from_numpy(rows)
