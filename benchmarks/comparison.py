"""A flow over mels, a GPT and a GPT-VAE over codes: equal parameters, equal minutes, one folder, one panel of judges.

    python benchmarks/comparison.py train DATA digits RUNS --minutes 15
    python benchmarks/comparison.py judge DATA digits RUNS

DATA is the folder that holds the packs `digits` and `effects`; the second argument is `digits` or `esc10`. `train`
makes three models with the command line. A GPT's minutes are its codec's, too: half of them train the codec, and the
GPT-VAE takes over the same codec and has the other half to itself. `judge` hears them as `digits.py` and `sounds.py` do
and runs `cymatic evaluate`; its reports lie beside the models.
"""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does, and before torch is loaded

import typer

HERE = Path(__file__).parent


class Folder(StrEnum):
    """What there is to learn."""

    digits = "digits"
    esc10 = "esc10"


PACKS = {
    Folder.digits: "[{folder: digits}]",
    Folder.esc10: "[{folder: effects, long: cut, longest: 5.0, where: {source_repository: [karolpiczak/ESC-10]}}]",
}
FLOW = ("prior.width=240", "prior.depth=5", "prior.heads=8", "prior.patch=4")  # 4.4 M parameters
GPT = ("prior.width=224", "prior.depth=6", "prior.heads=7")  # 4.2 M
BATCH = {Folder.digits: 64, Folder.esc10: 16}  # of the two over codes: a sound of five seconds has four times as many
VAE = ("prior.kind=gpt-vae", "prior.width=216", "prior.depth=4", "prior.encoder_depth=2", "prior.heads=6")  # 4.4 M

app = typer.Typer(add_completion=False, help=__doc__)
Minutes = Annotated[float, typer.Option(help="For each model, the codec's included.")]


@app.command()
def train(data: Path, folder: Folder, runs: Path, minutes: Minutes = 15) -> None:
    """Trains the three models, one after the other; one that is there already is left alone."""
    codes = ("--recipe", "melspec-gpt-small", "--set", f"training.batch={BATCH[folder]}")
    scratch = ("--from", "scratch")
    for name, some, its_minutes, settings in (
        ("flow", scratch, minutes, FLOW),
        ("gpt", codes, minutes, GPT),
        ("gpt-vae", (*codes, "--from", str(runs / f"{folder}-gpt")), minutes / 2, VAE),
    ):
        out = runs / f"{folder}-{name}"
        if out.exists():
            continue
        chosen = [word for setting in (f"data.packs={PACKS[folder]}", *settings) for word in ("--set", setting)]
        _run("-m", "cymatic", "train", data, *some, "--minutes", its_minutes, "--no-verdict", "-o", out, *chosen)


@app.command()
def judge(
    data: Path, folder: Folder, runs: Path, n: Annotated[int, typer.Option(help="Evaluated clips.")] = 100
) -> None:
    """Hears the three models and measures all that `cymatic evaluate` does."""
    for name in ("flow", "gpt", "gpt-vae"):
        run = runs / f"{folder}-{name}"
        if folder is Folder.digits:
            _run(HERE / "digits.py", "judge", data / "digits", "--model", run, "-o", runs / f"{run.name}-judged.json")
            heard = ("--judge", HERE / "judges" / "conv")
        else:
            report = runs / f"{run.name}-judged.json"
            _run(HERE / "sounds.py", "judge", data, "--only", "esc10", "--model", run, "-o", report)
            heard = ("--judge", HERE / "judges" / "esc10-fold1")
        _run("-m", "cymatic", "evaluate", run, *heard, "-n", n, "-o", runs / f"{run.name}-report")


def _run(*words: object) -> None:
    print("$", *words, flush=True)
    subprocess.run([sys.executable, *map(str, words)], check=True)


if __name__ == "__main__":
    app()
