"""Mels in memory -> batches of pieces of one length, each a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.data.mels import Clip
from cymatic.errors import Error
from cymatic.seeds import mixed


@dataclass(frozen=True)
class Pieces:
    """Pieces of mels side by side, and what the clips that they are cut from are called."""

    captions: list[str]
    mel: Float[Tensor, "batch mels frames"]
    shard: BatchShard | None = None


class MelRandomCrops:
    """Batches of pieces `[batch, mels, frames]` cut from clips; a shorter clip lies somewhere in its piece, in silence.

    Each clip is drawn as often as the root of its length: long ones hold more, and short ones would hardly be seen
    otherwise. Any step's batch can be asked for at once. Of `ranks` processes each gives every `ranks`th piece of each
    batch, from `rank` on; raises Error where they can't have equally many.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        frames: int,
        batch: int,
        seed: int,
        *,
        silence: float,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch % ranks:
            raise Error(
                f"a batch of {batch} pieces can't be shared evenly by {ranks} devices; give a training.batch that is a "
                f"multiple of {ranks}, or other --devices"
            )
        self.clips, self.frames, self.batch, self.seed, self.silence = clips, frames, batch, seed, silence
        self.rank, self.ranks = rank, ranks
        self._bounds = np.cumsum([clip.mel.shape[1] ** 0.5 for clip in clips])

    def __getitem__(self, step: int) -> Pieces:
        draws = np.random.Generator(np.random.PCG64(mixed(self.seed, step)))
        mels = self.clips[0].mel.shape[0]
        pieces = torch.full((self.batch // self.ranks, mels, self.frames), self.silence)
        captions = []
        for i in range(self.batch):
            clip = self.clips[int(np.searchsorted(self._bounds, draws.random() * self._bounds[-1], side="right"))]
            spare = clip.mel.shape[1] - self.frames
            start = int(draws.integers(0, abs(spare) + 1))
            if i % self.ranks == self.rank:  # drawn for all, so that a piece is the same whoever has it
                captions.append(clip.caption)
                piece = pieces[i // self.ranks]
                if spare >= 0:
                    piece.copy_(clip.mel[:, start : start + self.frames])
                else:
                    piece[:, start : start + clip.mel.shape[1]] = clip.mel
        shard = BatchShard.of([self.frames] * self.batch, self.rank, self.ranks) if self.ranks > 1 else None
        return Pieces(captions, pieces, shard)
