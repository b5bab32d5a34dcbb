from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cymatic.errors import Error
from cymatic.evaluation.diversity import distances, diversities, diversity, matched


def test_a_ratio_for_each_caption_that_can_have_one() -> None:
    train = np.array([[0.0], [2.0], [10.0], [14.0], [5.0]])
    made = np.array([[0.0], [1.0], [10.0], [10.0], [7.0], [8.0]])
    found = diversities(made, list("aabbcc"), train, list("aabbc"))
    assert found == {"a": 0.5, "b": 0.0}
    assert diversity(made, list("aabbcc"), train, list("aabbc")) == 0.25
    assert np.isnan(diversity(made[:1], ["a"], train, list("aabbc")))


def test_weights_follow_the_captions() -> None:
    weights = matched(["a", "a", "b", "d"], ["a", "b", "b", "c"])
    assert weights == pytest.approx([2 / 3, 1 / 6, 1 / 6, 0])
    with pytest.raises(Error, match="no caption is on both sides"):
        matched(["a"], ["b"])


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_are_those_of_the_differences(offset, dtype) -> None:
    chance = np.random.default_rng(0)
    b = (chance.normal(size=(300, 40)) + offset).astype(dtype)
    near = b[:200] + np.geomspace(1e-9, 1, 200)[:, None] * chance.normal(size=(200, 40))
    a = np.concatenate([near.astype(dtype), b[:100], chance.normal(size=(50, 40)).astype(dtype)])
    plain = np.linalg.norm(a[:, None].astype(np.float64) - b[None], axis=-1)
    np.testing.assert_allclose(distances(a, b), plain, rtol=1e-9, atol=0)
    assert distances(b, b).diagonal().max() == 0
    assert distances(a[:0], b).shape == (0, 300) and distances(a, b[:0]).shape == (350, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of memory is Linux's")
def test_two_thousand_clips_of_one_caption_fit_into_memory() -> None:
    """All their differences at once would take 102 GB."""
    script = """
        import resource
        import numpy as np
        from cymatic.evaluation.diversity import diversity
        from cymatic.evaluation.manifold import inside
        from cymatic.evaluation.neighbours import nearest
        clips = np.random.default_rng(0).normal(size=(2000, 3200)).astype(np.float32)
        resource.setrlimit(resource.RLIMIT_AS, (5 * 2**30, 5 * 2**30))
        assert abs(diversity(clips[:100], ["a"] * 100, clips, ["a"] * 2000) - 1) < 0.01
        assert nearest(clips[:100], ["a"] * 100, clips, ["a"] * 2000).max() == 0
        assert inside(clips[:100], clips).all()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
