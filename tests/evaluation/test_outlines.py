from __future__ import annotations

import numpy as np
import torch

from cymatic.evaluation.outlines import mel_features, mel_outline, mel_statistics
from cymatic.media.audio import levelled, mel_of
from cymatic.media.sound import Sound
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["voice-8k"]


def sweep(seconds: float, level: float, start: float = 300) -> Sound:
    t = np.arange(int(seconds * 8000)) / 8000
    phase = 2 * np.pi * (start * t + 500 * t**2 / seconds)
    return Sound((level * np.sin(phase))[None].astype(np.float32), 8000)


def test_mel_features_ignore_loudness_and_tempo() -> None:
    features = mel_features([sweep(0.8, 0.5), sweep(0.8, 0.005), sweep(1.0, 0.5), sweep(0.8, 0.5, 900)], SPEC)
    assert features.shape == (4, SPEC.mels * 32)
    same, slower, other = (float(np.linalg.norm(features[0] - features[i])) for i in (1, 2, 3))
    assert same < 1e-4
    assert slower < 0.5 * other


def test_what_is_read_of_a_mel_ignores_its_level() -> None:
    mel = mel_of(levelled(sweep(0.8, 0.5), SPEC), SPEC)
    for read in (mel_outline, mel_statistics):
        assert np.allclose(read(mel), read(mel - 3), atol=1e-4)
    assert np.isfinite(mel_statistics(mel[:, :1])).all()
    assert mel_outline(torch.zeros(4, 1)).shape == (4 * 32,)
