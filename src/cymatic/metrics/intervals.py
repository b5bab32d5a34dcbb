"""How sure a share of successes is: the Wilson score interval."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

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
