"""How long does one sound take, and how much memory? `cymatic sound` in a fresh process, and a second call from Python.

python benchmarks/sound.py --model starter-sound
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer
from scoring import table

import cymatic

RUNS = 5


def main(
    model: Annotated[str, typer.Option(help="A starter's name or a model's folder.")] = "starter-sound",
    prompt: str = "rain falling",
    seconds: Annotated[float, typer.Option(help="Of sound.")] = 5.0,
    threads: int = 2,
) -> None:
    """Prints medians of five runs, and the greatest memory of any fresh process."""
    fresh, memory = fresh_process(model, prompt, seconds, threads)
    torch.set_num_threads(threads)
    pipeline = cymatic.load(model)
    warm = []
    for seed in range(RUNS + 1):
        began = time.perf_counter()
        pipeline(prompt, seconds=seconds, seed=seed)
        warm.append(time.perf_counter() - began)
    rows = [[f"{prompt}, {seconds:g} s", str(threads), f"{fresh:.2f}", f"{memory:.2f}", f"{median(warm[1:]):.2f}"]]
    typer.echo(table(["sound", "threads", "fresh process, s", "its memory, GB", "warm, s"], rows))


def fresh_process(model: str, prompt: str, seconds: float, threads: int) -> tuple[float, float]:
    """Seconds and gigabytes (resident, at most) of the command line, from nothing to the written file."""
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "cymatic", "sound", prompt, "--seconds", str(seconds), "--model", model]
        for run in range(RUNS):
            out = ["-o", str(Path(folder) / f"{run}.wav")]
            began = time.perf_counter()
            subprocess.run(
                command + out, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)}
            )
            taken.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return median(taken), peak * (1 if sys.platform == "darwin" else 1024) / 1e9


if __name__ == "__main__":
    typer.run(main)
