"""Does it vary? How far generated clips of one caption lie from each other, beside real clips of that caption."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cymatic.evaluation.captions import by_caption
from cymatic.evaluation.distances import squared_distances


def diversity(
    generated: Float[np.ndarray, "generated dim"],
    generated_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> float:
    """Mean pairwise distance among generated clips over that among training clips, averaged over shared captions.

    NaN where no caption has two clips on both sides.
    """
    found = list(diversities(generated, generated_captions, train, train_captions).values())
    return float(np.mean(found)) if found else float("nan")


def diversities(
    generated: Float[np.ndarray, "generated dim"],
    generated_captions: Sequence[str],
    train: Float[np.ndarray, "train dim"],
    train_captions: Sequence[str],
) -> dict[str, float]:
    """That ratio for each caption with at least two clips on both sides: 0 where one clip comes again and again."""
    real = by_caption(train_captions)
    return {
        caption: _spread(generated[rows]) / max(_spread(train[real[caption]]), 1e-12)
        for caption, rows in by_caption(generated_captions).items()
        if len(rows) > 1 and len(real.get(caption, ())) > 1
    }


def _spread(features: Float[np.ndarray, "clips dim"]) -> float:
    count = len(features)
    return float(np.sqrt(squared_distances(features, features)).sum() / (count * (count - 1)))
