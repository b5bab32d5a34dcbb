from __future__ import annotations

import pytest

from cymatic.errors import Error
from cymatic.evaluation.captions import balanced, matched, readable


def test_weights_follow_the_captions() -> None:
    weights = matched(["a", "a", "b", "d"], ["a", "b", "b", "c"])
    assert weights == pytest.approx([2 / 3, 1 / 6, 1 / 6, 0])
    with pytest.raises(Error, match="no caption is on both sides"):
        matched(["a"], ["b"])


def test_rows_are_chosen_evenly_and_the_same_each_time() -> None:
    captions = ["a"] * 50 + ["b"] * 3
    rows = balanced(captions, 8)
    assert len(rows) == 8 and sum(row >= 50 for row in rows) == 3 and rows == sorted(rows) == balanced(captions, 8)
    assert balanced(captions, 53) == list(range(53))


def test_what_can_be_no_prompt_is_not_readable() -> None:
    assert readable(" A  Dog. ") == "a dog" and readable("") is None
