"""How good is a model of spoken digits? Two judges, four kinds of evidence, one report.

    python benchmarks/digits.py train-judges FOLDER
    python benchmarks/digits.py judge FOLDER --model starter-sound -o report.json

FOLDER is the digits pack (Free Spoken Digit Dataset): a `manifest.jsonl` whose captions read "VOICE says DIGIT". The
judges are trained once on its training recordings, committed, and left alone; the report names them and the model by
the SHA-256 of `config.json` followed by `model.safetensors` (of each part in turn), so that anyone can check that the
judges were frozen before a model was judged.

The protocol: every voice says every digit with seeds 0-4, with the model's own defaults, and every clip counts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is loaded

import numpy as np
import torch
import typer
from memory import neighbours
from scoring import cell, first_of_each, scored, table

import cymatic
from cymatic.data.folder import read_folder
from cymatic.errors import Error
from cymatic.evaluation.classifier_training import train_classifier
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk, RecurrentTrunk
from cymatic.evaluation.outlines import mel_features
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.media.audio import levelled
from cymatic.media.sound import Sound
from cymatic.pipelines.generate import Generator
from cymatic.signal.griffin_lim import griffin_lim, magnitude_from_mel
from cymatic.signal.mel import PRESETS, log_mel

JUDGES = Path(__file__).parent / "judges"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRUNKS = {"conv": ConvTrunk(), "recurrent": RecurrentTrunk()}
SEEDS = 5
QUESTIONS = ("digit", "voice")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


@dataclass(frozen=True)
class Clips:
    """Sounds and their captions, "VOICE says DIGIT"."""

    sounds: list[Sound]
    captions: list[str]

    @property
    def truth(self) -> dict[str, list[str]]:
        """What a judge should hear."""
        pairs = [caption.split(" says ") for caption in self.captions]
        return {"digit": [digit for _, digit in pairs], "voice": [voice for voice, _ in pairs]}


def read(folder: Path, split: str) -> Clips:
    """The recordings of one split. Raises Error where a caption isn't one of the digits pack's."""
    items = read_folder(folder).of(split)
    for item in items:
        if item.caption.partition(" says ")[2] not in DIGITS:
            raise Error(f'{item.path().name} has the caption "{item.caption}"; this benchmark reads "VOICE says DIGIT"')
    return Clips([Sound.read(item.path()) for item in items], [item.caption for item in items])


def score(judge: Classifier, clips: Clips) -> dict[str, Any]:
    """For each question: how many were heard as meant, the share with its interval, and what was misheard as what."""
    heard, truth = judge.answers(clips.sounds), clips.truth
    return {question: scored(heard[question], truth[question], clips.captions) for question in QUESTIONS}


@app.command()
def train_judges(
    folder: Path,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the judges' folders go.")] = JUDGES,
    steps: Annotated[int, typer.Option(help="Optimiser steps for each judge.")] = 700,
    seed: int = 0,
) -> None:
    """Trains both judges on the training recordings and measures the stored ones on held-out recordings."""
    train, valid = read(folder, "train"), read(folder, "valid")
    through = Clips([_griffin_lim(sound) for sound in valid.sounds], valid.captions)
    labels = {"digit": DIGITS, "voice": tuple(sorted(set(train.truth["voice"])))}
    rows = []
    for name, trunk in TRUNKS.items():
        start = time.monotonic()
        config = ClassifierConfig(labels=labels, trunk=trunk)
        trained = train_classifier(train.sounds, train.truth, config, steps=steps, seed=seed, progress=_tell)
        seconds = time.monotonic() - start
        save_part(output / name, trained, half=True)
        judge = load_part(output / name, (Classifier,))
        for what, clips in (("valid", valid), ("valid through Griffin-Lim", through)):
            rows.append([f"{what} ({seconds:.0f} s to train)", name, *_cells(score(judge, clips))])
    typer.echo(table(["sounds", "judge", *QUESTIONS], rows))


def _tell(step: int, loss: float) -> None:
    if (step + 1) % 100 == 0:
        typer.echo(f"step {step + 1}: loss {loss:.3f}", err=True)


def _griffin_lim(sound: Sound) -> Sound:
    spec = PRESETS["voice-8k"]
    prepared = levelled(sound, spec)
    magnitude = magnitude_from_mel(log_mel(torch.from_numpy(prepared.samples)[None], spec), spec)
    return Sound(griffin_lim(magnitude, spec)[0, :, : len(prepared)].numpy(), spec.rate)


@app.command()
def judge(
    folder: Path,
    model: Annotated[str, typer.Option(help="A starter's name or a model's folder.")] = "starter-sound",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the JSON report goes.")] = None,
    judges: Annotated[Path, typer.Option(help="The folder of the frozen judges.")] = JUDGES,
) -> None:
    """Judges 300 generated clips, and real recordings beside them."""
    report = assess(cymatic.load(model), folder, judges)
    if output is not None:
        output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    typer.echo(summary(report))


def assess(pipeline: Generator, folder: Path, judges: Path) -> dict[str, Any]:
    """The report on a model, as JSON values."""
    panel = {name: load_part(judges / name, (Classifier,)) for name in TRUNKS}
    train, valid = read(folder, "train"), read(folder, "valid")
    # Takes of training that pass for perfect memories: what the neighbour metrics must raise the alarm at.
    copies = _first_of_each(train, SEEDS)
    start = time.monotonic()
    generated = _generate(pipeline, sorted(set(train.captions)))
    seconds = time.monotonic() - start
    sets = {
        "generated": generated,
        "valid": valid,
        "valid through the vocoder": _revocoded(pipeline, valid),
        "copies of training through the vocoder": _revocoded(pipeline, copies),
    }
    return {
        "model": {"name": pipeline.name, "sha256": pipeline.sha256, "defaults": pipeline.defaults.model_dump()},
        "judges": {name: fingerprint([judges / name]) for name in panel},
        "protocol": f"{len(set(train.captions))} captions x seeds 0-{SEEDS - 1}, the model's defaults, no selection",
        "cymatic": cymatic.__version__,
        "torch": torch.__version__,
        "seconds_to_generate": round(seconds, 1),
        "judged": {
            name: {what: score(member, clips) for what, clips in sets.items()} for name, member in panel.items()
        },
        "neighbours": _compare(pipeline, panel, sets, train),
    }


def _generate(pipeline: Generator, captions: Sequence[str]) -> Clips:
    sounds = [sound for caption in captions for sound in pipeline(caption, seed=0, n=SEEDS)]
    return Clips(sounds, [caption for caption in captions for _ in range(SEEDS)])


def _revocoded(pipeline: Generator, clips: Clips) -> Clips:
    return Clips([pipeline.revocode(sound) for sound in clips.sounds], clips.captions)


def _first_of_each(clips: Clips, count: int) -> Clips:
    kept = first_of_each(clips.captions, count)
    return Clips([clips.sounds[row] for row in kept], [clips.captions[row] for row in kept])


def _compare(
    pipeline: Generator, panel: dict[str, Classifier], sets: dict[str, Clips], train: Clips
) -> dict[str, dict[str, Any]]:
    """Neighbours in each kind of features: of what was generated, and of copies as a check of the measure itself."""
    spec = pipeline.spec
    kinds: dict[str, Callable[[Sequence[Sound]], np.ndarray]] = {"mel": partial(mel_features, spec=spec)}
    for name, member in panel.items():
        kinds[name] = partial(_embedded, member)
    found: dict[str, dict[str, Any]] = {}
    valid = sets["valid through the vocoder"]
    for kind, features in kinds.items():
        held_out, trained = features(valid.sounds), features(train.sounds)
        found[kind] = {
            what: neighbours(
                features(sets[what].sounds), sets[what].captions, held_out, valid.captions, trained, train.captions
            )
            for what in ("generated", "copies of training through the vocoder")
        }
    return found


def _embedded(judge: Classifier, sounds: Sequence[Sound]) -> np.ndarray:
    return judge.embed(sounds).numpy()


def summary(report: dict[str, Any]) -> str:
    """The report as text."""
    judged = [
        [what, name, *_cells(scores)] for name, member in report["judged"].items() for what, scores in member.items()
    ]
    near = [
        [what, kind, f"{row['ratio']:.2f}", f"{row['nearer']:.1%}", f"{row['diversity']:.2f}"]
        for kind, rows in report["neighbours"].items()
        for what, row in rows.items()
    ]
    worst = [
        f"{name}, {question}: worst {meant} ({share:.0%})"
        for name, member in report["judged"].items()
        for question in QUESTIONS
        for meant, share in [min(member["generated"][question]["share_of_each"].items(), key=lambda pair: pair[1])]
    ]
    return "\n\n".join(
        [
            f"{report['model']['name']} {report['model']['sha256'][:12]}: {report['protocol']}",
            table(["sounds", "judge", *QUESTIONS], judged),
            table(
                ["sounds", "features", "nearest to train / valid's", "nearer than valid's 1st pct", "diversity"], near
            ),
            "Generated, " + "; ".join(worst) + ".",
        ]
    )


def _cells(scores: dict[str, Any]) -> list[str]:
    return [cell(scores[question]) for question in QUESTIONS]


if __name__ == "__main__":
    app()
