"""How many clips a judge hears as they were meant, and whether it can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from cymatic.errors import Error
from cymatic.evaluation.intervals import Estimate, share

STRONG = 0.6  # share of real clips that a judge must hear rightly to be believed
ABOVE_CHANCE = 0.15
ENOUGH = 6  # real clips that a judge must have been tried on


@dataclass(frozen=True)
class Accuracy:
    """The share heard as meant; `chance`: what always giving the most frequent answer would come to; of each answer how
    many were heard rightly and how many there were; what was heard instead, most frequent first."""

    right: Estimate
    chance: float
    each: dict[str, tuple[int, int]]
    misheard: tuple[tuple[str, str, int], ...]  # meant, heard, how often

    @property
    def weak(self) -> bool:
        """Whether a judge that hears so much of real clips can't be believed about generated ones."""
        return self.right.n < ENOUGH or self.right.value < STRONG or self.right.value < self.chance + ABOVE_CHANCE


def accuracy(heard: Sequence[str], meant: Sequence[str]) -> Accuracy:
    """Counts. Raises Error for no clips."""
    if not meant:
        raise Error("there are no clips to judge; give at least one")
    pairs = list(zip(heard, meant, strict=True))
    wanted = Counter(meant)
    rights = Counter(want for got, want in pairs if got == want)
    wrong = Counter((want, got) for got, want in pairs if got != want)
    return Accuracy(
        share(sum(rights.values()), len(pairs)),
        max(wanted.values()) / len(pairs),
        {answer: (rights[answer], count) for answer, count in sorted(wanted.items())},
        tuple((want, got, count) for (want, got), count in sorted(wrong.items(), key=lambda one: (-one[1], one[0]))),
    )
