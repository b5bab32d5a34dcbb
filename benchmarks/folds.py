"""Four judges by cross-validation: each learns from three folds of the real clips and is measured on the fourth.

On real clips each judge answers for its own fold only, so no clip is judged by a judge that learned from it. On
generated clips all four answer together, by their mean chances; what each says alone is reported beside it, as that is
what the figure on real clips measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from scoring import Clips, scored, share

from cymatic.errors import Error
from cymatic.evaluation.classifier_training import Disturbance, train_classifier
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ensemble_answers
from cymatic.hub.parts import load_part, save_part

FOLDS = (1, 2, 3, 4)
Panel = dict[int, Classifier]  # the judge of each fold


def place(judges: Path, name: str, fold: int) -> Path:
    """Where the judge lies that never heard `fold`."""
    return judges / f"{name}-fold{fold}"


def load(judges: Path, name: str) -> Panel:
    """The four stored judges. Raises ModelError where one is missing or damaged."""
    return {fold: load_part(place(judges, name, fold), (Classifier,)) for fold in FOLDS}


def train(
    judges: Path, name: str, clips: Clips, folds: Sequence[int], wanted: Sequence[int], config: ClassifierConfig,
    how: Disturbance, *, steps: int, seed: int,
) -> None:  # fmt: skip
    """Trains and stores (float16) the judges of the `wanted` folds. Raises Error where a fold has no clips."""
    (question,) = config.labels
    for fold in wanted:
        if fold not in set(folds):
            raise Error(f"no clip is in fold {fold}; the folds are {', '.join(map(str, sorted(set(folds))))}")
        rest = clips[[row for row, its in enumerate(folds) if its != fold]]
        typer.echo(f"{name}, all but fold {fold}: {len(rest)} clips", err=True)
        trained = train_classifier(
            rest.sounds, {question: rest.truth}, config, steps=steps, batch=32, seed=seed, disturbance=how,
            progress=_tell,
        )  # fmt: skip
        save_part(place(judges, name, fold), trained, half=True)


def _tell(step: int, loss: float) -> None:
    if (step + 1) % 50 == 0:
        typer.echo(f"step {step + 1}: loss {loss:.3f}", err=True)


def out_of_fold(panel: Panel, clips: Clips, folds: Sequence[int]) -> dict[str, Any]:
    """The score on real clips, each judged by the one judge that never heard its fold."""
    heard = [""] * len(clips)
    for fold, judge in panel.items():
        rows = [row for row, its in enumerate(folds) if its == fold]
        (answers,) = judge.answers([clips.sounds[row] for row in rows]).values()
        for row, answer in zip(rows, answers, strict=True):
            heard[row] = answer
    return scored(heard, clips.truth, clips.captions)


def together(panel: Panel, clips: Clips) -> dict[str, Any]:
    """The score on clips that no judge learned from, by all four; `each_alone` has each judge's own share."""
    (heard,) = ensemble_answers(list(panel.values()), clips.sounds).values()
    alone = []
    for judge in panel.values():
        (answers,) = judge.answers(clips.sounds).values()
        alone.append(share([a == b for a, b in zip(answers, clips.truth, strict=True)])["share"])
    return scored(heard, clips.truth, clips.captions) | {"each_alone": alone, "mean_alone": float(np.mean(alone))}


def embedded(panel: Panel, clips: Clips) -> np.ndarray:
    """The embeddings of all four judges side by side, `[clips, dims]`."""
    return torch.cat([judge.embed(clips.sounds) for judge in panel.values()], 1).numpy()
