"""Shards of codes -> batches as a stream, whose order is a function of the seed and the step alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from cymatic.batch_shard import BatchShard
from cymatic.data.codes import Coded, CodesBatch, collate_codes
from cymatic.data.settings import Long
from cymatic.data.shards import CodedSound, Shards
from cymatic.encoders.text import token_ids
from cymatic.errors import Error, ModelError, PromptError
from cymatic.seeds import mixed

MOST_VALID = 500  # sounds held out that are kept in memory for measuring
MOST_CAPTIONS = 10_000  # that are remembered
POOL = 8  # batches within which sounds of similar length come together, as in `data.mels.order`


@dataclass(frozen=True)
class ShardFilter:
    """Which sounds of shards a prior learns from, and what of them: the codes of the model `sha256`, the first `levels`
    of a frame; of those longer than `longest` frames none, or with `long="cut"` a piece of that length."""

    sha256: str
    levels: int
    longest: int
    long: Long = "skip"

    def check(self, sound: CodedSound) -> None:
        """Raises ModelError for another model's codes, and for fewer levels than are wanted."""
        if sound.header.sha256 != self.sha256:
            raise ModelError(
                f"{sound.source} was encoded by {sound.header.model or 'an unnamed model'} "
                f"({sound.header.sha256[:8]}), and this recipe's codec is another ({self.sha256[:8]}); set start to "
                "the model that encoded the shards"
            )
        if len(sound.codes) < self.levels:
            raise ModelError(
                f"{sound.source} has {len(sound.codes)} levels of codes and {self.levels} are wanted; set levels to "
                f"{len(sound.codes)}, or encode at more kbps"
            )

    def fits(self, sound: CodedSound) -> bool:
        frames = sound.codes.shape[1]
        return frames > 0 and (self.long == "cut" or frames <= self.longest)

    def piece(self, sound: CodedSound, at: float = 0.0) -> Coded:
        """The codes that are wanted; of a longer sound those from `at` (0 to 1) of where a piece can begin."""
        begin = round(at * max(0, sound.codes.shape[1] - self.longest))
        codes = sound.codes[: self.levels, begin : begin + self.longest]
        return Coded(sound.caption, (torch.from_numpy(np.ascontiguousarray(codes)),))


@dataclass
class ShardStatistics:
    """What one look at all shards found: how many sounds to train on, their longest in frames, those held out (as many
    as are measured), captions, how many are too long or have no usable caption, and a fingerprint of it all."""

    count: int = 0
    longest: int = 0
    seconds: float = 0.0
    valid: list[Coded] = field(default_factory=list)
    captions: set[str] = field(default_factory=set)
    too_long: int = 0
    unspeakable: int = 0
    fingerprint: str = ""


def shard_statistics(shards: Shards, wanted: ShardFilter) -> ShardStatistics:
    """Reads everything once, so that damage comes to light before the training.

    Raises ModelError as `ShardFilter.check`.
    """
    found, digest = ShardStatistics(), hashlib.sha256()
    for sound in shards:
        wanted.check(sound)
        digest.update(f"{sound.key}\0{sound.caption}\0{sound.split}\0".encode("utf-8", "surrogateescape"))
        digest.update(sound.codes.tobytes())
        if not wanted.fits(sound):
            found.too_long += 1
        elif not _is_prompt(sound.caption, found.captions):
            found.unspeakable += 1
        elif sound.split == "train":
            found.count += 1
            found.seconds += sound.seconds
            found.longest = max(found.longest, min(wanted.longest, sound.codes.shape[1]))
            if len(found.captions) < MOST_CAPTIONS:
                found.captions.add(sound.caption)
        elif sound.split == "valid" and len(found.valid) < MOST_VALID:
            found.valid.append(wanted.piece(sound))
    found.fingerprint = digest.hexdigest()
    return found


class StreamedCodes:
    """As `data.codes.CodesBatches`, of `count` sounds in shards. Steps that follow each other cost a read each; any
    other step costs the epoch's sounds before it."""

    def __init__(
        self, shards: Shards, wanted: ShardFilter, count: int, batch: int, seed: int, *, rank: int = 0, ranks: int = 1
    ) -> None:
        if min(batch, count) < ranks:
            raise Error(
                f"a batch of {min(batch, count)} sounds is too small for {ranks} devices; give more sounds, a "
                f"training.batch of at least {ranks}, or fewer --devices"
            )
        self.shards, self.wanted, self.count, self.seed = shards, wanted, count, seed
        self.batch, self.rank, self.ranks = min(batch, count), rank, ranks
        self._next = -1  # the step that the stream is at
        self._stream: Iterator[list[Coded]] = iter(())

    @property
    def per_epoch(self) -> int:
        return self.count // self.batch

    def __getitem__(self, step: int) -> CodesBatch:
        epoch, position = divmod(step, self.per_epoch)
        if step != self._next or position == 0:
            self._stream = self._epoch(epoch)
            for _ in range(position):
                next(self._stream, None)
        clips = next(self._stream, None)
        if clips is None:
            raise Error(f"{self.shards.place} holds fewer sounds than when the training began; put them back")
        self._next = step + 1
        lengths = [clip.columns for clip in clips]
        shard = BatchShard.of(lengths, self.rank, self.ranks) if self.ranks > 1 else None
        return collate_codes(clips[self.rank :: self.ranks], 0, shard)

    def _epoch(self, epoch: int) -> Iterator[list[Coded]]:
        """The batches of an epoch, for all processes together."""
        chance = np.random.Generator(np.random.PCG64(mixed(self.seed, epoch, 1)))
        pool: list[Coded] = []
        sounds = (one for one in self.shards.shuffled(self.seed, epoch) if self._is_used(one))
        for _ in range(self.per_epoch * self.batch):
            if (sound := next(sounds, None)) is None:
                return
            pool.append(self.wanted.piece(sound, float(chance.random())))
            if len(pool) == POOL * self.batch:
                yield from self._batches(pool, chance)
                pool = []
        yield from self._batches(pool, chance)

    def _is_used(self, sound: CodedSound) -> bool:
        return sound.split == "train" and self.wanted.fits(sound) and _is_prompt(sound.caption, set())

    def _batches(self, pool: list[Coded], chance: np.random.Generator) -> Iterator[list[Coded]]:
        pool = sorted(pool, key=lambda clip: clip.columns)
        batches = [pool[i : i + self.batch] for i in range(0, len(pool), self.batch)]
        for i in chance.permutation(len(batches)):
            yield batches[i]


def _is_prompt(caption: str, known: set[str]) -> bool:
    if caption in known:
        return True
    try:
        token_ids(caption)
    except PromptError:
        return False
    return True
