from __future__ import annotations

import numpy as np
import pytest

from cymatic.errors import Error
from cymatic.evaluation.neighbours import nearest, neighbours

CAPTIONS = [f"caption {i}" for i in range(10)]


def _takes(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """`count` takes of each caption: a centre of its own and a spread."""
    centres = np.random.default_rng(0).normal(size=(len(CAPTIONS), 8)) * 5
    noise = np.random.default_rng(seed).normal(size=(len(CAPTIONS), count, 8))
    return (centres[:, None] + noise).reshape(-1, 8), [caption for caption in CAPTIONS for _ in range(count)]


def test_copies_of_training_have_ratio_zero_and_are_all_nearer() -> None:
    train, valid = _takes(40, 1), _takes(5, 2)
    rows = [i for i in range(len(train[1])) if i % 40 < 5]
    found = neighbours(train[0][rows], [train[1][i] for i in rows], *valid, *train)
    assert found is not None and found.of == "50 clips held out"
    assert found.generated == found.ratio.value == 0
    assert found.nearer.value == 1


def test_new_takes_of_the_same_distribution_look_like_held_out_ones() -> None:
    found = neighbours(*_takes(20, 3), *_takes(20, 2), *_takes(40, 1))
    assert found is not None
    assert found.ratio.value == pytest.approx(1, abs=0.1)
    assert found.nearer.value < 0.05


def test_training_clips_stand_for_held_out_ones_where_these_are_too_few() -> None:
    train = _takes(40, 1)
    few = _takes(1, 2)
    found = neighbours(*_takes(20, 3), *few, *train, fewest=11)
    assert found is not None and found.of == "100 training clips from each other"
    assert found.ratio.value == pytest.approx(1, abs=0.15)
    usual = [
        np.sqrt(((train[0][row] - np.delete(train[0][:40] if row < 40 else train[0][40:80], row % 40, 0)) ** 2).sum(1))
        for row in range(80)
    ]
    assert found.real == pytest.approx(np.median([*map(np.min, usual), *_rest(train[0])]))


def _rest(rows: np.ndarray) -> list[float]:
    """The nearest others of rows 80 to 99, among rows 80 to 119."""
    return [
        float(np.sqrt(((rows[row] - np.delete(rows[80:120], row - 80, 0)) ** 2).sum(1)).min()) for row in range(80, 100)
    ]


def test_where_captions_have_one_clip_each_all_clips_are_neighbours() -> None:
    clips = np.random.default_rng(1).normal(size=(60, 8))
    captions = [f"take {i}" for i in range(60)]
    nobody: tuple[np.ndarray, list[str]] = (clips[:0], [])
    found = neighbours(clips[:5] + 1e-3, captions[:5], *nobody, clips[:40], captions[:40])
    assert found is not None and found.ratio.value < 0.01
    new = neighbours(clips[40:], captions[:20], *nobody, clips[:40], captions[:40])
    assert new is not None and new.ratio.value > 0.5
    assert neighbours(clips[40:], captions[:20], *nobody, clips[:20], captions[:20]) is None, "too few to tell"


def test_nothing_to_compare() -> None:
    train = _takes(4, 1)
    none = (train[0][:0], [])
    assert neighbours(*none, *train, *train) is None and neighbours(*train, *train, *none) is None
    same = (np.ones((8, 3)), ["a"] * 8)
    assert neighbours(*same, *same, *same) is None, "real clips are copies of each other"


def test_only_the_same_caption_counts() -> None:
    train = np.array([[0.0], [10.0]])
    assert nearest(np.array([[1.0], [1.0]]), ["a", "b"], train, ["a", "b"]).tolist() == [1, 9]
    with pytest.raises(Error, match='"c"'):
        nearest(np.array([[1.0]]), ["c"], train, ["a", "b"])
    with pytest.raises(Error, match="at least one"):
        nearest(np.zeros((0, 1)), [], train, ["a", "b"])
