"""Are minutes used, is the pace that was promised kept, and what do they make of a folder?

    python benchmarks/pace.py mixed DATA FOLDER                       700 clips of 0.02 to 12 s, their median 0.7 s
    python benchmarks/pace.py small DATA PLACE                        PLACE/60, /120, /300 and /600
    python benchmarks/pace.py train FOLDER RUN --minutes 8            with this version's `cymatic train`
    python benchmarks/pace.py train FOLDER RUN --source OTHER/src     with another version's
    python benchmarks/pace.py guidance FOLDER RUN                     what a probe hears at other guidances
    python benchmarks/pace.py table RUN [RUN ...]

DATA is the folder that holds the packs. `train` runs the command line with nothing but its defaults and notes how many
steps were promised and made, how many of the minutes were used, and the share of the frames computed in training that
were padding. Then, whichever version trained, this one measures the run: the flow's loss on what is held out, and what
a probe that learned from the training split alone hears in 200 clips made with the model's defaults (no selection),
beside what it hears in the real clips held out. RUN.json has the figures.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is loaded

import numpy as np
import typer

from cymatic.data.captions import spelt_alike
from cymatic.data.examples import Data, Reading, load_examples
from cymatic.data.settings import DataSettings
from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy, Answer, accuracy
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.domain import MELS
from cymatic.evaluation.generation import generate
from cymatic.evaluation.neighbours import neighbours
from cymatic.evaluation.probe import Probe
from cymatic.files import write_atomically
from cymatic.media.sound import Sound
from cymatic.pipelines.load import load
from cymatic.training.recipe import make_recipe
from cymatic.training.tasks.prior import PriorTask

SECONDS = (0.02, 0.7, 12.0)  # least, median, most
SPREAD = 1.1  # of the logarithm of the seconds
MIXED = 700
GENERATED = 200
GUIDANCES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Runs the command line and counts the frames that the flow's loss computes and those that hold something.
WATCH = """
import json, sys, torch
from cymatic.apps.cli import main
from cymatic.priors.flow import FlowPrior
counts, loss = {"frames": 0, "held": 0}, FlowPrior.loss
def watched(self, target, lengths, *more, **named):
    if torch.is_grad_enabled():
        counts["frames"] += target.shape[0] * target.shape[-1]
        counts["held"] += int(lengths.sum())
    return loss(self, target, lengths, *more, **named)
FlowPrior.loss = watched
try:
    main(sys.argv[2:])
finally:
    open(sys.argv[1], "w").write(json.dumps(counts))
"""

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Rows = list[tuple[str, Path, float]]  # caption, file, seconds


def rows_of(pack: Path, caption: str, *, manifest: str = "manifest.jsonl", **where: str) -> Rows:
    """The clips of a pack; `caption` is a format of its fields."""
    rows = [json.loads(line) for line in (pack / manifest).read_text(encoding="utf-8").splitlines()]
    chosen = [row for row in rows if all(row.get(key) == value for key, value in where.items())]
    return [(caption.format(**row), pack / row["audio"], row["seconds"]) for row in chosen]


@app.command()
def mixed(data: Path, folder: Path, seed: int = 0) -> None:
    """Cuts 700 clips of very different lengths from the packs, a folder for each caption."""
    chance = np.random.default_rng(seed)
    rows = rows_of(data / "digits", "a voice saying {word}", speaker="george")
    rows += rows_of(data / "digits", "a voice saying {word}", speaker="jackson")
    for family in ("piano", "drum kit", "organ", "guitar", "brass", "strings"):
        rows += rows_of(data / "instruments", "a {family} note", family=family)
    for kind in ("tabla", "hi-hat", "electronic", "bass drum"):
        rows += rows_of(data / "samples", "a {kind} sample", kind=kind)
    for label in ("rain", "dog bark", "sea waves", "clock tick", "helicopter", "rooster"):
        rows += rows_of(data / "effects", "{caption}", label=label)
    if len(rows) < MIXED:
        raise Error(f"{data} has {len(rows)} of these clips; give the folder that holds the packs")
    for number in range(MIXED):
        seconds = float(np.clip(np.exp(np.log(SECONDS[1]) + SPREAD * chance.normal()), SECONDS[0], SECONDS[2]))
        # One that is about as long, so that the most of it is kept; the longest are played again and again.
        longest = max(length for *_, length in rows)
        fitting = [row for row in rows if min(seconds, longest / 2) <= row[2] <= max(4 * seconds, 0.5)]
        caption, file, _ = fitting[int(chance.integers(len(fitting)))]
        sound = Sound.read(file)
        count = max(1, round(seconds * sound.rate))
        repeated = np.tile(sound.samples, (1, -(-count // sound.samples.shape[1])))[:, :count]
        place = folder / caption
        place.mkdir(parents=True, exist_ok=True)
        Sound(repeated, sound.rate).write(place / f"take-{number:03}.flac")
    typer.echo(f"{folder}: {MIXED} clips of {len(list(folder.iterdir()))} captions")


@app.command()
def small(data: Path, place: Path, seed: int = 0) -> None:
    """Copies 60, 120, 300 and 600 clips whose captions are new to the starter, a folder for each caption."""
    chance = np.random.default_rng(seed)
    for count, rows, most in (
        (60, rows_of(data / "words", "a word in {language}"), 6),
        (120, rows_of(data / "spoken-emoji", "the voice {voice}"), 8),
        (300, rows_of(data / "stamps", "the language {language}", manifest="speech.jsonl"), 10),
        (600, rows_of(data / "words", "a word in {language}"), 8),
    ):
        for number, (caption, file) in enumerate(_evenly(rows, count, most, chance)):
            folder = place / str(count) / caption
            folder.mkdir(parents=True, exist_ok=True)
            Sound.read(file).write(folder / f"take-{number:03}.flac")
        typer.echo(f"{place / str(count)}: {sum(1 for _ in (place / str(count)).rglob('*.flac'))} clips")


def _evenly(rows: Rows, count: int, captions: int, chance: np.random.Generator) -> Iterator[tuple[str, Path]]:
    """As many clips of each of the `captions` captions that have the most."""
    files: dict[str, list[Path]] = {}
    for caption, file, _ in rows:
        files.setdefault(caption, []).append(file)
    for caption in sorted(files, key=lambda one: (-len(files[one]), one))[:captions]:
        for number in chance.permutation(len(files[caption]))[: count // captions]:
            yield caption, files[caption][number]


@app.command()
def train(
    folder: Path,
    run: Path,
    minutes: float = 8.0,
    source: Annotated[Path, typer.Option(help="The sources of the version that trains.")] = Path("src"),
    more: Annotated[str, typer.Option(help="Further words for cymatic train.")] = "",
) -> None:
    """Trains, measures, and writes RUN.json."""
    counts = run.with_suffix(".frames.json")
    counts.parent.mkdir(parents=True, exist_ok=True)
    words = ["train", str(folder), "--minutes", str(minutes), "--out", str(run), *more.split()]
    environment = {**os.environ, "PYTHONPATH": str(source.resolve())}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(counts), *words], env=environment, capture_output=True, text=True, check=False
    )
    taken = time.monotonic() - began
    said = done.stdout + done.stderr
    run.with_suffix(".log").write_text(said, encoding="utf-8")
    if done.returncode:
        raise Error(f"cymatic train ended with {done.returncode}: {said[-500:]}")
    frames = json.loads(counts.read_text())
    promised = re.search(r"^time .*?(\d+) steps", said, re.MULTILINE)
    report: dict[str, Any] = {
        "folder": folder.name,
        "minutes": minutes,
        "used": taken / 60 / minutes,
        "promised": int(promised[1]) if promised else None,
        "steps": int(re.findall(r"^trained (\d+) steps", said, re.MULTILINE)[-1]),
        "padding": 1 - frames["held"] / frames["frames"],
        **measured(folder, run),
    }
    write_atomically(run.with_suffix(".json"), (json.dumps(report, indent=2) + "\n").encode())
    typer.echo(json.dumps(report, indent=2))


@app.command()
def measure(folder: Path, run: Path) -> None:
    """Measures a run again."""
    typer.echo(json.dumps(measured(folder, run), indent=2))


def measured(folder: Path, run: Path, *, seed: int = 100) -> dict[str, Any]:
    """The flow's loss on what is held out, and what a probe hears in clips held out and in clips made."""
    model: Any = load(run)
    data = _data(folder, model)
    stage: Any = make_recipe(None, []).stages["prior"]
    task = PriorTask("prior", stage, model.encoder, model.prior, kept="encoder")
    loss = task.measure([one for one in data.valid if task.knows(one)], 16)["loss"]
    learned, held = _clips(data)
    probe = Probe(learned, MELS, held.captions)
    truth = probe.truth([learned, held])[probe.question]
    captions = sorted({caption for caption in learned.captions if caption in truth})
    asked = {one: GENERATED // len(captions) + (i < GENERATED % len(captions)) for i, one in enumerate(captions)}
    made = generate(model, MELS, {caption: takes for caption, takes in asked.items() if takes}, seed)
    heard, real = (_heard(probe, some, truth) for some in (made, held))
    near = neighbours(
        MELS.outlines(made.values), made.captions, MELS.outlines(held.values), held.captions,
        MELS.outlines(learned.values), learned.captions,
    )  # fmt: skip
    return {
        "clips": len(data.train),
        "held out": len(data.valid),
        "loss held out": loss,
        "generated": heard.right.value,
        "real": real.right.value,
        "of it": heard.right.value / real.right.value,
        "left out": probe.left_out()[probe.question].right.value,
        "near": near.ratio.value if near is not None else None,
        "each": {label: right / n for label, (right, n) in heard.each.items()},
    }


def _heard(probe: Probe, clips: Clips, truth: Mapping[str, Answer]) -> Accuracy:
    """How many of the clips whose captions the probe knows it hears as they were meant."""
    answers = zip(probe.answers(clips.values)[probe.question], clips.captions, strict=True)
    pairs = [(got, truth[caption]) for got, caption in answers if caption in truth]
    return accuracy([got for got, _ in pairs], [want for _, want in pairs])


def _data(folder: Path, model: Any) -> Data:
    reading = Reading("audio", model.prior.config.reads)
    return load_examples(DataSettings(folder=str(folder)), reading, captions=True, say=lambda _: None)


def _clips(data: Data) -> tuple[Clips, Clips]:
    captions = spelt_alike([one.caption for one in (*data.train, *data.valid)])
    learned = Clips.of([one.target for one in data.train], captions[: len(data.train)])
    return learned, Clips.of([one.target for one in data.valid], captions[len(data.train) :])


@app.command()
def guidance(folder: Path, run: Path, few: int = 48, seed: int = 1000) -> None:
    """Would the guidance at which a few clips are heard best be the best for others, too? Both, at each guidance."""
    model: Any = load(run)
    learned, held = _clips(_data(folder, model))
    probe = Probe(learned, MELS, held.captions)
    truth = probe.truth([learned])[probe.question]
    captions = sorted(truth)
    for weight in GUIDANCES:
        shares = []
        for count, first in ((few, 0), (GENERATED, seed)):
            asked = [captions[i % len(captions)] for i in range(count)]
            made = MELS.make(model, asked, [first + i for i in range(count)], weight)
            shares.append(_heard(probe, Clips.of(made, asked), truth).right.value)
        typer.echo(f"guidance {weight:g}: {shares[0]:.3f} of {few}, {shares[1]:.3f} of {GENERATED} others")


@app.command()
def table(runs: list[Path]) -> None:
    """The figures of several runs, side by side."""
    names = ("promised", "steps", "used", "padding", "loss held out", "generated", "real", "of it", "left out")
    typer.echo("| run | " + " | ".join(names) + " |\n|---" * 1 + "|---" * len(names) + "|")
    for run in runs:
        report = json.loads(run.with_suffix(".json").read_text())
        typer.echo(f"| {run.name} | " + " | ".join(_cell(report[name]) for name in names) + " |")


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str] | None = None) -> None:
    app(arguments)


if __name__ == "__main__":
    main()
