"""Recordings -> waveforms in memory -> batches of short pieces, each a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.errors import Error
from cymatic.seeds import mixed

QUIETEST, LOUDEST = -20.0, 6.0  # dB of gain drawn for each sound, so that a vocoder knows every level
GAP = 0.1  # of a piece: the longest silence between two sounds in it


class RandomCrops:
    """Batches `[batch, 1, samples]` cut from waveforms at one rate; sounds shorter than a piece are followed by others.

    Between two sounds there is a short silence, for that is how sounds end. No gain makes a sound clip.

    `weights`: how often each waveform is drawn, in proportion to nothing but them (its length, say, times its pack's
    share). Any step's batch can be asked for at once. Of `ranks` processes each gives every `ranks`th piece of each
    batch, from `rank` on; raises Error where they can't have equally many.
    """

    def __init__(
        self,
        waves: Sequence[np.ndarray],
        weights: Sequence[float],
        samples: int,
        batch: int,
        seed: int,
        *,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch % ranks:
            raise Error(
                f"a batch of {batch} pieces can't be shared evenly by {ranks} devices; give a training.batch that is a "
                f"multiple of {ranks}, or other --devices"
            )
        self.rank, self.ranks = rank, ranks
        self.waves, self.samples, self.batch, self.seed = waves, samples, batch, seed
        self._bounds = np.cumsum(np.asarray(weights, dtype=np.float64))

    def __getitem__(self, step: int) -> Float[Tensor, "batch 1 samples"]:
        draws = np.random.Generator(np.random.PCG64(mixed(self.seed, step)))
        rows = np.zeros((self.batch // self.ranks, 1, self.samples), dtype=np.float32)
        for i in range(self.batch):
            filled = 0
            while filled < self.samples:
                wave = self.waves[int(np.searchsorted(self._bounds, draws.random() * self._bounds[-1], side="right"))]
                start = int(draws.integers(0, max(1, len(wave) - self.samples + 1)))
                gain = 10 ** (draws.uniform(QUIETEST, LOUDEST) / 20)
                gap = int(draws.uniform(0, GAP) * self.samples)
                piece = wave[start : start + self.samples - filled]
                if i % self.ranks == self.rank and len(piece):  # drawn for all, so that a piece is the same for all
                    piece = piece.astype(np.float32)
                    peak = float(np.abs(piece).max())
                    rows[i // self.ranks, 0, filled : filled + len(piece)] = piece * min(gain, 1 / max(peak, 1e-9))
                filled += max(1, len(piece)) + gap
        return torch.from_numpy(rows)
