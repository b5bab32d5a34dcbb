"""Kills a training at random moments and goes on with it: does each run end with the weights of one left alone?

    python benchmarks/kills.py --moments 50

A tiny codec and a prior over its codes are trained on tones, each time in a process of its own that is killed
(SIGKILL): half of the times after a random while, half of the times right before a random one of its changes to the
run's folder (a file opened to be written, renamed or removed, a folder made or removed), so that checkpoints and the
steps between stages are met often. One in three is killed once more as it goes on. After each kill the run must be a
model or say in one sentence why it is none; in the end its parts must be those of the uninterrupted run, byte for byte.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SETTINGS = [
    "codec.mel=voice-8k", "codec.width=16", "codec.multiples=[1,2]", "codec.blocks=1", "codec.attention=[]",
    "codec.latent=16", "codec.patch=[8,4]", "codec.groups=4", "codec.segment=0.3",
    "codec.quantizer={kind: vector, size: 32, dim: 16, lookup_dim: 4, metric: cosine, restart: encoder}",
    "codec.discriminators.width=4", "codec.discriminators.start=4", "codec.discriminators.warmup=2",
    "codec.training={batch: 4, warmup: 2, steps: 12, checkpoint_steps: 4}",
    "prior.part={kind: gpt, width: 32, depth: 1, heads: 2}", "prior.encoder.dim=16", "prior.variants=2",
    "prior.training={batch: 4, warmup: 2, steps: 16, checkpoint_steps: 4}", "vocoder.rounds=2",
]  # fmt: skip
LONGEST = 600.0  # seconds that a training may take
EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def tones(folder: Path) -> Path:
    """Eight short tones under two captions."""
    from cymatic.media.sound import Sound

    folder.mkdir()
    for caption, hz in (("low-tone", 220), ("high-tone", 880)):
        for take in range(1, 5):
            at = np.arange(int((0.2 + 0.05 * take) * 8000)) / 8000
            Sound(0.3 * np.sin(2 * np.pi * hz * (1 + 0.01 * take) * at), 8000).write(folder / f"{caption}_{take}.wav")
    return folder


def train_here(folder: Path, run: Path, changes: int | None, count: Callable[[], None]) -> None:
    """Trains or goes on; killed right before change number `changes` to `run`."""
    import torch

    from cymatic.hub.pipeline_file import RECIPE
    from cymatic.training.recipe import make_recipe
    from cymatic.training.train import read_run, train

    torch.set_num_threads(1)
    done = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal done
        if event not in EVENTS or not str(arguments[0]).startswith(str(run)):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if done == changes:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        count()

    sys.addaudithook(watch)
    resume = (run / RECIPE).exists()
    recipe = read_run(run) if resume else make_recipe("melspec-gpt-small", [*SETTINGS, f"data.folder={folder}"])
    outcome = train(recipe, run, resume=resume, say=lambda line: None)
    assert outcome.finished


def child(folder: Path, run: Path, *, changes: int | None = None, seconds: float | None = None) -> tuple[int, int]:
    """How a training in a process of its own ended, and how many changes to `run` it made."""
    context = multiprocessing.get_context("fork")  # everything is imported once, and one thread is all there is
    counter = context.Value("i", 0)

    def count() -> None:
        counter.value += 1

    process = context.Process(target=train_here, args=(folder, run, changes, count))
    process.start()
    process.join(LONGEST if seconds is None else seconds)
    if process.is_alive():
        process.kill()
        process.join()
        if seconds is None:
            raise TimeoutError(f"{run} did not end within {LONGEST:g} s")
    assert process.exitcode is not None
    return process.exitcode, counter.value


def parts(run: Path) -> dict[str, bytes]:
    """What makes the run a model."""
    paths = [*run.glob("*/config.json"), *run.glob("*/model.safetensors"), run / "pipeline.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(paths)}


def loads(run: Path) -> str:
    """What is wrong with a run that was killed; empty where it is a model, or says in a sentence why it is none."""
    from cymatic.errors import Error
    from cymatic.pipelines.load import load

    try:
        load(str(run))("low tone", seconds=0.2)
    except Error as error:
        return "" if "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:
        return f"loading it fails with {type(error).__name__}: {error}"
    return ""


def trial(folder: Path, run: Path, wanted: dict[str, bytes], chance: random.Random, took: float, made: int) -> str:
    """What went wrong after a kill at a random moment, or two; empty where nothing did."""
    kills = 2 if chance.random() < 1 / 3 else 1
    for _ in range(kills):
        if chance.random() < 0.5:
            when = {"seconds": chance.uniform(0, took)}
            child(folder, run, seconds=when["seconds"])
        else:
            when = {"changes": chance.randrange(made)}
            child(folder, run, changes=int(when["changes"]))
        if (run / "recipe.yaml").exists() and (wrong := loads(run)):
            return f"{when}: {wrong}"
    code, _ = child(folder, run)
    if code:
        return f"{when}: it does not go on (exit code {code})"
    found = parts(run)
    other = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    left = [str(path.relative_to(run)) for path in run.rglob("*") if ".cymatic-" in path.name or path.suffix == ".tmp"]
    return f"{when}: other than the uninterrupted run are {other}, and left over is {left}" if other or left else ""


def failures(moments: int, seed: int, place: Path, say: Callable[[str], None] = print) -> list[str]:
    """What went wrong, one line for each run that failed."""
    import cymatic.training.train  # before all processes are copies of this one

    folder = tones(place / "tones")
    began = time.monotonic()
    code, made = child(folder, place / "whole")
    took = time.monotonic() - began
    assert code == 0, f"the uninterrupted run ended with {code}"
    wanted = parts(place / "whole")
    say(f"{cymatic.__name__}: uninterrupted {took:.1f} s, {made} changes to its folder, {len(wanted)} files of parts")
    chance = random.Random(seed)
    found = []
    for moment in range(moments):
        if wrong := trial(folder, place / f"run-{moment}", wanted, chance, took, made):
            found.append(f"run {moment}: {wrong}")
            say(found[-1])
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--moments", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="cymatic-kills-") as place:
        os.environ["CYMATIC_CACHE"] = str(Path(place) / "cache")
        began = time.monotonic()
        wrong = failures(given.moments, given.seed, Path(place))
    print(f"{given.moments} runs killed, {len(wrong)} failures, {time.monotonic() - began:.0f} s")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
