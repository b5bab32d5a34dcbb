from __future__ import annotations

import numpy as np
import pytest

from cymatic.errors import Error
from cymatic.evaluation.manifold import inside


def test_balls_reach_to_the_nth_neighbour() -> None:
    line = np.arange(5.0)[:, None]  # with one neighbour each ball has a radius of 1
    assert inside(np.array([[-1.0], [-1.1], [2.5], [5.0], [5.1]]), line, 1).tolist() == [True, False, True, True, False]


def test_a_collapsed_set_is_precise_and_recalls_little() -> None:
    chance = np.random.default_rng(0)
    real, same = chance.normal(size=(200, 3)), chance.normal(size=(200, 3))
    collapsed = 0.01 * same
    assert inside(same, real).mean() > 0.7 and inside(real, same).mean() > 0.7
    assert inside(collapsed, real).mean() > 0.95 and inside(real, collapsed).mean() < 0.05
    assert not inside(same + 50, real).any()


def test_too_few() -> None:
    with pytest.raises(Error, match="more than 3 clips; got 3"):
        inside(np.zeros((5, 2)), np.zeros((3, 2)))
