"""Everyday sounds: the ten classes of ESC-10 (Piczak, 2015), 30 clips of each, heard by four cross-validated judges."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import folds
import numpy as np
from memory import neighbours
from notes import read_rows
from scoring import Clips, first_of_each

from cymatic.errors import Error
from cymatic.evaluation.classifier_training import Disturbance
from cymatic.evaluation.classifiers import ClassifierConfig, ConvTrunk
from cymatic.evaluation.outlines import mel_features
from cymatic.media.sound import Sound
from cymatic.pipelines.generate import Generator
from cymatic.signal.mel import MelSpec

NAME = "esc10"
TRUNK = ConvTrunk(mel=MelSpec(rate=24_000, n_fft=1024, hop=600, mels=64, fmax=12_000, floor=3e-4))
# Field recordings differ in pace, room and background more than takes of a word do.
HOW = Disturbance(speed=0.2, gain=8.0, noise=(15.0, 50.0), longest=2.0, mix=0.5)
STEPS = 350
SEEDS = 30
COPIES = 5  # takes of training that pass for perfect memories: what the neighbour metrics must raise the alarm at
REAL_AT_LEAST, RATIO_AT_LEAST = 0.75, 0.75


def read(data: Path) -> tuple[Clips, list[int], list[str]]:
    """The clips of ESC-10 with the class as truth, their folds, and their splits. Raises Error where there are none."""
    rows = [row for row in read_rows(data / "effects") if row.get("fold")]
    if not rows:
        raise Error(f"{data / 'effects'} holds no clip with a fold; give the folder of the packs")
    sounds = [Sound.read(data / "effects" / row["audio"]) for row in rows]
    clips = Clips(sounds, [row["caption"] for row in rows], [row["label"] for row in rows])
    return clips, [row["fold"] for row in rows], [row["split"] for row in rows]


def train(data: Path, judges: Path, wanted: Sequence[int], *, steps: int = STEPS, seed: int = 0) -> None:
    """Trains and stores the judges of the wanted folds."""
    clips, its_fold, _ = read(data)
    config = ClassifierConfig(labels={"class": tuple(sorted(set(clips.truth)))}, trunk=TRUNK)
    folds.train(judges, NAME, clips, its_fold, wanted, config, HOW, steps=steps, seed=seed)


def measure(data: Path, judges: Path) -> dict[str, Any]:
    """The judges on real clips, out of fold."""
    clips, its_fold, _ = read(data)
    return folds.out_of_fold(folds.load(judges, NAME), clips, its_fold)


def assess(pipeline: Generator, data: Path, judges: Path) -> dict[str, Any]:
    """30 clips of each of ten captions, judged; and real clips, as they are and through the vocoder."""
    panel = folds.load(judges, NAME)
    clips, its_fold, split = read(data)
    label_of = dict(zip(clips.captions, clips.truth, strict=True))
    start = time.monotonic()
    captions = [caption for caption in sorted(label_of) for _ in range(SEEDS)]
    sounds = [sound for caption in sorted(label_of) for sound in pipeline(caption, seed=0, n=SEEDS)]
    made = Clips(sounds, captions, [label_of[caption] for caption in captions])
    seconds = time.monotonic() - start
    through = clips.revocoded(pipeline)
    generated = folds.together(panel, made)
    real = folds.out_of_fold(panel, clips, its_fold)
    trained = [row for row, its in enumerate(split) if its == "train"]
    valid = [row for row, its in enumerate(split) if its == "valid"]
    copies = [trained[i] for i in first_of_each(clips[trained].captions, COPIES)]
    near = {"generated": made, "copies of training through the vocoder": through[copies]}
    kinds: dict[str, Callable[[Clips], np.ndarray]] = {
        "mel": lambda some: mel_features(some.sounds, pipeline.spec),
        "judges": partial(folds.embedded, panel),
    }
    return {
        "protocol": f"{len(label_of)} captions x seeds 0-{SEEDS - 1}, the model's defaults, no selection",
        "seconds_to_generate": round(seconds, 1),
        "generated": generated,
        "real out of fold": real,
        "real through the vocoder, out of fold": folds.out_of_fold(panel, through, its_fold),
        "ratio": generated["share"] / real["share"],
        "ratio_alone": generated["mean_alone"] / real["share"],
        "met": real["share"] >= REAL_AT_LEAST and generated["share"] >= RATIO_AT_LEAST * real["share"],
        "neighbours": {kind: _near(features, near, clips[trained], through[valid]) for kind, features in kinds.items()},
    }


def _near(
    features: Callable[[Clips], np.ndarray], near: dict[str, Clips], trained: Clips, valid: Clips
) -> dict[str, Any]:
    real, held_out = features(trained), features(valid)
    return {
        what: neighbours(features(some), some.captions, held_out, valid.captions, real, trained.captions)
        for what, some in near.items()
    }
