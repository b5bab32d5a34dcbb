"""The speedrun: from the 2,400 training digits to a model that speaks, against the clock.

    python benchmarks/speedrun.py DIGITS --minutes 5
    python benchmarks/speedrun.py DIGITS --minutes 15 --set training.batch=96

The clock starts before Python does and stops when the run's folder holds the finished model: starting up, reading,
analysing into an empty cache and saving count, and so does the verdict if it is asked for. No weights but wordllama's
and the shipped vocoder's go in. Then both frozen judges of benchmarks/digits.py hear 300 clips of seeds 0-4. The record
is one row of docs/speedrun.md's table and the whole report beside the run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

HERE = Path(__file__).parent


def speedrun(
    folder: Path,
    minutes: Annotated[float, typer.Option(help="How long the training may take.")] = 5.0,
    recipe: Annotated[str | None, typer.Option(help="A recipe; without one, what cymatic train plans.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="A setting of the recipe.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Keep the run here.")] = None,
) -> None:
    """Trains, judges, and prints the row of the table of records."""
    with tempfile.TemporaryDirectory() as scratch:
        run = out or Path(scratch) / "run"
        environment = {**os.environ, "CYMATIC_CACHE": str(Path(scratch) / "cache")}
        command = [sys.executable, "-m", "cymatic", "train", str(folder), "--minutes", str(minutes), "-o", str(run)]
        command += ["--from", "scratch", "--no-verdict", *(["--recipe", recipe] if recipe else [])]
        command += [part for setting in settings or [] for part in ("--set", setting)]
        start = time.monotonic()
        subprocess.run(command, check=True, env=environment)
        taken = (time.monotonic() - start) / 60
        report = run.parent / f"{run.name}.json"
        judging = ["judge", str(folder), "--model", str(run), "-o", str(report)]
        subprocess.run([sys.executable, str(HERE / "digits.py"), *judging], check=True)
        typer.echo(row(json.loads(report.read_text()), taken))


def row(report: dict[str, Any], minutes: float) -> str:
    """A line for docs/speedrun.md: date, commit, minutes, digit / voice by each judge, neighbour ratio on mels."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=HERE
    ).stdout.strip()
    heard = [report["judged"][judge]["generated"] for judge in ("conv", "recurrent")]
    judged = [" / ".join(f"{100 * one[question]['share']:.1f}" for question in ("digit", "voice")) for one in heard]
    ratio = report["neighbours"]["mel"]["generated"]["ratio"]
    return f"| {date.today()} | {commit or '-'} | {minutes:.1f} | {judged[0]} | {judged[1]} | {ratio:.2f} |"


if __name__ == "__main__":
    typer.run(speedrun)
