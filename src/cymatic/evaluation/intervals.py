"""How sure a number is: Wilson's interval for shares, the bootstrap for means, the jackknife for distances."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from jaxtyping import Int, Num

from cymatic.errors import Error


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Lower and upper bound of the true share behind `successes` of `trials` (Wilson, 1927).

    With p = successes / trials, n = trials and z the normal quantile at (1 + confidence) / 2:
    `(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`. Unlike p -+ z sqrt(p (1 - p) / n) it stays
    within 0..1 and keeps its width at 0 and at 1.

    Raises Error for no trials, successes outside 0..trials, or a confidence outside 0..1.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise Error(f"an interval needs 0 <= successes <= trials and a trial; got {successes} of {trials}")
    if not 0 < confidence < 1:
        raise Error(f"confidence lies between 0 and 1, say 0.95; got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # At 0 and at 1 one bound is exact; rounding must not move it.
    low = 0.0 if successes == 0 else (centre - half) / scale
    high = 1.0 if successes == trials else (centre + half) / scale
    return low, high


@dataclass(frozen=True)
class Estimate:
    """A number measured on `n` clips and the interval that holds the true one with 95 % confidence.

    low and high are NaN where there are too few clips to say.
    """

    value: float
    low: float
    high: float
    n: int


def share(successes: int, trials: int) -> Estimate:
    """A share with its Wilson interval. Raises Error as `wilson` does."""
    low, high = wilson(successes, trials)
    return Estimate(successes / trials, low, high, trials)


def bootstrap(
    statistic: Callable[..., Any], *samples: Num[np.ndarray, " _"], draws: int = 1000, seed: int = 0
) -> Estimate:
    """`statistic(*samples)` and its percentile interval (Efron, 1979): each sample drawn anew from itself, `draws`
    times, and the 2.5th and 97.5th percentiles of what the statistic then is.

    For means, medians and ratios of them. What is biased by drawing the same clip twice, such as a distance between
    distributions, needs `jackknife`. `n` counts the first sample. Raises Error where one is empty.
    """
    if not samples or any(len(sample) == 0 for sample in samples):
        raise Error("an interval needs at least one number of each kind; got none")
    value = float(statistic(*samples))
    if len(samples[0]) < 2:
        return Estimate(value, nan, nan, len(samples[0]))
    chance = np.random.default_rng(seed)
    found = [
        statistic(*(sample[chance.integers(0, len(sample), len(sample))] for sample in samples)) for _ in range(draws)
    ]
    low, high = np.quantile(np.array(found, dtype=np.float64), [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(samples[0]))


def jackknife(statistic: Callable[[Int[np.ndarray, " rows"]], float], groups: Sequence[int]) -> Estimate:
    """`statistic(rows)` of all rows, and an interval from leaving out each group of rows in turn.

    groups: the number of the group that each row belongs to (see `groups_of`). With G groups and t_g the statistic
    without group g (Quenouille, 1949; Tukey, 1958): `t -+ 1.96 sqrt((G - 1) / G sum_g (t_g - mean t)^2)`. No row is
    ever met twice, so a distance between distributions does not grow by it as it would under `bootstrap`. The interval
    says how much the number would differ with other clips; it does not take away the bias that few clips give.

    low and high are NaN where there are fewer than three groups.
    """
    given = np.asarray(groups)
    rows = np.arange(len(given))
    value = float(statistic(rows))
    names = np.unique(given)
    if len(names) < 3:
        return Estimate(value, nan, nan, len(given))
    left_out = np.array([statistic(rows[given != name]) for name in names])
    spread = (len(names) - 1) / len(names) * float(((left_out - left_out.mean()) ** 2).sum())
    half = NormalDist().inv_cdf(0.975) * sqrt(spread)
    return Estimate(value, value - half, value + half, len(given))


def groups_of(captions: Sequence[str], *, captions_enough: int = 10, most: int = 50) -> list[int]:
    """Groups for `jackknife`: whole captions where there are ten or more, since clips of one caption are alike; else
    clips. Of more than 50 captions or clips, several share a group."""
    names = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
    if len(names) >= captions_enough:
        return [names[caption] % most for caption in captions]
    return [row % most for row in range(len(captions))]
