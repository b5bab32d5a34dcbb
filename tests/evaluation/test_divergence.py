from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from cymatic.errors import Error
from cymatic.evaluation.divergence import LEAST, divergences


def chances(seed: int, rows: int, answers: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(answers), size=rows)


@given(st.integers(0, 1000))
def test_the_mean_over_the_pairs_of_a_caption(seed: int) -> None:
    p, q = chances(seed, 5), chances(seed + 1, 3)
    real, made = ["a", "b", "a", "b", "b"], ["b", "a", "b"]
    expected = [np.mean([entropy(p[j], q[i]) for j in range(5) if real[j] == made[i]]) for i in range(3)]
    assert divergences(q, made, p, real) == pytest.approx(expected, abs=1e-4)


def test_alike_is_nothing_and_the_impossible_is_finite() -> None:
    sure = np.eye(3)
    assert divergences(sure, list("abc"), sure, list("abc")) == pytest.approx(np.zeros(3), abs=1e-4)
    wrong = divergences(sure[[1]], ["a"], sure, list("abc"))
    assert wrong == pytest.approx([-np.log(LEAST)], rel=1e-3)


def test_a_caption_without_real_clips() -> None:
    with pytest.raises(Error, match='no real clip has the caption "c"'):
        divergences(chances(0, 1), ["c"], chances(1, 1), ["a"])
