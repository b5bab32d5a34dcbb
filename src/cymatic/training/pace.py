"""What a step costs, where later steps cost more than the first ones."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Pace:
    """`early` seconds a step, and `late` from step `turn` on, as when discriminators come."""

    early: float
    late: float
    turn: int = 0

    def seconds(self, steps: int, begun: int = 0) -> float:
        """How long the steps from `begun` to `steps` take."""
        early = max(0, min(steps, self.turn) - begun)
        return early * self.early + max(0, steps - begun - early) * self.late

    def steps_in(self, seconds: float, begun: int = 0) -> int:
        """How many steps fit, from step `begun` on."""
        early = max(0, self.turn - begun)
        if seconds <= early * self.early:
            return int(seconds / self.early)
        return early + int((seconds - early * self.early) / self.late)

    def at(self, step: int, measured: float) -> Pace:
        """The same after it was measured at `step`: what was not met yet is slower or faster by the same factor."""
        factor = measured / (self.early if step < self.turn else self.late)
        return replace(self, early=self.early * factor, late=self.late * factor)

    def scaled(self, factor: float) -> Pace:
        """The same with every step taking `factor` times as long."""
        return replace(self, early=self.early * factor, late=self.late * factor)

    def plus(self, seconds: float) -> Pace:
        """The same with every step taking so many seconds longer."""
        return replace(self, early=self.early + seconds, late=self.late + seconds)
