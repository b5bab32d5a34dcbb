from __future__ import annotations

import numpy as np

from cymatic.evaluation.diversity import diversities, diversity


def test_a_ratio_for_each_caption_that_can_have_one() -> None:
    train = np.array([[0.0], [2.0], [10.0], [14.0], [5.0]])
    made = np.array([[0.0], [1.0], [10.0], [10.0], [7.0], [8.0]])
    found = diversities(made, list("aabbcc"), train, list("aabbc"))
    assert found == {"a": 0.5, "b": 0.0}
    assert diversity(made, list("aabbcc"), train, list("aabbc")) == 0.25
    assert np.isnan(diversity(made[:1], ["a"], train, list("aabbc")))
