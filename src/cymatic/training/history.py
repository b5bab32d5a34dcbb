"""How the losses of a run went, in little memory, and kept beside it so that a resumed run knows its past."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

from cymatic.files import write_atomically
from cymatic.training.loop import Report

HISTORY = "history.json"
MOST = 800  # pieces kept; then two neighbours become one
FIRST = 3  # steps whose mean loss is what an untrained model has


@dataclass
class History:
    """train: pieces `[last step, mean loss, steps in it]`; valid: `[step, loss held out]`; start: the first losses."""

    start: list[float] = field(default_factory=list)
    train: list[tuple[int, float, int]] = field(default_factory=list)
    valid: list[tuple[int, float]] = field(default_factory=list)

    def add(self, report: Report) -> None:
        """Takes in what the loop says after a step; what is remembered from that step on was another try, and goes."""
        loss = report.losses["loss"]
        while self.train and self.train[-1][0] >= report.step:
            self.train.pop()
        while self.valid and self.valid[-1][0] >= report.step:
            self.valid.pop()
        if report.step <= FIRST:
            self.start = [*self.start[: report.step - 1], loss]
        self.train.append((report.step, loss, 1))
        if len(self.train) > MOST:
            whole = len(self.train) // 2 * 2
            pairs = list(zip(self.train[:whole:2], self.train[1:whole:2], strict=True))
            self.train = [
                (b[0], (a[1] * a[2] + b[1] * b[2]) / (a[2] + b[2]), a[2] + b[2]) for a, b in pairs
            ] + self.train[whole:]
        if report.valid:
            self.valid.append((report.step, report.valid["loss"]))

    def between(self, first: float, last: float) -> float | None:
        """The mean training loss over the steps from `first` to `last`; None where no piece ends there."""
        points = [(loss * steps, steps) for step, loss, steps in self.train if first <= step <= last]
        return sum(total for total, _ in points) / sum(steps for _, steps in points) if points else None

    def curve(self, points: int = 20) -> list[tuple[int, float]]:
        """The training loss smoothed: the mean of each of `pieces` equal stretches, with the step at its end."""
        if not self.train:
            return []
        end = self.train[-1][0]
        edges = [round(end * i / points) for i in range(points + 1)]
        means = [(last, self.between(first + 1, last)) for first, last in pairwise(edges)]
        return [(step, mean) for step, mean in means if mean is not None]

    def keep(self, run: Path) -> None:
        """Writes itself into `run`."""
        write_atomically(run / HISTORY, json.dumps(asdict(self)).encode())

    @classmethod
    def of_run(cls, run: Path) -> History:
        """What was kept in `run`; an empty history where there is none, or none that can be read."""
        try:
            values = json.loads((run / HISTORY).read_text(encoding="utf-8"))
            return cls(
                [float(loss) for loss in values["start"]],
                [(int(at), float(loss), int(n)) for at, loss, n in values["train"]],
                [(int(at), float(loss)) for at, loss in values["valid"]],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return cls()
