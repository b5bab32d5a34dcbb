"""What a stage of a recipe comes to, ready for the loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cymatic.training.data import Known
from cymatic.training.loop import Task
from cymatic.training.plan import time_and_disk
from cymatic.training.planning import Choice
from cymatic.training.recipe import AnyRecipe, TrainingSettings


@dataclass(frozen=True)
class Job:
    """One stage. `about`: lines that say what it is; `complete` writes into the run what a model needs beside it;
    `chosen`: what its recipe left open; `settings`: the section of the recipe that says how long and how; `share`:
    of the recipe's minutes; the last stage ends when they do."""

    recipe: AnyRecipe
    data: Known
    task: Task
    batches: Any
    valid: list[Any]
    about: tuple[str, ...]
    complete: Callable[[Path], None]
    chosen: tuple[Choice, ...] = ()
    settings: str = "training"
    share: float = 1.0

    @property
    def training(self) -> TrainingSettings:
        """How long and how this stage trains."""
        settings: TrainingSettings = getattr(self.recipe, self.settings)
        return settings

    @property
    def minutes(self) -> float | None:
        """What this stage may take, where minutes are given."""
        minutes = self.training.minutes
        return None if minutes is None else minutes * self.share

    def plan(self, pace: float) -> list[str]:
        """What it will do, in a few lines; `pace`: seconds of a step."""
        lines = [*self.about, *(f"chosen {one.why}" for one in self.chosen)]
        lines += time_and_disk(self.training, self.task, pace, self.minutes)
        if not self.valid:
            lines.append("note   no clip is held out, so the last weights are kept and overfitting can't be seen")
        return lines
