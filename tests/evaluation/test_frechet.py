from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from cymatic.errors import Error
from cymatic.evaluation.frechet import frechet_distance, frechet_estimate


def normal(seed: int, rows: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, dim))


def test_two_normals_in_one_dimension_have_a_closed_form() -> None:
    """(m1 - m2)^2 + (s1 - s2)^2, on samples whose moments are exact."""
    unit = np.array([[-1.0], [0.0], [1.0]])  # mean 0, unbiased variance 1
    assert frechet_distance(3 + 2 * unit, -1 + 5 * unit) == pytest.approx(4.0**2 + 3.0**2, abs=1e-12)


def test_commuting_covariances_have_a_closed_form() -> None:
    """Diagonal covariances: the sum over dimensions."""
    corners = np.array([[i, j] for i in (-1.0, 1.0) for j in (-1.0, 1.0)]) * np.sqrt(3 / 4)
    assert frechet_distance(corners * [1, 2], corners * [4, 3] + [1, 0]) == pytest.approx(1 + 9 + 1, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(200, 300), (200, 4), (3, 5)])
def test_the_same_as_by_a_matrix_root(a: int, b: int) -> None:
    x, y = normal(0, a, 6) @ normal(2, 6, 6), normal(1, b, 6) + 0.5
    cx, cy = np.cov(x.T), np.cov(y.T)
    root = sqrtm(sqrtm(cx).real @ cy @ sqrtm(cx).real).real  # symmetric, so that it holds for singular ones, too
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cx + cy - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 40), st.integers(1, 12))
def test_symmetric_never_below_zero_and_zero_for_one_set(seed: int, a: int, b: int, dim: int) -> None:
    x, y = normal(seed, a, dim), 2 * normal(seed + 1, b, dim) - 1
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, y) >= 0
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x), rel=1e-9, abs=1e-9)
    assert frechet_distance(x + 7, y + 7) == pytest.approx(frechet_distance(x, y), rel=1e-7, abs=1e-9)


def test_few_clips_make_it_larger() -> None:
    reference = normal(0, 2000, 20)
    few, many = (np.mean([frechet_distance(normal(s, n, 20), reference) for s in range(1, 6)]) for n in (25, 400))
    assert few > 4 * many


def test_an_estimate_is_the_distance_with_an_interval_about_it() -> None:
    x, y = normal(0, 90, 4), normal(1, 200, 4) + 1
    found = frechet_estimate(x, ["a"] * 90, y, ["a"] * 200)
    assert found.value == pytest.approx(frechet_distance(x, y), rel=1e-9) and found.n == 90
    assert 0 <= found.low < found.value < found.high


def test_intervals_hold_what_other_clips_give() -> None:
    """Of 40 sets, their intervals hold the mean of all sets in nine cases of ten or more."""
    reference = normal(0, 500, 3) + 1
    found = [frechet_estimate(normal(s, 60, 3), ["a"] * 60, reference, ["a"] * 500) for s in range(1, 41)]
    middle = np.mean([one.value for one in found])
    assert np.mean([one.low <= middle <= one.high for one in found]) >= 0.85


def test_the_reference_is_weighed_by_caption() -> None:
    """What the reference has too much of makes no difference: a plain distance would see another mean."""
    a, b = normal(0, 400, 3), normal(1, 400, 3) + 5
    captions = ["a"] * 400 + ["b"] * 400
    generated = np.concatenate([normal(2, 100, 3), normal(3, 100, 3) + 5])
    short = np.concatenate([a, b[:40]])
    found = frechet_estimate(generated, ["a"] * 100 + ["b"] * 100, short, captions[:440])
    assert found.value < 0.5 < 5 < frechet_distance(generated, short)
    alone = frechet_estimate(generated[:100], ["a"] * 100, np.concatenate([a, b]), captions)
    assert alone.value == pytest.approx(frechet_distance(generated[:100], a), rel=1e-9)


def test_too_few_and_of_other_captions() -> None:
    with pytest.raises(Error, match="two clips or more on either side; got 1 and 5"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(Error, match="no caption is on both sides"):
        frechet_estimate(np.zeros((2, 3)), ["a", "a"], np.zeros((2, 3)), ["b", "b"])
