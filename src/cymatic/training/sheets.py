"""Contact sheets while a prior trains: real values above what it makes of their captions, by the same seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cymatic.data.examples import Example
from cymatic.errors import Error
from cymatic.evaluation.captions import balanced
from cymatic.evaluation.domain import Domain
from cymatic.media.medium import Medium
from cymatic.pipelines.generate import Generator

SHEETS = "sheets"  # the folder of a run in which they lie
SHOWN = 8  # captions
SHARE = 0.02  # of the time, at most
MOST = 20  # that are kept


class Sheets:
    """Called at checkpoints with the task as it stands; draws `sheets/step-N.png` where there is time for one.

    make: a task -> the model that it comes to. say: hears why there are no more, where one fails.

    All sheets together take `SHARE` of the time since this was made. One that would take more ends early and is not
    drawn, and the next waits until there is time for what it would have taken.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        domain: Domain,
        medium: Medium[Any],
        make: Callable[[Any], Generator],
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        rows = balanced([one.caption for one in examples], SHOWN)
        self.examples = [examples[row] for row in rows]
        self.domain, self.medium, self.make, self.say, self.clock = domain, medium, make, say, clock
        self.began, self.spent, self.cost = clock(), 0.0, 0.0
        self.works = bool(rows) and medium.sheet is not None and domain.restored is not None

    def __call__(self, run: Path, task: Any, step: int) -> Path | None:
        """The sheet, where one was drawn."""
        begun = self.clock()
        left = SHARE * (begun - self.began) - self.spent
        if not self.works or self.cost > left:
            return None
        try:
            return self._drawn(run, task, step, begun, left)
        except _TakesTooLong as taken:
            self.cost = taken.whole
        except (Error, OSError) as error:  # the training goes on
            self.works = False
            self.say(f"note   there are no more sheets ({' '.join(str(error).split())})")
        finally:
            self.spent += self.clock() - begun
        return None

    def _drawn(self, run: Path, task: Any, step: int, begun: float, left: float) -> Path:
        def watch(done: int, steps: int) -> None:
            taken = self.clock() - begun
            if taken > left and done < steps:
                raise _TakesTooLong(taken * steps / done)

        assert self.medium.sheet is not None and self.domain.restored is not None
        captions = [one.caption for one in self.examples]
        made = self.make(task).draw(captions, range(len(captions)), on_step=watch, allow_untrained=True)
        shown: list[tuple[str, Any] | None] = []
        for title, targets in (("", [one.target for one in self.examples]), (f"step {step}", made)):
            shown += [
                (title or caption, self.domain.restored(target))
                for caption, target in zip(captions, targets, strict=True)
            ]
        folder = run / SHEETS
        folder.mkdir(exist_ok=True)
        path = self.medium.sheet(folder / f"step-{step}.png", shown, len(captions))
        _thin_out(folder)
        self.cost = self.clock() - begun
        return path


class _TakesTooLong(Exception):
    def __init__(self, whole: float) -> None:
        super().__init__()
        self.whole = whole


def _thin_out(folder: Path) -> None:
    """Of more than `MOST` sheets those are dropped whose neighbours are nearest to each other; first and last stay."""
    sheets = {int(path.stem.removeprefix("step-")): path for path in folder.glob("step-*.png")}
    steps = sorted(sheets)
    while len(steps) > MOST:
        least = min(range(1, len(steps) - 1), key=lambda i: steps[i + 1] - steps[i - 1])
        sheets[steps.pop(least)].unlink()
