"""What `cymatic judge train` does."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from cymatic.apps.evaluate_command import check_folder
from cymatic.apps.terminal import printable
from cymatic.data.facts import usual_rate
from cymatic.data.packs import read_packs, whole_folder
from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy
from cymatic.evaluation.folder_classifier import asked, judge_rate, train_on, tried, truths
from cymatic.evaluation.recordings import read_corpus
from cymatic.hub.parts import CONFIG, fingerprint, save_part
from cymatic.media.audio import AUDIO

HIGHEST = 24_000  # Hz that a judge hears


def judge_training_command(folder: Path, output: Path, questions: Sequence[str], minutes: float, seed: int) -> None:
    """Trains and saves a judge and prints how well it hears. Raises Error for what the user can mend."""
    if not 0 < minutes <= 24 * 60:
        raise Error(f"--minutes is {minutes:g}; give a number above 0, at most a day (1440)")
    if seed < 0:
        raise Error(f"the seed is {seed}; give a whole number from 0")
    check_folder(output)
    if (output / CONFIG).exists():
        raise Error(f"{output} already holds a part; a judge stays as it is, so give another folder with -o")
    sources = read_packs((whole_folder(str(folder)),), None, role=AUDIO.name)
    rate = judge_rate(usual_rate(sources.of("train")), HIGHEST)
    corpus = read_corpus(sources, rate, long="cut")
    asked(corpus.train, questions)  # before minutes pass
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=None)

        def show(step: int, steps: int) -> None:
            progress.update(bar, completed=step, total=steps)

        judge, steps = train_on(corpus.train, questions, rate=rate, seconds=60 * minutes, seed=seed, progress=show)
    save_part(output, judge)
    truth = truths(judge.config.labels, (corpus.train, corpus.valid))
    found = tried(judge, corpus.valid, truth)
    for line in said(found, len(corpus.valid)):
        print(printable(line))
    print(
        printable(
            f"trained {steps} steps on {len(corpus.train)} clips at {rate} Hz; {output} holds the judge "
            f"{fingerprint([output])[:12]}"
        )
    )
    where = f"--data {shlex.quote(str(folder))} --judge {shlex.quote(str(output))}"
    print(printable(f"use it: cymatic evaluate RUN {where} -o report"))


def said(found: dict[str, Accuracy], held_out: int) -> list[str]:
    """How well it hears, and a warning where that is too little."""
    if not found:
        return [
            f"nobody knows how well it hears, for none of the {held_out} held-out clips has an answer that it learned; "
            "give more clips"
        ]
    lines = []
    for question, one in found.items():
        right = one.right
        lines.append(
            f'"{question}": {100 * right.value:.1f} % of {right.n} held-out clips heard rightly '
            f"({100 * right.low:.1f} to {100 * right.high:.1f} %; guessing gives {100 * one.chance:.1f} %)"
        )
        if one.weak:
            lines.append(
                f'warning: that is too weak to judge a model by "{question}"; give it more --minutes, more clips '
                "or an easier question"
            )
        elif one.misheard:
            meant, heard, count = one.misheard[0]
            lines.append(f'most often misheard: "{meant}" as "{heard}" ({count} of {one.each[meant][1]})')
    return lines
