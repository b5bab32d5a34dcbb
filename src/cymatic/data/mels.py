"""Log mels in memory -> batches whose order is a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error
from cymatic.media import audio
from cymatic.seeds import mixed

prepare, mel_of = audio.levelled, audio.mel_of  # until pipelines and evaluation read the medium


@dataclass(frozen=True)
class Clip:
    """A caption and its log mel `[mels, frames]`."""

    caption: str
    mel: Float[Tensor, "mels frames"]


@dataclass(frozen=True)
class Batch:
    """Clips side by side: `mel [batch, mels, frames]`, zero beyond each item's length in `frames`.

    `share` says which clips of a larger batch these are, where several processes share it; None: all of them.
    """

    captions: list[str]
    mel: Float[Tensor, "batch mels frames"]
    frames: Int[Tensor, " batch"]
    shard: BatchShard | None = None


def collate(clips: Sequence[Clip], shard: BatchShard | None = None) -> Batch:
    frames = torch.tensor([clip.mel.shape[1] for clip in clips])
    mel = torch.zeros(len(clips), clips[0].mel.shape[0], int(frames.max()))
    for row, clip in zip(mel, clips, strict=True):
        row[:, : clip.mel.shape[1]] = clip.mel
    return Batch([clip.caption for clip in clips], mel, frames, shard)


class Batches:
    """Batches of clips of similar length, in an order that depends on the seed and the step only.

    Any step's batch can be asked for at once, so a resumed run needs no data position beyond its step. Of `ranks`
    processes each gives every `ranks`th clip of each batch, from `rank` on; raises Error where a batch has too few.

    `change`: what a clip becomes at a step and a place in the whole batch (see `data.augment`).
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        batch: int,
        seed: int,
        *,
        change: Callable[[Clip, int, int], Clip] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if min(batch, len(clips)) < ranks:
            raise Error(
                f"a batch of {min(batch, len(clips))} clips is too small for {ranks} devices; give more clips, a "
                f"training.batch of at least {ranks}, or fewer --devices"
            )
        self.rank, self.ranks = rank, ranks
        self.clips, self.change = clips, change
        self.batch = min(batch, len(clips))
        self.seed = seed
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def per_epoch(self) -> int:
        return len(self.clips) // self.batch

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            lengths = [clip.mel.shape[1] for clip in self.clips]
            self._epoch = (epoch, order(lengths, self.batch, self.seed, epoch))
        clips = [self.clips[i] for i in self._epoch[1][position]]
        if self.change is not None:  # of all, since their lengths weigh the shares
            clips = [self.change(clip, step, place) for place, clip in enumerate(clips)]
        if self.ranks == 1:
            return collate(clips)
        shard = BatchShard.of([clip.mel.shape[1] for clip in clips], self.rank, self.ranks)
        return collate(clips[self.rank :: self.ranks], shard)


def order(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, as places in `lengths`: items of similar length together."""
    generator = torch.Generator().manual_seed(mixed(seed, epoch))
    drawn = torch.randperm(len(lengths), generator=generator).tolist()[: len(lengths) // batch * batch]
    # Sorting within eight batches' worth saves half of the padding and leaves the mix of lengths nearly random.
    batches: list[list[int]] = []
    for start in range(0, len(drawn), 8 * batch):
        pool = sorted(drawn[start : start + 8 * batch], key=lambda i: lengths[i])
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def in_order(clips: Sequence[Clip], batch: int) -> Iterable[Batch]:
    """All clips once, shortest first: for measuring."""
    ordered = sorted(clips, key=lambda clip: clip.mel.shape[1])
    return (collate(ordered[i : i + batch]) for i in range(0, len(ordered), batch))
