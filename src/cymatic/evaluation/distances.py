"""Distances between all rows of two tables, in little memory."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

ROWS = 256  # whose distances are computed at once
CLOSE = 1e-4  # of their squared sizes: of nearer rows the short formula would keep too few digits


def squared_distances(a: Float[np.ndarray, "a dim"], b: Float[np.ndarray, "b dim"]) -> Float[np.ndarray, "a b"]:
    """Squared Euclidean distances between the rows of `a` and of `b`, good to 1e-9 of themselves; equal rows are 0
    apart.

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
        found[start : start + ROWS] = squares
    return found
