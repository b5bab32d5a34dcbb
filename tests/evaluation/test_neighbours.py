from __future__ import annotations

import numpy as np
import pytest

from cymatic.errors import Error
from cymatic.evaluation.neighbours import mel_features, nearest, neighbours
from cymatic.media.sound import Sound
from cymatic.signal.mel import PRESETS

CAPTIONS = [f"caption {i}" for i in range(10)]


def _takes(count: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """`count` takes of each caption: a centre of its own and a spread."""
    centres = np.random.default_rng(0).normal(size=(len(CAPTIONS), 8)) * 5
    noise = np.random.default_rng(seed).normal(size=(len(CAPTIONS), count, 8))
    return (centres[:, None] + noise).reshape(-1, 8), [caption for caption in CAPTIONS for _ in range(count)]


def test_copies_of_training_have_ratio_zero_and_are_all_nearer() -> None:
    train, valid = _takes(40, 1), _takes(5, 2)
    rows = [i for i in range(len(train[1])) if i % 40 < 5]
    found = neighbours(train[0][rows], [train[1][i] for i in rows], *valid, *train)
    assert found.generated == found.ratio == 0
    assert found.nearer == 1


def test_new_takes_of_the_same_distribution_look_like_held_out_ones() -> None:
    found = neighbours(*_takes(20, 3), *_takes(20, 2), *_takes(40, 1))
    assert found.ratio == pytest.approx(1, abs=0.1)
    assert found.nearer < 0.05
    assert found.diversity == pytest.approx(1, abs=0.1)


def test_a_collapsed_model_has_no_diversity() -> None:
    train = _takes(40, 1)
    one_each, captions = _takes(1, 3)
    found = neighbours(one_each.repeat(5, 0), [c for c in captions for _ in range(5)], *_takes(5, 2), *train)
    assert found.diversity == 0
    assert np.isnan(neighbours(one_each, captions, *_takes(5, 2), *train).diversity)


def test_only_the_same_caption_counts() -> None:
    train = np.array([[0.0], [10.0]])
    assert nearest(np.array([[1.0], [1.0]]), ["a", "b"], train, ["a", "b"]).tolist() == [1, 9]
    with pytest.raises(Error, match='"c"'):
        nearest(np.array([[1.0]]), ["c"], train, ["a", "b"])
    with pytest.raises(Error, match="at least one"):
        nearest(np.zeros((0, 1)), [], train, ["a", "b"])


def test_mel_features_ignore_loudness_and_tempo() -> None:
    spec = PRESETS["voice-8k"]

    def sweep(seconds: float, level: float, start: float = 300) -> Sound:
        t = np.arange(int(seconds * 8000)) / 8000
        phase = 2 * np.pi * (start * t + 500 * t**2 / seconds)
        return Sound((level * np.sin(phase))[None].astype(np.float32), 8000)

    features = mel_features([sweep(0.8, 0.5), sweep(0.8, 0.005), sweep(1.0, 0.5), sweep(0.8, 0.5, 900)], spec)
    assert features.shape == (4, spec.mels * 32)
    same, slower, other = (float(np.linalg.norm(features[0] - features[i])) for i in (1, 2, 3))
    assert same < 1e-4
    assert slower < 0.5 * other
