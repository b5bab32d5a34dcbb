"""One function for distances: exact where rows are near, and small in memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from cymatic.evaluation.distances import squared_distances


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_they_are_those_of_the_differences(offset, dtype) -> None:
    chance = np.random.default_rng(0)
    b = (chance.normal(size=(300, 40)) + offset).astype(dtype)
    near = b[:200] + np.geomspace(1e-9, 1, 200)[:, None] * chance.normal(size=(200, 40))
    a = np.concatenate([near.astype(dtype), b[:100], chance.normal(size=(50, 40)).astype(dtype)])
    plain = ((a[:, None].astype(np.float64) - b[None]) ** 2).sum(-1)
    np.testing.assert_allclose(squared_distances(a, b), plain, rtol=1e-9, atol=0)
    assert squared_distances(b, b).diagonal().max() == 0
    assert squared_distances(a[:0], b).shape == (0, 300) and squared_distances(a, b[:0]).shape == (350, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is asked of Linux")
def test_an_evaluation_on_two_thousand_clips_of_one_caption_takes_less_than_2_gb() -> None:
    """All their differences at once would take 102 GB."""
    script = """
        import resource
        import numpy as np
        from cymatic.evaluation.corpus import Clips, Corpus
        from cymatic.evaluation.domain import Domain
        from cymatic.evaluation.evaluate import evaluate
        from cymatic.evaluation.manifold import inside

        chance = np.random.default_rng(0)
        def clips(n):
            return Clips.of(list(chance.normal(size=(n, 3200)).astype(np.float32)), ["rain"] * n)
        class Model:
            name, captions = "noise", ("rain",)
            def __call__(self, prompt, *, seed, n):
                return clips(n).values
        train = clips(2000)
        found = evaluate(Model(), Corpus.of(train, clips(100)), None, Domain("vector", lambda vector: vector), n=100)
        assert found.reference == 2000 and abs(found.diversity["vector"].value - 1) < 0.01
        assert abs(found.neighbours["vector"].ratio.value - 1) < 0.01
        assert inside(np.stack(train.values[:100]), np.stack(train.values)).all()
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2000, f"{done.stdout.strip()} MB"
