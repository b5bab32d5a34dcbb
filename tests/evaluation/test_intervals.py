from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cymatic.errors import Error
from cymatic.evaluation.intervals import bootstrap, groups_of, jackknife, share, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (294, 300, 0.9571, 0.9908)],
)
def test_known_values(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


@given(trials=st.integers(1, 10_000), data=st.data(), confidence=st.floats(0.01, 0.999))
def test_bounds_hold_the_share_and_mirror(trials: int, data: st.DataObject, confidence: float) -> None:
    successes = data.draw(st.integers(0, trials))
    low, high = wilson(successes, trials, confidence)
    assert 0 <= low <= successes / trials <= high <= 1
    assert wilson(trials - successes, trials, confidence) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(successes=st.integers(0, 50))
def test_more_confidence_is_wider_and_more_trials_are_narrower(successes: int) -> None:
    low, high = wilson(successes, 50)
    wider_low, wider_high = wilson(successes, 50, 0.99)
    assert wider_high - wider_low > high - low
    narrow_low, narrow_high = wilson(successes * 10, 500)
    assert narrow_high - narrow_low < high - low


@pytest.mark.parametrize(
    ("successes", "trials", "confidence"), [(0, 0, 0.95), (-1, 5, 0.95), (6, 5, 0.95), (1, 5, 1.0)]
)
def test_nonsense_is_refused(successes: int, trials: int, confidence: float) -> None:
    with pytest.raises(Error):
        wilson(successes, trials, confidence)


def test_a_bootstrap_of_a_mean_is_about_as_wide_as_the_normal_says() -> None:
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = bootstrap(np.mean, values)
    assert found.value == pytest.approx(values.mean()) and found.n == 400
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert found == bootstrap(np.mean, values)


def test_a_bootstrap_of_two_samples_draws_both() -> None:
    a, b = np.full(50, 6.0), np.random.default_rng(0).uniform(1, 3, size=50)
    found = bootstrap(lambda x, y: np.median(x) / np.median(y), a, b)
    assert found.value == 6 / np.median(b) and found.low < found.value < found.high


def test_one_number_has_no_interval_and_none_is_an_error() -> None:
    one = bootstrap(np.mean, np.array([4.0]))
    assert one.value == 4 and np.isnan(one.low) and np.isnan(one.high)
    with pytest.raises(Error, match="at least one number"):
        bootstrap(np.mean, np.array([]))


def test_the_jackknife_of_a_mean_is_the_usual_error() -> None:
    """Leaving out one at a time gives exactly the standard error of a mean."""
    values = np.random.default_rng(0).normal(size=30)
    found = jackknife(lambda rows: float(values[rows].mean()), range(30))
    assert found.value == pytest.approx(values.mean())
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * values.std(ddof=1) / 30**0.5, rel=1e-6)
    assert np.isnan(jackknife(lambda rows: float(len(rows)), [0, 0, 1]).low)


def test_groups_are_captions_where_there_are_many() -> None:
    assert groups_of(["a", "b", "a"]) == [0, 1, 2]
    many = [str(i // 2) for i in range(40)]
    assert groups_of(many) == [i // 2 for i in range(40)]
    assert set(groups_of(["a"] * 120)) == set(range(50))


def test_a_share() -> None:
    found = share(9, 10)
    assert found.value == 0.9 and (found.low, found.high) == wilson(9, 10) and found.n == 10
