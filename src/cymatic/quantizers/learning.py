"""What codebooks share: the nearest code, running means of what chose each, and another place for unused ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error
from cymatic.nn.linear import linear
from cymatic.nn.processes import of_the_first, processes, rank, side_by_side, total

MOST_SCORES = 2**19  # that lie in memory at once while the nearest codes are looked for: 2 MiB, so in cache
LEAST_COLUMNS = 8  # with fewer there is nothing to gain
SMOOTHING = 1e-5  # of Laplace, on the running counts


def nearest(rows: Tensor, vectors: Tensor, bias: Tensor | None) -> Tensor:
    """argmax over the codes e of `x e + bias`: with `-|e|^2 / 2` as bias the code that is nearest to each row x.

    For `|x - e|^2 = |x|^2 - 2 x e + |e|^2`, and `|x|^2` is the same for all. That is one product of matrices, taken in
    chunks so that the scores fit into the processor's cache.
    """
    chunks = rows.split(max(1, MOST_SCORES // len(vectors)))
    return torch.cat([_highest(linear(chunk, vectors, bias)) for chunk in chunks])


def _highest(scores: Tensor) -> Tensor:
    """`scores.argmax(-1)`, in a third of its time: torch finds where the highest is one score at a time, and how high
    it is sixteen at a time. So the scores of a row are laid out as a rectangle, of which the best column is looked for,
    and in that column the best row. Where two are the same, either may be given.
    """
    rows, size = scores.shape
    columns = next(n for n in range(math.isqrt(size), 0, -1) if size % n == 0)
    if columns < LEAST_COLUMNS:
        return scores.argmax(-1)
    table = scores.view(rows, size // columns, columns)
    column = table.amax(1).argmax(-1)
    inside = table.gather(2, column[:, None, None].expand(-1, size // columns, 1))[..., 0]
    return inside.argmax(-1) * columns + column


def check_codes(codes: Tensor, size: int) -> None:
    """Raises Error for a code that the codebook does not have."""
    if codes.numel() and not (int(codes.min()) >= 0 and int(codes.max()) < size):
        wrong = int(codes.min()) if int(codes.min()) < 0 else int(codes.max())
        raise Error(
            f"there is a code {wrong} and the codebook holds 0 to {size - 1}; give codes of the codec that made them"
        )


def means(sums: Tensor, counts: Tensor) -> Tensor:
    """Sums over counts; the counts smoothed after Laplace, so that none is zero (arXiv 1906.00446)."""
    every = counts.sum()
    smoothed = (counts + SMOOTHING) / (every + len(counts) * SMOOTHING) * every
    return sums / smoothed[:, None]


def restart(
    codebook: Tensor,
    usage: Tensor,
    sums: Tensor | None,
    *,
    hits: Tensor,
    below: float,
    source: Tensor,
    valid: Tensor,
    generator: torch.Generator | None,
) -> None:
    """Puts stale codes on rows of `source` (`[batch, *places, dim]`) from `valid` places; all is changed in place.

    A code is stale where neither its running count nor this batch's `hits` reach the cut-off: `below` hits a batch, or
    of an even share where that is less than one. What was chosen in this batch is never stale, so some codes always
    stay. A code that was put elsewhere gets an even share on credit, so it has time to be found before its turn comes
    again.
    """
    even = min(1.0, float(usage.mean()))
    stale = torch.maximum(usage, hits) < below * even
    count = int(stale.sum())
    if count == 0 or count == len(usage):
        return
    drawn = torch.rand(count, generator=needed(generator), dtype=torch.float64).to(usage.device)
    vectors = some(source, valid, of_the_first(drawn))
    usage[stale] = even
    codebook[stale] = vectors
    if sums is not None:
        sums[stale] = vectors * even


def levels_used(
    levels: int, dropout: float, valid: Tensor, generator: torch.Generator | None, shard: BatchShard | None
) -> list[Tensor]:
    """For each level the valid places of the items that use it in training (quantizer dropout, arXiv 2107.03312).

    A share `dropout` of the items uses the first levels only, one to all of them, each number as often; the others use
    all levels.
    """
    if not dropout:
        return [valid] * levels
    drawn = torch.rand(len(valid) if shard is None else shard.items, 2, generator=needed(generator))
    drawn = (drawn if shard is None else shard.take(drawn)).to(valid.device)
    most = torch.where(drawn[:, 0] < dropout, (drawn[:, 1] * levels).long() + 1, levels)
    items = (len(valid), *[1] * (valid.dim() - 1))
    return [valid & (most > level).view(items) for level in range(levels)]


def check_levels(codes: Tensor, levels: int) -> None:
    """Raises Error for codes `[batch, levels, *places]` of no level or of more levels than there are."""
    if not 1 <= codes.shape[1] <= levels:
        raise Error(
            f"there are codes of {codes.shape[1]} levels and this quantizer has {levels}; "
            "give codes of the codec that made them"
        )


def checked_levels(asked: int | None, levels: int) -> int:
    """How many levels to encode with: those that were asked for, or all. Raises Error where there are not as many."""
    if asked is not None and not 1 <= asked <= levels:
        raise Error(f"{asked} levels were asked for and there are {levels}; ask for one at least")
    return asked or levels


def some(rows: Tensor, valid: Tensor, drawn: Tensor) -> Tensor:
    """Rows at valid places of the whole batch, one for each number in 0..1 that was `drawn`.

    Item i of process r is item `i * processes + r` of the batch, as `BatchShard` deals them, so that one process with
    the whole batch takes the same rows.
    """
    counts = valid.flatten(1).sum(1)
    if processes() > 1:
        longest = max(int(n) for n in side_by_side(torch.tensor(len(counts), device=counts.device)))
        counts = torch.cat([counts, counts.new_zeros(longest - len(counts))])
    table = torch.stack(side_by_side(counts), dim=1)  # items, processes
    ends = table.flatten().cumsum(0)
    wanted = (drawn * ends[-1]).long().clamp(max=int(ends[-1]) - 1)
    slot = torch.searchsorted(ends, wanted, right=True)
    within = wanted - (ends - table.flatten())[slot]
    mine = slot % processes() == rank()
    # In the flat list of this process's valid rows its items follow each other.
    starts = counts.cumsum(0) - counts
    taken = rows.new_zeros(len(drawn), rows.shape[-1])
    taken[mine] = rows[valid][(starts[slot // processes()] + within)[mine]]
    return total(taken)


def needed(generator: torch.Generator | None) -> torch.Generator:
    """`generator`; raises Error where there is none."""
    if generator is None:
        raise Error("this quantizer draws random numbers in training; give it a generator")
    return generator
