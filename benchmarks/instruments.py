"""Notes of instruments: is it the note that was asked for, and does it sound like an instrument of that family?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import folds
import numpy as np
from memory import neighbours
from notes import CENTS, VELOCITIES, Pair, read_list, read_rows
from scoring import Clips, share

from cymatic.evaluation.classifier_training import Disturbance
from cymatic.evaluation.classifiers import ClassifierConfig, ConvTrunk
from cymatic.evaluation.outlines import mel_features
from cymatic.evaluation.pitch import note_pitch
from cymatic.media.sound import Sound
from cymatic.pipelines.generate import Generator
from cymatic.signal.mel import MelSpec

NAME = "family"
TRUNK = ConvTrunk(mel=MelSpec(rate=24_000, n_fft=1024, hop=600, mels=64, fmax=12_000, floor=3e-4), dropout=0.2)
# The timbre is the answer, so the equaliser stays within 4 dB, and no other note is heard beside it. A note two
# semitones off by tape is still of its family, and each judge is asked about pitches that it never heard.
HOW = Disturbance(speed=0.12, gain=4.0, noise=(20.0, 60.0))
STEPS = 1200
DRUMS = 128  # stands for the drum kit among the programs 0-127
AT_LEAST = {"seen": 0.8, "unseen": 0.6, "family": 0.75}


def read(data: Path, split: str) -> tuple[Clips, list[tuple[int, int]]]:
    """The notes of one split with the family as truth, and the (program, pitch) pair of each."""
    rows = [row for row in read_rows(data / "instruments") if row["split"] == split]
    sounds = [Sound.read(data / "instruments" / row["audio"]) for row in rows]
    clips = Clips(sounds, [row["caption"] for row in rows], [row["family"] for row in rows])
    return clips, [(row.get("program", DRUMS), row["pitch"]) for row in rows]


def deal(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """A fold for each note: the pitches of each program are dealt out at random, both velocities into one fold.

    So each judge knows every instrument, and is asked about pitches of it that it never heard.
    """
    dealt: dict[tuple[int, int], int] = {}
    for program in sorted({program for program, _ in pairs}):
        pitches = sorted({pitch for its, pitch in pairs if its == program})
        order = np.random.default_rng([0, program]).permutation(len(pitches))
        for place, chosen in enumerate(order):
            dealt[program, pitches[chosen]] = folds.FOLDS[(place + program) % len(folds.FOLDS)]
    return [dealt[pair] for pair in pairs]


def train(data: Path, judges: Path, wanted: Sequence[int], *, steps: int = STEPS, seed: int = 0) -> None:
    """Trains and stores the judges of the wanted folds, on the pack's train split alone."""
    clips, pairs = read(data, "train")
    config = ClassifierConfig(labels={"family": tuple(sorted(set(clips.truth)))}, trunk=TRUNK)
    folds.train(judges, NAME, clips, deal(pairs), wanted, config, HOW, steps=steps, seed=seed)


def measure(data: Path, judges: Path) -> dict[str, Any]:
    """The judges on real notes: out of fold, and together on the pack's valid split."""
    panel = folds.load(judges, NAME)
    clips, pairs = read(data, "train")
    return {
        "out of fold": folds.out_of_fold(panel, clips, deal(pairs)),
        "valid, together": folds.together(panel, read(data, "valid")[0]),
    }


def assess_pitch(pipeline: Generator, data: Path) -> dict[str, Any]:
    """The pitch alone of 100 pairs at two velocities, and of those of their real notes that the pack holds."""
    pairs = read_list()
    start = time.monotonic()
    made = {which: _made(pipeline, some) for which, some in pairs.items()}
    return _pitch(made, pairs, _through(pipeline, data, pairs)) | {"seconds_to_generate": _since(start)}


def assess(pipeline: Generator, data: Path, judges: Path) -> dict[str, Any]:
    """100 pairs at two velocities, judged; and those of their real notes that the pack holds, through the vocoder."""
    panel = folds.load(judges, NAME)
    pairs = read_list()
    start = time.monotonic()
    made = {which: _made(pipeline, some) for which, some in pairs.items()}
    seconds = _since(start)
    train, its_pair = read(data, "train")
    through = _through(pipeline, data, pairs)
    dealt = dict(zip(train.captions, deal(its_pair), strict=True))
    found = _pitch(made, pairs, through)
    both = folds.together(panel, _joined(made["seen"], made["unseen"]))
    return {
        **found,
        "seconds_to_generate": seconds,
        "family": {**{which: folds.together(panel, some) for which, some in made.items()}, "both": both},
        "met": found["pitch_met"] and both["share"] >= AT_LEAST["family"],
        "real_family": {
            **measure(data, judges),
            "seen, through the vocoder, out of fold": folds.out_of_fold(
                panel, through["seen"], [dealt[caption] for caption in through["seen"].captions]
            ),
            "unseen in valid, through the vocoder": folds.together(panel, through["unseen"]),
        },
        "neighbours": {
            "mel": _near(lambda some: mel_features(some.sounds, pipeline.spec), made, train, through["unseen"]),
            "judges": _near(lambda some: folds.embedded(panel, some), made, train, through["unseen"]),
        },
    }


def _pitch(made: dict[str, Clips], pairs: dict[str, list[Pair]], through: dict[str, Clips]) -> dict[str, Any]:
    wanted = {which: _pitches(some) for which, some in pairs.items()}
    pitch, real = (
        {which: pitches(some.sounds, wanted[which], some.captions) for which, some in clips.items()}
        for clips in (made, through)
    )
    return {
        "protocol": "50 seen and 50 unseen pairs of notes.json, softly and loudly, seed 0, the model's defaults",
        "pitch": pitch,
        "pitch_met": all(pitch[which]["share"] >= AT_LEAST[which] for which in made),
        "real_pitch": real,
    }


def _through(pipeline: Generator, data: Path, pairs: dict[str, list[Pair]]) -> dict[str, Clips]:
    """The real notes of the list that the pack holds, through the vocoder; of the unseen ones those in valid."""
    return {
        which: _of(read(data, split)[0], pairs[which]).revocoded(pipeline)
        for which, split in (("seen", "train"), ("unseen", "valid"))
    }


def _since(start: float) -> float:
    return round(time.monotonic() - start, 1)


def pitches(sounds: Sequence[Sound], wanted: dict[str, int], captions: Sequence[str]) -> dict[str, Any]:
    """The share within 50 cents, the errors of whole octaves, the sounds without a pitch, and what was heard amiss."""
    heard = [note_pitch(sound) for sound in sounds]
    off = [None if h is None else h - wanted[caption] for h, caption in zip(heard, captions, strict=True)]
    right = [cents is not None and abs(cents) * 100 <= CENTS for cents in off]
    octaves = [cents is not None and _octaves(cents) for cents in off]
    amiss = zip(captions, off, right, strict=True)
    return share(right) | {
        "octave_errors": sum(octaves),
        "without_pitch": sum(cents is None for cents in off),
        "semitones_off": {c: None if o is None else round(o, 2) for c, o, ok in amiss if not ok},
    }


def _octaves(off: float) -> bool:
    """Whole octaves from what was asked for, but not none."""
    return abs(off) > 6 and abs(off - 12 * round(off / 12)) * 100 <= CENTS


def _pitches(pairs: Sequence[Pair]) -> dict[str, int]:
    return {pair.caption(how): pair.pitch for pair in pairs for how in VELOCITIES}


def _made(pipeline: Generator, pairs: Sequence[Pair]) -> Clips:
    captions = [pair.caption(how) for pair in pairs for how in VELOCITIES]
    return Clips(
        [pipeline(caption, seed=0) for caption in captions],
        captions,
        [pair.family for pair in pairs for _ in VELOCITIES],
    )


def _of(clips: Clips, pairs: Sequence[Pair]) -> Clips:
    """Those of the real notes that belong to these pairs."""
    wanted = _pitches(pairs)
    return clips[[row for row, caption in enumerate(clips.captions) if caption in wanted]]


def _joined(a: Clips, b: Clips) -> Clips:
    return Clips(a.sounds + b.sounds, a.captions + b.captions, a.truth + b.truth)


def _near(
    features: Callable[[Clips], np.ndarray], made: dict[str, Clips], train: Clips, valid: Clips
) -> dict[str, Any]:
    """Neighbours among notes of the same instrument: each caption has one real note, so a caption has no second take.

    Unseen notes that are training notes under another name would lie nearer to them than real unseen notes do.
    """
    trained, held_out = features(train), features(valid)
    of = {what: _instruments(clips) for what, clips in {"train": train, "valid": valid, **made}.items()}
    return {
        what: neighbours(features(clips), of[what], held_out, of["valid"], trained, of["train"])
        for what, clips in made.items()
    }


def _instruments(clips: Clips) -> list[str]:
    return [caption.split(" playing ")[0] for caption in clips.captions]
