"""The last thing that a run does: it is evaluated within a minute, and says what that comes to."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cymatic.data.captions import spelt_alike
from cymatic.data.reading import Example
from cymatic.errors import Error
from cymatic.evaluation.captions import balanced
from cymatic.evaluation.contact import CONTACTS, MOST_SHOWN, contact_sheet
from cymatic.evaluation.corpus import Clips, Corpus
from cymatic.evaluation.domain import Domain
from cymatic.evaluation.evaluable import Named
from cymatic.evaluation.evaluate import Evaluation, evaluate
from cymatic.evaluation.plain import as_json
from cymatic.evaluation.probe import WORD, Probe, words_of
from cymatic.evaluation.verdict import Curve, Run, sentences
from cymatic.files import write_atomically
from cymatic.pipelines.load import load
from cymatic.training.built import Built
from cymatic.training.history import History
from cymatic.training.settings import TrainingSettings
from cymatic.training.state import Progress

VERDICT_TEXT, VERDICT_JSON, TRACEBACK = "verdict.txt", "verdict.json", "verdict-error.txt"
SHARE, LEAST, MOST = 0.06, 10.0, 60.0  # of the training time; seconds
MOST_SHARE = 0.25  # of the time that is left for both
MADE, TAKES = 48, 8  # clips made at most, and of one caption
TESTED = 300  # held-out clips looked at, at most
# What may go wrong outside of cymatic's own code; anything else is a bug.
EXPECTED = (Error, OSError, MemoryError, torch.OutOfMemoryError, KeyboardInterrupt)


def for_verdict(seconds: float) -> float:
    """Of so many seconds those that the verdict may take."""
    return min(max(SHARE * seconds, LEAST), MOST, MOST_SHARE * seconds)


def report_on(
    run: Path,
    built: Built,
    progress: Progress,
    history: History,
    *,
    device: torch.device | str = "cpu",
    seconds: float | None = None,
    say: Callable[[str], None] = print,
) -> list[str]:
    """The verdict on the model in `run`, also written there as text and, with its numbers, as JSON, and what it made
    beside real clips as a sheet where these can be drawn; none where the stage has none (see `built.Built`).

    seconds: what it may take, by default 6 % of the training time, from 10 to 60.

    The model is saved already, so nothing that goes wrong here makes the training fail: what may happen on any machine,
    and an interrupt, is told to `say` in one line; a bug is, too, and its traceback lies in the run for whoever mends
    it.
    """
    domain = built.domain
    if domain is None:
        return []
    data: Any = built.data
    try:
        for name in (VERDICT_TEXT, VERDICT_JSON, CONTACTS, TRACEBACK):
            (run / name).unlink(missing_ok=True)
        budget = min(max(SHARE * progress.seconds, LEAST) if seconds is None else seconds, MOST)
        say(f"trained; evaluating what it makes ({budget:.0f} s at most)")
        model: Any = load(run, device=str(device))
        began = time.monotonic()
        about, found = assess(
            model, domain, data.train, data.valid, built.training, progress, history, began + budget,
            further=built.recipe.stages[built.name].start is not None,
        )  # fmt: skip
        lines = sentences(about, found)
        took = round(time.monotonic() - began, 1)
        values = {
            "format": 2,
            "seconds": took,
            "verdict": lines,
            "run": asdict(about),
            **asdict(replace(found, shown=[])),
        }
        write_atomically(run / VERDICT_JSON, as_json(values))
        write_atomically(run / VERDICT_TEXT, ("\n".join(lines) + "\n").encode())
        contact_sheet(run / CONTACTS, found.shown, domain, model.medium)
        return lines
    except EXPECTED as error:
        say(f"note   there is no verdict ({_reason(error)}); the model is trained and saved")
    except Exception as error:
        write_atomically(run / TRACEBACK, traceback.format_exc().encode())
        say(
            f"note   there is no verdict, for a bug of cymatic ({_reason(error)}); the model is trained and saved; "
            f"please report the bug with {run / TRACEBACK}"
        )
    return []


def assess(
    model: Named,
    domain: Domain,
    train: Sequence[Example],
    valid: Sequence[Example],
    settings: TrainingSettings,
    progress: Progress,
    history: History,
    until: float,
    *,
    further: bool = False,
) -> tuple[Run, Evaluation]:
    """All that the verdict rests on, in about the time until `until` (of `time.monotonic`).

    further: whether the model went on from another, so that it knew much before.
    """
    captions = spelt_alike([clip.caption for clip in (*train, *valid)])
    learned = Clips.of([clip.target for clip in train], captions[: len(train)])
    held = Clips.of([clip.target for clip in valid], captions[len(train) :])
    held = held.at(balanced(held.captions, TESTED))
    counts = Counter(learned.captions)
    probe, why = None, ""
    try:
        probe = Probe(learned, domain, held.captions)
    except Error as error:
        why = str(error)
    few = len(counts) <= MADE
    count = len(counts) * min(TAKES, MADE // len(counts)) if few else MADE
    found = evaluate(model, Corpus.of(learned, held), probe, domain, n=count, until=until, most_shown=MOST_SHOWN)
    if why:
        found = replace(found, missing={**found.missing, "accuracy": why})
    words = probe is not None and probe.question == WORD
    start = sum(history.start) / len(history.start) if history.start else None
    about = Run(
        curve=Curve(
            progress.step,
            progress.seconds,
            start,
            history.curve(),
            history.valid,
            further=further,
            kept=progress.best_step,
        ),
        clips=len(train),
        held_out=len(valid),
        captions=len(counts),
        middle=sorted(counts.values())[len(counts) // 2],
        rates=(settings.learning_rate, settings.matrix_rate),
        most=progress.step >= (settings.most_steps or math.inf),
        words=len(probe.words) if probe is not None else 0,
        clips_of=_word_counts(learned.captions, probe) if words and probe is not None else dict(counts),
        noun=domain.noun,
        nouns=domain.nouns,
    )
    return about, found


def _word_counts(captions: Sequence[str], probe: Probe) -> dict[str, int]:
    return dict(Counter(word for caption in captions for word in words_of(caption) & probe.words))


def _reason(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
