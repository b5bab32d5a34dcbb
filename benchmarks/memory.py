"""How near generated clips lie to training clips and how much they vary, as plain numbers for a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cymatic.evaluation.diversity import diversity
from cymatic.evaluation.neighbours import nearest


def neighbours(
    generated: np.ndarray,
    generated_captions: Sequence[str],
    valid: np.ndarray,
    valid_captions: Sequence[str],
    train: np.ndarray,
    train_captions: Sequence[str],
) -> dict[str, float]:
    """Features `[clips, dim]` and captions of each -> median distances to the nearest training clip of the same caption
    (`generated`, `valid`, their `ratio`), the 1st percentile of the held-out clips' distances (`threshold`), the share
    of generated clips that are `nearer`, and `diversity.diversity`."""
    made = nearest(generated, generated_captions, train, train_captions)
    usual = nearest(valid, valid_captions, train, train_captions)
    median, threshold = float(np.median(usual)), float(np.percentile(usual, 1))
    return {
        "generated": float(np.median(made)),
        "valid": median,
        "ratio": float(np.median(made)) / max(median, 1e-12),
        "threshold": threshold,
        "nearer": float(np.mean(made < threshold)),
        "diversity": diversity(generated, generated_captions, train, train_captions),
    }
