"""Are two versions equally fast? Two source trees against each other in processes of their own, in turns.

    git worktree add ../old cd135ae
    python benchmarks/versions.py ../old/src src
    python benchmarks/versions.py ../old/src src --only flow --only encode --rounds 9

Timed are a training step of a flow over mels, of a waveform codec with its discriminators, and of a GPT over codes; two
seconds of `starter-sound`; and ten seconds through `starter-codec`, there and back. A step is the difference between
`cymatic train` with many steps and with few, by the number of steps between. Both trees get the same recipes in the
words of the first, or the second gets its own: `flow.yaml`, `codec.yaml` and `gpt.yaml` of the folder `--recipes`.

Medians of the rounds count. "CPU" is processor time, which says more than the clock where others use the machine as
well; the ratio is the second tree's to the first's. A tree against itself, on two cores that eight others wanted too:
within 2 % for what starters do (five rounds), 0.98 and 1.03 for a step of the codec and of the GPT (one round each).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Annotated, Any

import numpy as np
import typer

WORKER = "--worker"
RATE, CLIPS = 24_000, 16
# Few steps and many, both before the checkpoint at step 30 or both after it; more of them where a step is quick.
TRAINED = {"flow": (34, 94), "codec": (4, 24), "gpt": (4, 24)}
USED = {"sound": "2 s of starter-sound", "encode": "encode 10 s", "decode": "decode 10 s"}

# In the words of cd135ae.
RECIPES = {
    "flow": """
        mel: sound-24k
        data: {longest: 5.0, augment: {}}
        text: {dim: 192}
        prior: {width: 128, depth: 4, heads: 4, patch: 4}
        vocoder: {kind: griffin-lim, rounds: 1}
        start: null
        training: {batch: 8, most_steps: null, patience: null, checkpoint_steps: 100000}
    """,
    "codec": """
        kind: waveform-codec
        rate: 24000
        data: {longest: 15.0, long: cut}
        network: {hop: 480, width: 96, pitch: {}}
        quantizer: {levels: 6, size: 256, dim: 32, dropout: 0.5}
        piece: 0.48
        judges: {start: 0, warmup: 1, judged: 2, width: 4}
        training: {batch: 2}
    """,
    "gpt": """
        kind: codec-gpt
        start: starter-codec
        levels: 4
        data: {longest: 2.0}
        condition: {dim: 192}
        prior: {width: 128, depth: 4, heads: 4, dropout: 0.1}
        training: {batch: 4}
    """,
}


@dataclass
class Times:
    """Seconds of each round, of the processor and by the clock."""

    processor: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)

    def add(self, processor: float, clock: float) -> None:
        """One more round."""
        self.processor.append(processor)
        self.clock.append(clock)


def main(
    old: Annotated[Path, typer.Argument(help="The folder that holds the first `cymatic` package.")],
    new: Annotated[Path, typer.Argument(help="The folder that holds the second.")],
    rounds: Annotated[int, typer.Option(help="Of which the medians count.")] = 5,
    threads: Annotated[int, typer.Option(help="Of the processor.")] = 1,
    recipes: Annotated[Path | None, typer.Option(help="A folder of recipes for the second tree.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="flow, codec, gpt, sound, encode or decode; all without.")
    ] = None,
) -> None:
    """Prints a row for each thing that is timed."""
    known = [*TRAINED, *USED]
    if strange := set(only or ()) - set(known):
        raise typer.BadParameter(f"{', '.join(sorted(strange))} can't be timed; give some of {', '.join(known)}")
    trees = [tree.resolve() for tree in (old, new)]
    for tree in trees:
        if not (tree / "cymatic" / "__init__.py").is_file():
            raise typer.BadParameter(f"{tree} holds no package cymatic; give a folder such as src")
    rows = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        clips(scratch / "clips")
        for kind in TRAINED:
            (scratch / f"0-{kind}.yaml").write_text(RECIPES[kind])
            own = RECIPES[kind] if recipes is None else (recipes / f"{kind}.yaml").read_text(encoding="utf-8")
            (scratch / f"1-{kind}.yaml").write_text(own, encoding="utf-8")
        works: dict[str, Callable[[int], tuple[float, float]]] = {}
        for kind, (few, many) in TRAINED.items():
            works[f"a step of the {kind}"] = Steps(trees, scratch, kind, few, many, threads)
        if only is None or set(only) & set(USED):
            workers = [stack.enter_context(started(tree, scratch, threads)) for tree in trees]
            for kind, name in USED.items():
                works[name] = Uses(workers, kind)
        for kind, (name, work) in zip(known, works.items(), strict=False):
            if only is None or kind in only:
                times = (Times(), Times())
                for turn in range(rounds):
                    for side in (0, 1) if turn % 2 == 0 else (1, 0):  # neither is always the first
                        times[side].add(*work(side))
                rows.append(row(name, *times))
                print(f"timed {name}", file=sys.stderr)
    heads = ("", "CPU, s", "CPU then, s", "ratio", "its range", "clock, s", "clock then, s", "ratio")
    print(f"medians of {rounds} rounds, {threads} threads; {trees[0]}, then {trees[1]}")
    for cells in (heads, *rows):
        print(f"{cells[0]:22}" + "".join(f"{cell:>14}" for cell in cells[1:]))


def row(name: str, first: Times, then: Times) -> tuple[str, ...]:
    """Medians of both, and their ratio, with its least and its greatest of any one round."""
    pairs = [b / a for a, b in zip(first.processor, then.processor, strict=True)]
    cells = []
    for a, b in ((first.processor, then.processor), (first.clock, then.clock)):
        cells.append((f"{median(a):.4f}", f"{median(b):.4f}", f"{median(b) / median(a):.3f}"))
    return (name, *cells[0], f"{min(pairs):.2f} to {max(pairs):.2f}", *cells[1])


def environment(tree: Path, scratch: Path, threads: int) -> dict[str, str]:
    """What a process of this tree runs with: its own package and cache, and so many threads that wait in peace."""
    given = {"PYTHONPATH": str(tree), "CYMATIC_CACHE": str(scratch / f"cache{tree.as_posix().replace('/', '-')}")}
    counts = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    return {**os.environ, **given, **counts}


# --- training


def clips(folder: Path) -> None:
    """Notes of a second or so under two names, as any folder has them."""
    folder.mkdir()
    chance = np.random.default_rng(0)
    for i in range(CLIPS):
        at = np.arange(int((1.0 + 0.02 * i) * RATE)) / RATE
        note = sum(np.sin(2 * np.pi * k * (110 + 20 * i) * at) / k for k in range(1, 6))
        samples = 0.2 * np.exp(-2 * at) * note + 0.01 * chance.normal(size=len(at))
        with wave.open(str(folder / f"{'low' if i < CLIPS // 2 else 'high'}-note_{i:02}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((32767 * samples.clip(-1, 1)).astype("<i2").tobytes())


@dataclass
class Steps:
    """A training step, as the command line takes it."""

    trees: list[Path]
    scratch: Path
    kind: str
    few: int
    many: int
    threads: int
    runs: int = 0

    def __call__(self, side: int) -> tuple[float, float]:
        """Seconds a step, of the processor and by the clock."""
        if not self.runs:  # so that what is computed once for all lies in the caches
            for other in range(len(self.trees)):
                self._train(other, 1)
        few, many = self._train(side, self.few), self._train(side, self.many)
        processor, clock = ((b - a) / (self.many - self.few) for a, b in zip(few, many, strict=True))
        return processor, clock

    def _train(self, side: int, steps: int) -> tuple[float, float]:
        self.runs += 1
        command = [
            sys.executable, "-m", "cymatic", "train", "clips", "--recipe", f"{side}-{self.kind}.yaml",
            "--steps", str(steps), "--no-verdict", "-o", f"run-{self.kind}-{self.runs}",
        ]  # fmt: skip
        with open(self.scratch / "log.txt", "w+", encoding="utf-8") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                command, cwd=self.scratch, env=environment(self.trees[side], self.scratch, self.threads),
                stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
            _, status, usage = os.wait4(process.pid, 0)
            clock = time.perf_counter() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                log.seek(0)
                raise RuntimeError(f"{self.trees[side]} could not train: {log.read()[-2000:]}")
        return usage.ru_utime + usage.ru_stime, clock


# --- using what is shipped


def started(tree: Path, scratch: Path, threads: int) -> subprocess.Popen[str]:
    """A process that has both starters loaded, and does what it is told line by line."""
    return subprocess.Popen(
        [sys.executable, __file__, WORKER, str(tree)], env=environment(tree, scratch, threads),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@dataclass
class Uses:
    """One call of a starter in a process that is warm."""

    workers: list[subprocess.Popen[str]]
    kind: str

    def __call__(self, side: int) -> tuple[float, float]:
        """Seconds, of the processor and by the clock."""
        asked, answers = (_stream(one) for one in (self.workers[side].stdin, self.workers[side].stdout))
        asked.write(f"{self.kind}\n")
        asked.flush()
        line = answers.readline()
        if not line:
            raise RuntimeError(f"a process ended before it had timed {self.kind}; see what it said above")
        processor, clock = json.loads(line)
        return processor, clock


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def work(tree: str) -> None:
    """What a worker does; the names here are those that a user has, and have to stay."""
    import cymatic

    if not Path(cymatic.__file__).is_relative_to(tree):
        sys.exit(f"{cymatic.__file__} was imported instead of what lies in {tree}")
    model, codec = cymatic.load("starter-sound"), cymatic.load("starter-codec")
    at = np.arange(10 * RATE) / RATE
    noise = np.random.default_rng(0).normal(size=len(at))
    sound = cymatic.Sound((0.2 * np.sin(2 * np.pi * 220 * at) + 0.02 * noise).astype(np.float32), RATE)
    encoded = codec.encode(sound)
    calls: dict[str, Callable[[], Any]] = {
        "sound": lambda: model("george says seven", seed=1, seconds=2.0),
        "encode": lambda: codec.encode(sound),
        "decode": lambda: codec.decode(encoded),
    }
    warm = set()
    for line in sys.stdin:
        call = calls[line.strip()]
        if line not in warm:
            call()
            warm.add(line)
        processor, clock = time.process_time(), time.perf_counter()
        call()
        print(json.dumps([time.process_time() - processor, time.perf_counter() - clock]), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == [WORKER]:
        work(sys.argv[2])
    else:
        typer.run(main)
