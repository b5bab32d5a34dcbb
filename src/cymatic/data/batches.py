"""Examples in memory or in shards -> batches, each a function of the seed and the step alone.

Three ways serve every medium: items of similar length side by side (`Bucketed`), segments of one length
(`RandomCrops`), and a stream of shards that never fit in memory (`Streamed`). Of `ranks` processes each gives every
`ranks`th item of each batch, from `rank` on; what is random is drawn for the whole batch, so an item meets the same
numbers however many processes there are. Any step's batch can be asked for at once, so a resumed run needs no data
position beyond its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.cond import Padded, padded
from cymatic.data.balance import drawn, groups_of, rounds_of
from cymatic.data.budget import batch_sizes, budgeted, shuffled
from cymatic.data.reading import Example
from cymatic.errors import Error
from cymatic.seeds import mixed

if TYPE_CHECKING:
    from cymatic.data.shard_filter import ShardFilter
    from cymatic.data.shards import Shards

CAPTION = "caption"  # the role whose values are texts
POOL = 8  # batches within which items of similar length come together


@dataclass(frozen=True)
class Batch:
    """Examples side by side: `target [batch, ..., longest]`, zero beyond each item's length in `lengths`.

    given: what is known of each item, by role. shard: which items of a larger batch these are, where several processes
    share it; None: all of them.
    """

    target: Shaped[Tensor, "batch *shape"]
    lengths: Int[Tensor, " batch"]
    captions: list[str]
    given: Mapping[str, Padded] = field(default_factory=dict)
    shard: BatchShard | None = None

    def __len__(self) -> int:
        return len(self.captions)

    def inputs(self, role: str) -> list[str] | Padded:
        """What an encoder reads: the captions, or the padded tensors of a role. Raises Error where items lack them."""
        if role == CAPTION:
            return self.captions
        if role not in self.given:
            raise Error(f'this model is conditioned on "{role}", and there are items without; give data that have it')
        return self.given[role]

    def targets(self) -> Padded:
        """The targets as an encoder reads them."""
        return Padded(self.target, self.lengths)

    def micro_batch(self, number: int, count: int) -> Batch:
        """Every `count`th item from `number` on, with its weight in the whole."""
        mine = slice(number, None, count)
        shard, lengths = BatchShard.of(self.lengths.tolist(), number, count), self.lengths[mine]
        given = {role: Padded(padded.values[mine], padded.lengths[mine]) for role, padded in self.given.items()}
        return Batch(self.target[mine][..., : int(lengths.max())], lengths, self.captions[mine], given, shard)


@runtime_checkable
class Sequenced(Protocol):
    """Batches, each a function of its step alone."""

    def __getitem__(self, step: int) -> Batch: ...

    def typical(self, count: int) -> list[int]:
        """Steps, `count` or fewer, whose batches cost on average what all do."""


def collate(examples: Sequence[Example], turn: int = 0, shard: BatchShard | None = None) -> Batch:
    """A batch of the examples; of one with variants the one whose turn it is."""
    target = padded([_rendering(one, turn) for one in examples])
    roles = [role for role in examples[0].given if all(role in one.given for one in examples)]
    given = {role: padded([one.given[role] for one in examples]) for role in roles}
    values = target.values.float() if target.values.dtype == torch.float16 else target.values
    return Batch(values, target.lengths, [one.caption for one in examples], given, shard)


def in_order(examples: Sequence[Example], batch: int, frames: int | None = None) -> Iterable[Batch]:
    """All examples once, shortest first: for measuring. batch, frames: see `Bucketed`."""
    ordered = sorted(examples, key=lambda one: one.target.shape[-1])
    if frames is None:
        return (collate(ordered[i : i + batch]) for i in range(0, len(ordered), batch))
    sizes = batch_sizes([one.target.shape[-1] for one in ordered], batch, frames)
    ends = accumulate(sizes)
    return (collate(ordered[end - size : end]) for size, end in zip(sizes, ends, strict=True))


class Bucketed:
    """Batches of examples of similar length; each epoch meets every example once, and the next variant of it, under
    one of its captions. Of examples that are balanced it meets every value equally often (see `data.balance`).

    batch: items in each; an epoch leaves out what is too few for one. With `frames` a batch holds `batch` items at
    most, and so many steps along the open dimension with its padding (one item may be longer): many short items or few
    long ones, so that steps cost about the same; then an epoch leaves out nothing.

    `change`: what an example becomes at a step and a place in the whole batch (see `data.augment`); `vary`: what it
    becomes then, given its place among all and the epoch (see `data.augment_speech`). Raises Error where a batch has
    fewer items than there are processes.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch: int,
        seed: int,
        *,
        frames: int | None = None,
        change: Callable[[Example, int, int], Example] | None = None,
        vary: Callable[[Example, int, int], Example] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        self.examples, self.change, self.vary, self.seed = examples, change, vary, seed
        self._groups = groups_of(examples)
        if self._groups and frames is not None:
            raise Error("training.frames and data.balance can't go together yet; leave one of them out")
        self._count = len(self._groups) * rounds_of(self._groups) if self._groups else len(examples)
        self.batch = shared(batch, self._count, ranks)
        self.rank, self.ranks = rank, ranks
        self._lengths = [longest_of(one) for one in examples]
        self._sizes = None if frames is None else budgeted(self._lengths, self.batch, frames)
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def per_epoch(self) -> int:
        return self._count // self.batch if self._sizes is None else len(self._sizes)

    def _order(self, epoch: int) -> list[list[int]]:
        if self._epoch[0] != epoch:
            if self._sizes is not None:
                batches = shuffled(self._lengths, self._sizes, self.seed, epoch)
            else:
                places = drawn(self._groups, self.seed, epoch) if self._groups else range(self._count)
                found = order([self._lengths[i] for i in places], self.batch, self.seed, epoch)
                batches = [[places[i] for i in batch] for batch in found]
            self._epoch = (epoch, batches)
        return self._epoch[1]

    def _called(self, which: int, step: int, place: int) -> Example:
        """An example under the caption that it has this time."""
        one = self.examples[which]
        return one.called(torch.Generator().manual_seed(mixed(self.seed, step, place, 2))) if one.captions else one

    def typical(self, count: int) -> list[int]:
        """Of the first epoch's batches sorted by their frames, those in the middle of each of `count` equal parts."""
        costs = [len(batch) * max(self._lengths[i] for i in batch) for batch in self._order(0)]
        steps = sorted(range(len(costs)), key=lambda step: (costs[step], step))
        count = min(count, len(steps))
        return [steps[int((i + 0.5) * len(steps) / count)] for i in range(count)]

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.per_epoch)
        chosen = self._order(epoch)[position]
        examples = [self._called(i, step, place) for place, i in enumerate(chosen)]
        if self.change is not None:  # of all, since their lengths weigh the shards
            examples = [self.change(one, step, place) for place, one in enumerate(examples)]
        if self.vary is not None:
            examples = [self.vary(one, i, epoch) for one, i in zip(examples, chosen, strict=True)]
        if self.ranks == 1:
            return collate(examples, epoch)
        shard = BatchShard.of([_rendering(one, epoch).shape[-1] for one in examples], self.rank, self.ranks)
        return collate(examples[shard.rank :: self.ranks], epoch, shard)


def order(lengths: Sequence[int], batch: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch, as places in `lengths`: items of similar length together."""
    generator = torch.Generator().manual_seed(mixed(seed, epoch))
    drawn = torch.randperm(len(lengths), generator=generator).tolist()[: len(lengths) // batch * batch]
    # Sorting within eight batches' worth saves half of the padding and leaves the mix of lengths nearly random.
    batches: list[list[int]] = []
    for start in range(0, len(drawn), POOL * batch):
        pool = sorted(drawn[start : start + POOL * batch], key=lambda i: lengths[i])
        batches += [pool[i : i + batch] for i in range(0, len(pool), batch)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


class RandomCrops:
    """Batches of segments of one length, `[batch, ..., segment]`, cut from examples.

    Each example is drawn as often as its weight says (see `data.examples.Data`), without weights as the root of its
    length. `fill`: the value around an example that is shorter than a segment. `level`: None for
    that, or the range in dB of the gain drawn for each sound; then short sounds follow one another with a short gap
    between them, for that is how sounds end, and no gain makes a sound clip.

    Raises Error where processes can't have equally many segments each.
    """

    GAP = 0.1  # of a segment: the longest silence between two sounds in it

    def __init__(
        self,
        examples: Sequence[Example],
        segment: int,
        batch: int,
        seed: int,
        *,
        weights: Sequence[float] | None = None,
        fill: float = 0.0,
        level: tuple[float, float] | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if batch % ranks:
            raise Error(
                f"a batch of {batch} segments can't be shared evenly by {ranks} devices; give a training.batch that is "
                f"a multiple of {ranks}, or other --devices"
            )
        self.examples, self.segment, self.batch, self.seed = examples, segment, batch, seed
        self.fill, self.level, self.rank, self.ranks = fill, level, rank, ranks
        chances = [one.target.shape[-1] ** 0.5 for one in examples] if weights is None else weights
        self._bounds = np.cumsum(np.asarray(chances, dtype=np.float64))

    def __getitem__(self, step: int) -> Batch:
        draws = np.random.Generator(np.random.PCG64(mixed(self.seed, step)))
        first = self.examples[0].target
        rows = torch.full((self.batch // self.ranks, *first.shape[:-1], self.segment), self.fill)
        captions = []
        for i in range(self.batch):  # drawn for all, so that a segment is the same whoever has it
            row = rows[i // self.ranks] if i % self.ranks == self.rank else None
            caption = self._single(draws, row) if self.level is None else self._in_turn(draws, row, self.level)
            if row is not None:
                captions.append(caption)
        shard = BatchShard.of([self.segment] * self.batch, self.rank, self.ranks) if self.ranks > 1 else None
        return Batch(rows, torch.full((len(rows),), self.segment), captions, {}, shard)

    def typical(self, count: int) -> list[int]:
        """Any will do, since segments are of one length."""
        return list(range(count))

    def _draw(self, draws: np.random.Generator) -> Example:
        return self.examples[int(np.searchsorted(self._bounds, draws.random() * self._bounds[-1], side="right"))]

    def _single(self, draws: np.random.Generator, row: Tensor | None) -> str:
        """One example: a segment of it, or the whole of it somewhere in the segment."""
        example = self._draw(draws)
        length = example.target.shape[-1]
        spare = length - self.segment
        start = int(draws.integers(0, abs(spare) + 1))
        if row is not None and spare >= 0:
            row.copy_(example.target[..., start : start + self.segment])
        elif row is not None:
            row[..., start : start + length] = example.target
        return example.caption

    def _in_turn(self, draws: np.random.Generator, row: Tensor | None, level: tuple[float, float]) -> str:
        """One example after another until the segment is full, each at a gain of its own."""
        filled, caption = 0, None
        while filled < self.segment:
            example = self._draw(draws)
            caption = example.caption if caption is None else caption
            wave = example.target
            start = int(draws.integers(0, max(1, wave.shape[-1] - self.segment + 1)))
            gain = 10 ** (draws.uniform(*level) / 20)
            gap = int(draws.uniform(0, self.GAP) * self.segment)
            cut = wave[..., start : start + self.segment - filled]
            length = cut.shape[-1]
            if row is not None and length:
                cut = cut.float()
                peak = float(cut.abs().max())
                row[..., filled : filled + length] = cut * min(gain, 1 / max(peak, 1e-9))
            filled += max(1, length) + gap
        return caption or ""


class Streamed:
    """Batches of codes in shards, of which `count` items are used. Steps that follow each other cost a read each; any
    other step costs the epoch's items before it."""

    def __init__(
        self, shards: Shards, wanted: ShardFilter, count: int, batch: int, seed: int, *, rank: int = 0, ranks: int = 1
    ) -> None:
        self.shards, self.wanted, self.count, self.seed = shards, wanted, count, seed
        self.batch, self.rank, self.ranks = shared(batch, count, ranks), rank, ranks
        self._next = -1  # the step that the stream is at
        self._stream: Iterator[list[Example]] = iter(())

    @property
    def per_epoch(self) -> int:
        return self.count // self.batch

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.per_epoch)
        if step != self._next or position == 0:
            self._stream = self._epoch(epoch)
            for _ in range(position):
                next(self._stream, None)
        examples = next(self._stream, None)
        if examples is None:
            raise Error(f"{self.shards.place} holds fewer sounds than when the training began; put them back")
        self._next = step + 1
        lengths = [longest_of(one) for one in examples]
        shard = BatchShard.of(lengths, self.rank, self.ranks) if self.ranks > 1 else None
        return collate(examples[self.rank :: self.ranks], 0, shard)

    def typical(self, count: int) -> list[int]:
        """The first ones, which are in random order, since any other costs reading all before it."""
        return list(range(min(count, self.per_epoch)))

    def _epoch(self, epoch: int) -> Iterator[list[Example]]:
        """The batches of an epoch, for all processes together."""
        chance = np.random.Generator(np.random.PCG64(mixed(self.seed, epoch, 1)))
        pool: list[Example] = []
        samples = (one for one in self.shards.shuffled(self.seed, epoch) if self.wanted.trains_on(one))
        for _ in range(self.per_epoch * self.batch):
            if (sample := next(samples, None)) is None:
                return
            pool.append(self.wanted.example(sample, float(chance.random())))
            if len(pool) == POOL * self.batch:
                yield from self._batches(pool, chance)
                pool = []
        yield from self._batches(pool, chance)

    def _batches(self, pool: list[Example], chance: np.random.Generator) -> Iterator[list[Example]]:
        pool = sorted(pool, key=longest_of)
        batches = [pool[i : i + self.batch] for i in range(0, len(pool), self.batch)]
        for i in chance.permutation(len(batches)):
            yield batches[i]


def shared(batch: int, count: int, ranks: int) -> int:
    """Items of a batch of `count` there are. Raises Error where that is less than one for each process."""
    if min(batch, count) < ranks:
        raise Error(
            f"a batch of {min(batch, count)} items is too small for {ranks} devices; give more items, a "
            f"training.batch of at least {ranks}, or fewer --devices"
        )
    return min(batch, count)


def _rendering(example: Example, turn: int) -> Tensor:
    """The target itself at turn 0, then its variants in order, and again."""
    which = turn % (1 + len(example.variants))
    return example.target if which == 0 else example.variants[which - 1]


def longest_of(example: Example) -> int:
    """Steps of the longest of its renderings."""
    return max(one.shape[-1] for one in (example.target, *example.variants))
