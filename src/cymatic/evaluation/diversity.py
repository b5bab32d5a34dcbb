"""Does it vary? How far generated clips of one caption lie from each other, beside real clips of that caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error

ROWS = 256  # whose distances are computed at once
CLOSE = 1e-4  # of their squared sizes: of nearer rows the short formula would keep too few digits


def diversity(
    generated: Float[np.ndarray, "generated dim"],
    generated_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> float:
    """Mean pairwise distance among generated sounds over that among training sounds, averaged over shared captions.

    NaN where no caption has two sounds on both sides.
    """
    found = list(diversities(generated, generated_captions, train, train_captions).values())
    return float(np.mean(found)) if found else float("nan")


def diversities(
    generated: Float[np.ndarray, "generated dim"],
    generated_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> dict[str, float]:
    """That ratio for each caption with at least two sounds on both sides: 0 where one clip comes again and again."""
    real = by_caption(train_captions)
    return {
        caption: _spread(generated[rows]) / max(_spread(train[real[caption]]), 1e-12)
        for caption, rows in by_caption(generated_captions).items()
        if len(rows) > 1 and len(real.get(caption, ())) > 1
    }


def by_caption(captions: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each caption."""
    rows: dict[str, list[int]] = {}
    for row, caption in enumerate(captions):
        rows.setdefault(caption, []).append(row)
    return rows


def matched(captions: Sequence[str], others: Sequence[str]) -> Float[np.ndarray, " others"]:
    """A weight for each of `others`, so that each caption weighs as much as it does in `captions`; their sum is 1.

    Raises Error where no caption is on both sides.
    """
    wanted, there = Counter(captions), Counter(others)
    weights = np.array([wanted[caption] / there[caption] for caption in others], dtype=np.float64)
    if not weights.any():
        raise Error("no caption is on both sides, so nothing can be compared; give clips of the same captions")
    return weights / weights.sum()


def distances(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> Float[np.ndarray, "a b"]:
    """Euclidean distances between the rows of `a` and of `b`, good to 1e-9 of themselves; equal rows are 0 apart.

    `|a - b|² = |a|² + |b|² - 2ab` around the mean of `b`, some rows at a time, so that the differences of all pairs
    are never in memory together. Where two rows are so close that few digits would be left, their own difference is
    taken.
    """
    found = np.empty((len(a), len(b)))
    middle = b.mean(0, dtype=np.float64) if len(b) else np.zeros(b.shape[1:])
    around = b - middle
    for start in range(0, len(a), ROWS):
        some = a[start : start + ROWS]
        there = some - middle
        sizes = (there**2).sum(1)[:, None] + (around**2).sum(1)
        squares = sizes - 2 * there @ around.T
        close = np.argwhere(~(squares > CLOSE * sizes))
        for rows in np.array_split(close, -(-len(close) // ROWS) or 1):
            i, j = rows.T
            squares[i, j] = ((some[i].astype(np.float64) - b[j]) ** 2).sum(1)
        found[start : start + ROWS] = np.sqrt(squares)
    return found


def _spread(features: Float[np.ndarray, "sounds dim"]) -> float:
    count = len(features)
    return float(distances(features, features).sum() / (count * (count - 1)))
