from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cymatic.errors import Error
from cymatic.metrics.intervals import wilson


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
