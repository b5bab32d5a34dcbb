"""How many clips a classifier answers as they were meant, and whether it can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cymatic.errors import Error
from cymatic.evaluation.intervals import Estimate, bootstrap, share

STRONG = 0.6  # share of real clips that a classifier must answer rightly to be believed
ABOVE_CHANCE = 0.15
ENOUGH = 6  # real clips that a classifier must have been tried on
FAILS = 0.5  # share of generated clips at which a label fails, with two misses at least

Answer = str | frozenset[str]  # one label, or all that hold


@dataclass(frozen=True)
class Accuracy:
    """The mean share of each clip's labels that were found.

    chance: what always giving the most favourable answer would come to. each: of each label, how often it was found and
    how often meant. confusions: meant, found instead, how often; most frequent first.
    """

    right: Estimate
    chance: float
    each: dict[str, tuple[int, int]]
    confusions: tuple[tuple[str, str, int], ...]

    @property
    def weak(self) -> bool:
        """Whether a classifier that finds so much in real clips can't be believed about generated ones."""
        return self.right.n < ENOUGH or self.right.value < STRONG or self.right.value < self.chance + ABOVE_CHANCE

    def instead(self, label: str) -> str | None:
        """What was found most often where `label` was meant and missed."""
        return next((found for meant, found, _ in self.confusions if meant == label), None)


def accuracy(found: Sequence[Answer], meant: Sequence[Answer]) -> Accuracy:
    """Counts. The interval is Wilson's where each clip is right or wrong as a whole, else the bootstrap's.

    Raises Error for no clips.
    """
    if not meant:
        raise Error("there are no clips to classify; give at least one")
    pairs = [(labels_of(got), labels_of(want)) for got, want in zip(found, meant, strict=True)]
    shares = [_share(got, want) for got, want in pairs]
    whole = sum(one == 1 for one in shares)
    right = share(whole, len(shares)) if all(one in (0, 1) for one in shares) else bootstrap(np.mean, np.array(shares))
    wanted = Counter(want for _, want in pairs)
    constant = max(sum(n * _share(given, want) for want, n in wanted.items()) for given in wanted)
    each = Counter(label for _, want in pairs for label in want)
    rights = Counter(label for got, want in pairs for label in want & got)
    wrong = Counter((label, other) for got, want in pairs for label in want - got for other in got - want)
    return Accuracy(
        right,
        constant / len(pairs),
        {label: (rights[label], count) for label, count in sorted(each.items())},
        tuple((want, got, count) for (want, got), count in sorted(wrong.items(), key=lambda one: (-one[1], one[0]))),
    )


def failing(real: Accuracy, made: Accuracy) -> list[str]:
    """The labels that fail, worst first: only those that the classifier finds in real clips."""
    unsure = {label for label, (right, clips) in real.each.items() if right < STRONG * clips}
    fails = {
        label: right / clips
        for label, (right, clips) in made.each.items()
        if right <= FAILS * clips and clips - right >= 2 and label not in unsure
    }
    return sorted(fails, key=lambda label: (fails[label], -made.each[label][1], label))


def labels_of(answer: Answer) -> frozenset[str]:
    """An answer as a set of labels."""
    return frozenset({answer}) if isinstance(answer, str) else answer


def _share(got: frozenset[str], want: frozenset[str]) -> float:
    return len(want & got) / len(want) if want else float(not got)
