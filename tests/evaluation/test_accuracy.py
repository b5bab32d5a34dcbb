from __future__ import annotations

import pytest

from cymatic.errors import Error
from cymatic.evaluation.accuracy import accuracy


def test_counts_what_was_heard() -> None:
    found = accuracy(["a", "b", "a", "a", "c"], ["a", "a", "a", "b", "b"])
    assert found.right.value == 0.4 and found.right.n == 5 and found.right.low < 0.4 < found.right.high
    assert found.chance == 0.6
    assert found.each == {"a": (2, 3), "b": (0, 2)}
    assert found.misheard == (("a", "b", 1), ("b", "a", 1), ("b", "c", 1))


@pytest.mark.parametrize(
    ("right", "clips", "weak"),
    [(100, 100, False), (61, 100, True), (70, 100, False), (5, 5, True), (6, 6, False), (50, 100, True)],
)
def test_weak_is_little_hardly_above_guessing_or_hardly_tried(right: int, clips: int, weak: bool) -> None:
    meant = ["a", "b"] * (clips // 2) + ["a"] * (clips % 2)
    heard = [m if i < right else "c" for i, m in enumerate(meant)]
    assert accuracy(heard, meant).weak is weak


def test_no_clips() -> None:
    with pytest.raises(Error, match="no clips to judge"):
        accuracy([], [])
