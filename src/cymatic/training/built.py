"""What a stage of a recipe comes to, ready for the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning_fabric import Fabric

from cymatic.data.batches import Sequenced
from cymatic.data.settings import DataSettings
from cymatic.evaluation.domain import Domain
from cymatic.training.pace import Pace
from cymatic.training.plan import time_and_disk
from cymatic.training.planning import Choice
from cymatic.training.recipe import Recipe
from cymatic.training.settings import TrainingSettings
from cymatic.training.sheets import Sheets
from cymatic.training.stages import AnyStage
from cymatic.training.tasks.task import Task


@runtime_checkable
class Known(Protocol):
    """What any data say of themselves: how much there is to train on and held out, its fingerprint, and how it was read
    (the recipe's `data`, with what that left open)."""

    @property
    def train(self) -> Sized: ...

    @property
    def valid(self) -> Sized: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def settings(self) -> DataSettings: ...


@dataclass(frozen=True)
class Context:
    """What a stage is built from. resumed: whether its plan is made already; say: hears what is read and skipped."""

    recipe: Recipe
    name: str
    fabric: Fabric
    run: Path
    resumed: bool
    strict: bool
    say: Callable[[str], None]

    @property
    def stage(self) -> AnyStage:
        return self.recipe.stages[self.name]

    @property
    def ranks(self) -> dict[str, Any]:
        """Which process this is, of how many."""
        return {"rank": self.fabric.global_rank, "ranks": self.fabric.world_size}


@dataclass(frozen=True)
class Built:
    """One stage of `recipe`, called `name`.

    about: lines that say what it is. complete: writes into the run what a model needs beside the part. chosen: what the
    recipe left open. at_pace: the same with what so many seconds allow at a pace. domain: how what it makes is compared
    with the data at the end; None: not at all. renew: fits a task from an earlier state to data that have changed
    since. sheets: draws what it makes at checkpoints. use: how the trained model is used, with {run} in the place of
    its folder; None: as a part of others.
    """

    recipe: Recipe
    name: str
    data: Known
    task: Task
    batches: Sequenced
    valid: Sequence[Any]
    about: tuple[str, ...]
    complete: Callable[[Path], None]
    chosen: tuple[Choice, ...] = ()
    use: str | None = None
    domain: Domain | None = None
    sheets: Sheets | None = None
    renew: Callable[[Any], None] = lambda task: None
    at_pace: Callable[[Built, Pace, float], tuple[Built, Pace]] = lambda built, pace, seconds: (built, pace)

    @property
    def training(self) -> TrainingSettings:
        """How long and how this stage trains."""
        return self.recipe.lasting(self.name)

    def plan(self, pace: Pace, seconds: float | None = None, begun: int = 0) -> list[str]:
        """What it will do, in a few lines. seconds: what is left of its minutes, from step `begun` on."""
        lines = [*self.about, *(f"chosen {one.why}" for one in self.chosen)]
        lines += time_and_disk(self.training, self.task, pace, seconds, begun)  # type: ignore[arg-type]
        if not self.valid:
            lines.append("note   nothing is held out, so the last weights are kept and overfitting can't be seen")
        return lines
