"""When a run by minutes ends, counted in steps: asked after each step, since a machine gets busier, or less so."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from cymatic.training.pace import Pace

WINDOW = 0.05  # of the time: what steps cost is the mean over the last of it
FEWEST = 3  # steps that are the last of it at least
WARMING = 2  # the first steps take longer than the rest


class Clock:
    """Times steps from `step` on, checkpoints apart. deadline: of `time.monotonic`; None: there is none. expected: what
    steps cost, as far as was tried before."""

    def __init__(self, step: int, deadline: float | None, expected: Pace) -> None:
        self.began, self.deadline, self.expected = step, deadline, expected
        now = time.monotonic()
        self._window = 0.0 if deadline is None else WINDOW * max(0.0, deadline - now)
        self._paused, self._pauses = 0.0, 0
        self._marks = deque([(step, now)])  # (step, seconds without checkpoints)

    def tick(self, step: int) -> None:
        """`step` is done."""
        now = time.monotonic() - self._paused
        if step <= self.began + WARMING:
            self._marks.clear()
        self._marks.append((step, now))
        while len(self._marks) > FEWEST + 1 and self._marks[1][1] <= now - self._window:
            self._marks.popleft()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """While this lasts, a checkpoint is made."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._paused += time.monotonic() - began
            self._pauses += 1

    def pace(self, step: int) -> Pace:
        """What steps cost from `step` on."""
        (first, began), (last, now) = self._marks[0], self._marks[-1]
        if last - first < FEWEST:
            return self.expected
        return self.expected.at(step, max(now - began, 1e-9) / (last - first))

    def end(self, step: int, every: int | None) -> int:
        """The step that the deadline leaves time for, where a checkpoint is made `every` so many, and at the end; one
        more than `step` at least."""
        assert self.deadline is not None
        cost = self._paused / self._pauses if self._pauses else 0.0
        pace = self.pace(step).plus(cost / every if every else 0.0)
        left = self.deadline - time.monotonic() - cost
        return step + max(1, pace.steps_in(max(0.0, left), step))
