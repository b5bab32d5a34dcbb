"""Does it vary? How far generated clips of one caption lie from each other, beside real clips of that caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error


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
    """Euclidean distances between the rows of `a` and of `b`."""
    return np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=-1)


def _spread(features: Float[np.ndarray, "sounds dim"]) -> float:
    count = len(features)
    return float(distances(features, features).sum() / (count * (count - 1)))
