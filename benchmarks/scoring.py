"""What the benchmarks share: clips with their captions, shares with their intervals, tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cymatic.evaluation.intervals import wilson
from cymatic.media.sound import Sound
from cymatic.pipelines.generate import Generator


@dataclass(frozen=True)
class Clips:
    """Sounds, their captions, and what a judge should hear in them."""

    sounds: list[Sound]
    captions: list[str]
    truth: list[str]

    def __len__(self) -> int:
        return len(self.sounds)

    def __getitem__(self, rows: Sequence[int]) -> Clips:
        return Clips(*([column[row] for row in rows] for column in (self.sounds, self.captions, self.truth)))

    def revocoded(self, pipeline: Generator) -> Clips:
        """The same clips through the model's mel and vocoder: the best that its prior could do."""
        return Clips([pipeline.revocode(sound) for sound in self.sounds], self.captions, self.truth)


def share(right: Sequence[bool]) -> dict[str, Any]:
    """How many are right, of how many, and the share with its 95 % Wilson interval."""
    return {
        "right": sum(right),
        "clips": len(right),
        "share": sum(right) / len(right),
        "interval_95": wilson(sum(right), len(right)),
    }


def scored(heard: Sequence[str], truth: Sequence[str], captions: Sequence[str]) -> dict[str, Any]:
    """`share` of what was heard as meant, the share of each answer, and what was misheard as what."""
    right = [a == b for a, b in zip(heard, truth, strict=True)]
    of_each = Counter(truth)
    right_of_each = Counter(meant for meant, ok in zip(truth, right, strict=True) if ok)
    return share(right) | {
        "share_of_each": {meant: right_of_each[meant] / count for meant, count in sorted(of_each.items())},
        "misheard": dict(
            Counter(f"{c}: {h}" for c, h, ok in zip(captions, heard, right, strict=True) if not ok).most_common()
        ),
    }


def first_of_each(captions: Sequence[str], count: int) -> list[int]:
    """The rows of the first `count` clips of each caption."""
    seen: Counter[str] = Counter()
    kept = []
    for row, caption in enumerate(captions):
        if seen[caption] < count:
            kept.append(row)
        seen[caption] += 1
    return kept


def cell(scores: dict[str, Any]) -> str:
    """A share and its interval, for a table."""
    low, high = scores["interval_95"]
    return f"{scores['share']:.1%} ({low:.1%}-{high:.1%})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *rows])
