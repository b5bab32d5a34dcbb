"""What the loop asks of a task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from cymatic.training.settings import TrainingSettings


@runtime_checkable
class Task(Protocol):
    """A `torch.nn.Module` whose `forward` is the loss of a batch.

    What is random in a step comes from a generator seeded by the run's seed and the step, so a step is a function of
    the weights alone and a resumed run needs no stored random state.

    keeps_best: whether the weights with the lowest loss held out are kept, rather than the latest. rounds: forward
    passes for each item held out. full_from: the step from which steps cost their most. total_steps: of the whole run,
    where that is known; the loop sets it. steps: a buffer, the steps made.
    """

    keeps_best: bool
    rounds: int
    full_from: int
    total_steps: int | None

    def __call__(self, batch: Any, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of one batch."""

    def measure(self, held_out: Sequence[Any], batch: int, frames: int | None = None) -> dict[str, float]:
        """Mean terms over items held out, `loss` among them; the same at every call. In eval mode. batch, frames: as in
        training, where items are measured side by side."""

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """Groups for `muon.Muon`, each with its `rate`."""

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the parts as they stand into `run`, marked as trained for `steps`."""

    def load_parts(self, run: Path) -> None:
        """Fills the parts with what `save_parts` wrote into `run`. Raises ModelError where it does not fit."""
