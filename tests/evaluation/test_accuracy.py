from __future__ import annotations

import pytest

from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy, accuracy, failing
from cymatic.evaluation.intervals import share


def test_counts_what_was_answered() -> None:
    found = accuracy(["a", "b", "a", "a", "c"], ["a", "a", "a", "b", "b"])
    assert found.right.value == 0.4 and found.right.n == 5 and found.right.low < 0.4 < found.right.high
    assert found.chance == 0.6
    assert found.each == {"a": (2, 3), "b": (0, 2)}
    assert found.confusions == (("a", "b", 1), ("b", "a", 1), ("b", "c", 1))
    assert found.instead("a") == "b" and found.instead("c") is None


@pytest.mark.parametrize(
    ("right", "clips", "weak"),
    [(100, 100, False), (61, 100, True), (70, 100, False), (5, 5, True), (6, 6, False), (50, 100, True)],
)
def test_weak_is_little_hardly_above_guessing_or_hardly_tried(right: int, clips: int, weak: bool) -> None:
    meant = ["a", "b"] * (clips // 2) + ["a"] * (clips % 2)
    heard = [m if i < right else "c" for i, m in enumerate(meant)]
    assert accuracy(heard, meant).weak is weak


def test_no_clips() -> None:
    with pytest.raises(Error, match="no clips to classify"):
        accuracy([], [])


def test_several_labels_count_by_the_share_that_is_found() -> None:
    loud, high = frozenset({"loud", "low"}), frozenset({"loud", "high"})
    found = accuracy([loud, high, high], [loud, loud, high])
    assert found.right.value == pytest.approx(2.5 / 3) and found.chance == pytest.approx(2.5 / 3)
    assert found.each == {"high": (1, 1), "loud": (3, 3), "low": (1, 2)}
    assert found.confusions == (("low", "high", 1),)


def some(right: float, each: dict[str, tuple[int, int]]) -> Accuracy:
    return Accuracy(share(round(30 * right), 30), 0.4, each, ())


REAL = some(0.93, {name: (9, 10) for name in ("dog", "door", "bell")})
MADE = some(0.62, {"dog": (1, 8), "door": (7, 8), "bell": (7, 8)})


def test_a_label_that_is_missed_in_real_clips_does_not_fail() -> None:
    unsure = some(0.8, {**REAL.each, "dog": (2, 10)})
    assert failing(REAL, MADE) == ["dog"] and failing(unsure, MADE) == []


def test_one_miss_is_no_failure() -> None:
    assert failing(REAL, some(0.5, {"dog": (1, 2)})) == []
