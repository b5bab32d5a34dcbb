"""Clips of one caption belong together: their rows, as many of each as of any other, and weights by caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from cymatic.data.captions import caption_key
from cymatic.encoders.text import normalise
from cymatic.errors import Error, PromptError


def by_caption(captions: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each caption."""
    rows: dict[str, list[int]] = {}
    for row, caption in enumerate(captions):
        rows.setdefault(caption, []).append(row)
    return rows


def balanced(captions: Sequence[str], most: int, seed: int = 0) -> list[int]:
    """At most `most` rows in order, of every caption about as many; the same for the same seed."""
    if len(captions) <= most:
        return list(range(len(captions)))
    chance = np.random.default_rng(seed)
    turns = [
        (turn, float(chance.random()), row)
        for rows in by_caption(captions).values()
        for turn, row in enumerate(chance.permutation(rows).tolist())
    ]
    return sorted(row for *_, row in sorted(turns)[:most])


def matched(captions: Sequence[str], others: Sequence[str]) -> Float[np.ndarray, " others"]:
    """A weight for each of `others`, so that each caption weighs as much as it does in `captions`; their sum is 1.

    Raises Error where no caption is on both sides.
    """
    wanted, there = Counter(captions), Counter(others)
    weights = np.array([wanted[caption] / there[caption] for caption in others], dtype=np.float64)
    if not weights.any():
        raise Error("no caption is on both sides, so nothing can be compared; give clips of the same captions")
    return weights / weights.sum()


def readable(caption: str) -> str | None:
    """What a caption has in common with those that are one with it; None for one that can't be a prompt."""
    try:
        return caption_key(normalise(caption))
    except PromptError:
        return None
