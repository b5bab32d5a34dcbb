from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cymatic.errors import Error
from cymatic.evaluation.kernel import kernel_distance, kernel_estimate


def normal(seed: int, rows: int, dim: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim))


def naive(a: np.ndarray, b: np.ndarray) -> float:
    def k(x: np.ndarray, y: np.ndarray) -> float:
        return (float(x @ y) / len(x) + 1) ** 3

    def own(rows: np.ndarray) -> float:
        return np.mean([k(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])

    return own(a) + own(b) - 2 * np.mean([k(x, y) for x in a for y in b])


@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(2, 9))
def test_the_same_as_written_out_and_symmetric(seed: int, a: int, b: int) -> None:
    x, y = normal(seed, a), normal(seed + 1, b) + 0.3
    assert kernel_distance(x, y) == pytest.approx(naive(x, y), rel=1e-9, abs=1e-9)
    assert kernel_distance(x, y) == pytest.approx(kernel_distance(y, x), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [6, 60])
def test_unbiased_where_both_are_alike(count: int) -> None:
    """Its mean over many draws is 0 within its error, for few clips as for many, where a Fréchet distance is not."""
    found = [kernel_distance(normal(2 * s, count), normal(2 * s + 1, count)) for s in range(150)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 150**0.5
    assert min(found) < 0 < max(found)


def test_unbiased_for_clips_chosen_by_caption() -> None:
    """Two clips of each of ten captions against many: plainly below 0, by captions 0."""
    centres = 3 * normal(0, 10)
    captions = [str(i) for i in range(10) for _ in range(2)]
    others = [str(i) for i in range(10) for _ in range(20)]
    by_caption, plain = [], []
    for seed in range(1, 61):
        a = np.repeat(centres, 2, 0) + normal(seed, 20)
        b = np.repeat(centres, 20, 0) + normal(seed + 1000, 200)
        by_caption.append(kernel_estimate(a, captions, b, others).value)
        plain.append(kernel_distance(a, b))
    error = np.std(by_caption) / 60**0.5
    assert abs(np.mean(by_caption)) < 3 * error
    assert np.mean(plain) < -10 * error


def test_shares_of_captions_follow_the_generated_clips() -> None:
    """Beside a reference that holds ten times as much of one caption nothing is found, where nothing differs."""
    captions, others = ["a"] * 30 + ["b"] * 30, ["a"] * 300 + ["b"] * 30
    by_caption, plain = [], []
    for seed in range(0, 160, 4):
        a = np.concatenate([normal(seed, 30), normal(seed + 1, 30) + 1])
        b = np.concatenate([normal(seed + 2, 300), normal(seed + 3, 30) + 1])
        by_caption.append(kernel_estimate(a, captions, b, others).value)
        plain.append(kernel_distance(a, b))
    error = np.std(by_caption) / 40**0.5
    assert abs(np.mean(by_caption)) < 3 * error
    assert np.mean(plain) > 5 * error


def test_far_is_more_than_near_and_outside_its_interval() -> None:
    reference = normal(0, 300)
    near, far = (kernel_estimate(normal(1, 80) + s, ["a"] * 80, reference, ["a"] * 300) for s in (0.0, 0.7))
    assert near.low < 0 < near.high
    assert 0 < far.low < far.value < far.high


def test_captions_met_once_tell_nothing() -> None:
    a, b = normal(0, 12), normal(1, 15)
    names = [str(i) for i in range(15)]
    assert np.isnan(kernel_estimate(a, names[:12], b, names).value)
    twice = kernel_estimate(a, ["0", "0", *names[2:12]], b, ["0", "0", *names[2:]])
    assert twice.value == pytest.approx(kernel_distance(a[:2], b[:2]), rel=1e-9)


def test_too_few() -> None:
    with pytest.raises(Error, match="two clips or more on either side; got 4 and 1"):
        kernel_distance(normal(0, 4), normal(1, 1))
