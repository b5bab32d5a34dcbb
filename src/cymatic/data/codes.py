"""Codes of sounds in memory -> batches whose order is a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.data.mels import order
from cymatic.errors import Error


@dataclass(frozen=True)
class Coded:
    """A caption and the codes of its sound, `[rows, columns]`; several `variants` of one sound stand side by side.

    features: what is seen while it sounds, where that is what a model hears from.
    """

    caption: str
    variants: tuple[Int[Tensor, "rows _"], ...]
    features: Float[Tensor, "steps dim"] | None = None

    @property
    def columns(self) -> int:
        """Of the longest variant."""
        return max(codes.shape[1] for codes in self.variants)


@dataclass(frozen=True)
class CodesBatch:
    """Sounds side by side: `codes [batch, rows, columns]`, 0 beyond each item's length in `columns`."""

    captions: list[str]
    codes: Int[Tensor, "batch rows columns"]
    columns: Int[Tensor, " batch"]
    features: list[Float[Tensor, "_ dim"]] | None = None
    shard: BatchShard | None = None

    def part(self, number: int, count: int) -> CodesBatch:
        """Every `count`th item from `number` on, with its share in the whole."""
        mine = slice(number, None, count)
        shard = BatchShard.of(self.columns.tolist(), number, count)
        columns = self.columns[mine]
        codes = self.codes[mine, :, : int(columns.max())]
        features = None if self.features is None else self.features[mine]
        return CodesBatch(self.captions[mine], codes, columns, features, shard)


def collate_codes(clips: Sequence[Coded], variant: int = 0, shard: BatchShard | None = None) -> CodesBatch:
    """A batch of one variant of each clip."""
    codes = [clip.variants[variant % len(clip.variants)] for clip in clips]
    columns = torch.tensor([one.shape[1] for one in codes])
    padded = torch.zeros(len(codes), codes[0].shape[0], int(columns.max()), dtype=torch.int64)
    for row, one in zip(padded, codes, strict=True):
        row[:, : one.shape[1]] = one
    features = [clip.features for clip in clips if clip.features is not None]
    return CodesBatch([clip.caption for clip in clips], padded, columns, features or None, shard)


class CodesBatches:
    """As `data.mels.Batches`, of coded sounds; each epoch meets the next variant of every sound."""

    def __init__(self, clips: Sequence[Coded], batch: int, seed: int, *, rank: int = 0, ranks: int = 1) -> None:
        if min(batch, len(clips)) < ranks:
            raise Error(
                f"a batch of {min(batch, len(clips))} clips is too small for {ranks} devices; give more clips, a "
                f"training.batch of at least {ranks}, or fewer --devices"
            )
        self.clips, self.batch, self.seed = clips, min(batch, len(clips)), seed
        self.rank, self.ranks = rank, ranks
        self._lengths = [clip.columns for clip in clips]
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def per_epoch(self) -> int:
        return len(self.clips) // self.batch

    def __getitem__(self, step: int) -> CodesBatch:
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, order(self._lengths, self.batch, self.seed, epoch))
        clips = [self.clips[i] for i in self._epoch[1][position]]
        lengths = [clip.variants[epoch % len(clip.variants)].shape[1] for clip in clips]
        shard = BatchShard.of(lengths, self.rank, self.ranks) if self.ranks > 1 else None
        return collate_codes(clips[self.rank :: self.ranks], epoch, shard)


def codes_in_order(clips: Sequence[Coded], batch: int) -> Iterable[CodesBatch]:
    """All sounds once, in their first variant, shortest first: for measuring."""
    ordered = sorted(clips, key=lambda clip: clip.variants[0].shape[1])
    for i in range(0, len(ordered), batch):
        yield collate_codes(ordered[i : i + batch])
