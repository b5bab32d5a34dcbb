"""What the figures of the benchmark's judges rest on: no judge is asked about a clip that it learned from."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cymatic.media.sound import Sound


@pytest.fixture
def bench(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`benchmarks/instruments.py`, as its own programs import it: beside its neighbours, outside any package."""
    monkeypatch.syspath_prepend(repository / "benchmarks")
    import instruments

    yield instruments
    for name in ("instruments", "folds", "notes", "scoring"):
        sys.modules.pop(name, None)


def test_a_pair_never_straddles_folds_and_each_program_is_in_all(bench: ModuleType) -> None:
    pairs = [(program, pitch) for program in range(20) for pitch in (40, 45, 50, 55, 60, 65) for _ in range(2)]
    dealt = bench.deal(pairs)
    of_pair, of_program = defaultdict(set), defaultdict(set)
    for pair, fold in zip(pairs, dealt, strict=True):
        of_pair[pair].add(fold)
        of_program[pair[0]].add(fold)
    assert all(len(folds) == 1 for folds in of_pair.values())
    assert all(folds == {1, 2, 3, 4} for folds in of_program.values())
    counts = np.bincount(dealt)[1:]
    assert counts.max() <= 1.2 * counts.min()
    assert bench.deal(pairs) == dealt


def test_each_real_clip_is_judged_by_the_judge_of_its_own_fold(bench: ModuleType) -> None:
    folds, scoring = sys.modules["folds"], sys.modules["scoring"]

    class OfFold:
        def __init__(self, fold: int) -> None:
            self.fold = fold

        def answers(self, sounds: list[Sound]) -> dict[str, list[str]]:
            return {"fold": [str(self.fold)] * len(sounds)}

    dealt = [1, 2, 3, 4, 4, 3, 2, 1]
    clips = scoring.Clips([Sound(np.ones(9), 8000)] * 8, ["a clip"] * 8, [str(fold) for fold in dealt])
    panel = {fold: OfFold(fold) for fold in folds.FOLDS}
    assert folds.out_of_fold(panel, clips, dealt)["share"] == 1.0


def test_pitches_are_counted_right_off_by_octaves_or_amiss(bench: ModuleType) -> None:
    t = np.arange(12_000) / 24_000
    tones = [Sound(0.3 * np.sin(2 * np.pi * hz * t), 24_000) for hz in (440.0, 450.0, 880.0, 500.0)]
    tones.append(Sound(np.zeros(12_000), 24_000))
    captions = ["right", "sharp", "octave", "amiss", "silent"]
    found = bench.pitches(tones, dict.fromkeys(captions, 69), captions)
    assert (found["right"], found["clips"], found["octave_errors"], found["without_pitch"]) == (2, 5, 1, 1)
    assert found["semitones_off"] == {"octave": 12.0, "amiss": 2.21, "silent": None}
