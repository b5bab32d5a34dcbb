"""How good is a model of sounds and notes? Everyday sounds, instruments' notes and spoken digits, in one report.

    python benchmarks/sounds.py train-judges DATA
    python benchmarks/sounds.py judge DATA --model starter-sound -o report.json
    python benchmarks/sounds.py sheet DATA picture.png --model starter-sound

DATA is the folder that holds the packs `effects`, `instruments` and `digits`. The judges are trained once on real
clips, committed, and left alone; the report names them and the model by the SHA-256 of `config.json` followed by
`model.safetensors` (of each part in turn). Real clips stand beside what the model makes: as they are, and through the
model's own mel and vocoder, so that what the vocoder loses can be told from what the prior gets wrong.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is loaded

import digits
import effects
import folds
import instruments
import torch
import typer
from notes import read_list
from scoring import cell, table

import cymatic
from cymatic.files import write_atomically
from cymatic.hub.parts import fingerprint
from cymatic.media.plot import contact_sheet

JUDGES = Path(__file__).parent / "judges"

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


class Part(StrEnum):
    """What may be judged alone."""

    esc10 = "esc10"
    notes = "notes"
    digits = "digits"
    pitch = "pitch"  # of the notes; needs no judges of their family


Judges = Annotated[Path, typer.Option(help="The folder of the frozen judges.")]
Model = Annotated[str, typer.Option(help="A starter's name or a model's folder.")]
Only = Annotated[list[Part] | None, typer.Option(help="Leave out the rest; may be given twice.")]


@app.command()
def train_judges(
    data: Path,
    judges: Annotated[Path, typer.Option("--output", "-o", help="Where the judges' folders go.")] = JUDGES,
    only: Only = None,
    fold: Annotated[list[int] | None, typer.Option(help="Train the judges of these folds only.")] = None,
    seed: int = 0,
) -> None:
    """Trains the judges of everyday sounds and of families, four each, and measures the stored ones on real clips."""
    wanted = fold or folds.FOLDS
    lines = []
    for part, bench in ((Part.esc10, effects), (Part.notes, instruments)):
        if only and part not in only:
            continue
        start = time.monotonic()
        bench.train(data, judges, wanted, seed=seed)
        lines.append(f"{part}: {len(wanted)} judges in {time.monotonic() - start:.0f} s")
    typer.echo("\n".join(lines))
    if fold is None:
        measure_judges(data, judges, only)


@app.command()
def measure_judges(data: Path, judges: Judges = JUDGES, only: Only = None) -> None:
    """Measures the stored judges on real clips, each clip by the judge that never heard its fold."""
    rows = []
    misheard = {}
    if not only or Part.esc10 in only:
        real = effects.measure(data, judges)
        rows.append(["everyday sounds, out of fold", cell(real)])
        misheard["everyday sounds"] = real
    if not only or Part.notes in only:
        for what, real in instruments.measure(data, judges).items():
            rows.append([f"families, {what}", cell(real)])
            misheard[f"families, {what}"] = real
    typer.echo(table(["real clips", "heard as they are"], rows))
    for what, real in misheard.items():
        typer.echo(f"\n{what}: {_each(real['share_of_each'])}\n{json.dumps(real['misheard'])}")


@app.command()
def judge(
    data: Path,
    model: Model = "starter-sound",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the JSON report goes.")] = None,
    judges: Judges = JUDGES,
    only: Only = None,
) -> None:
    """Judges 300 everyday sounds, 200 notes and 300 spoken digits, and real recordings beside them."""
    pipeline = cymatic.load(model)
    wanted = only or [Part.esc10, Part.notes, Part.digits]
    names = {Part.esc10: effects.NAME, Part.notes: instruments.NAME}
    report: dict[str, Any] = {
        "model": {"name": pipeline.name, "sha256": pipeline.sha256, "defaults": pipeline.defaults.model_dump()},
        "judges": {
            where.name: fingerprint([where])
            for part, name in names.items()
            if part in wanted
            for where in (folds.place(judges, name, fold) for fold in folds.FOLDS)
        },
        "cymatic": cymatic.__version__,
        "torch": torch.__version__,
    }
    parts = []
    if Part.esc10 in wanted:
        report["esc10"] = effects.assess(pipeline, data, judges)
        parts.append(_esc10(report["esc10"]))
    if Part.notes in wanted:
        report["notes"] = instruments.assess(pipeline, data, judges)
        parts.append(_notes(report["notes"]))
    if Part.pitch in wanted:
        report["pitch"] = instruments.assess_pitch(pipeline, data)
        parts.append(_pitch(report["pitch"]))
    if Part.digits in wanted:
        report["digits"] = digits.assess(pipeline, data / "digits", judges)
        parts.append(digits.summary(report["digits"]))
    if output is not None:
        write_atomically(output, (json.dumps(report, indent=2) + "\n").encode())
    typer.echo("\n\n".join([f"{pipeline.name} {pipeline.sha256[:12]}", *parts]))


@app.command()
def sheet(data: Path, picture: Path, model: Model = "starter-sound") -> None:
    """Draws real clips beside generated ones of the same captions: ten everyday sounds, five notes seen, five not."""
    pipeline = cymatic.load(model)
    sounds, _, _ = effects.read(data)
    notes = [instruments.read(data, split)[0] for split in ("train", "valid")]
    real = {
        caption: sound
        for clips in (sounds, *notes)
        for caption, sound in zip(reversed(clips.captions), reversed(clips.sounds), strict=True)  # the first one stays
    }
    listed = [[p.caption("loudly") for p in pairs if p.caption("loudly") in real] for pairs in read_list().values()]
    captions = sorted(set(sounds.captions)) + [c for some in listed for c in some[:: max(1, len(some) // 5)][:5]]
    items = []
    for caption in captions:
        items.append((f"real: {caption}", pipeline.revocode(real[caption])))
        items.append((f"made: {caption}", pipeline(caption, seed=0)))
    contact_sheet(picture, items, columns=4)


def _esc10(found: dict[str, Any]) -> str:
    sets = ("generated", "real out of fold", "real through the vocoder, out of fold")
    return "\n\n".join(
        [
            f"Everyday sounds: {found['protocol']}",
            table(["sounds", "heard as meant"], [[what, cell(found[what])] for what in sets]),
            f"Generated / real out of fold: {found['ratio']:.1%}; by each judge alone, as the real figure is: "
            f"{found['ratio_alone']:.1%}; at least {effects.RATIO_AT_LEAST:.0%} is {_met(found)}.",
            f"Generated, each: {_each(found['generated']['share_of_each'])}.",
            _neighbours(found["neighbours"]),
        ]
    )


def _pitch(found: dict[str, Any]) -> str:
    rows = [
        [f"{what}, {which}", cell(of), str(of["octave_errors"]), str(of["without_pitch"])]
        for what, those in (("generated", found["pitch"]), ("real through the vocoder", found["real_pitch"]))
        for which, of in those.items()
    ]
    least = instruments.AT_LEAST
    return "\n\n".join(
        [
            f"Notes: {found['protocol']}",
            table(["notes", "pitch within 50 cents", "octave errors", "no pitch"], rows),
            f"Pitch of {least['seen']:.0%} seen and {least['unseen']:.0%} unseen: "
            f"{'met' if found['pitch_met'] else 'not met'}.",
        ]
    )


def _notes(found: dict[str, Any]) -> str:
    rows = [
        [f"{what}, {which}", cell(of)]
        for what, those in (("generated", found["family"]), ("real", found["real_family"]))
        for which, of in those.items()
    ]
    return "\n\n".join(
        [
            _pitch(found),
            table(["notes", "family"], rows),
            f"Pitch, and family of {instruments.AT_LEAST['family']:.0%}: {_met(found)}.",
            f"Generated, each family: {_each(found['family']['both']['share_of_each'])}.",
            _neighbours(found["neighbours"]),
        ]
    )


def _met(found: dict[str, Any]) -> str:
    return "met" if found["met"] else "not met"


def _each(shares: dict[str, float]) -> str:
    return ", ".join(f"{what} {its:.0%}" for what, its in sorted(shares.items(), key=lambda pair: pair[1]))


def _neighbours(found: dict[str, Any]) -> str:
    rows: list[Sequence[str]] = [
        [what, kind, f"{row['ratio']:.2f}", f"{row['nearer']:.1%}", f"{row['diversity']:.2f}"]
        for kind, those in found.items()
        for what, row in those.items()
    ]
    return table(["sounds", "features", "nearest to train / valid's", "nearer than valid's 1st pct", "diversity"], rows)


if __name__ == "__main__":
    app()
