"""Solvers of the path from noise at t = 0 to data at t = 1, as plain functions.

On the straight path `x_t = (1 - t) noise + t data`, a prior that takes the data behind x for normal, of mean m and
spread s, moves x along `dx/dt = (E[data | x] - x) / (1 - t)`. With m and s as they stand that has an exact solution,
`x_t = t m + d_t w` with `d_t^2 = (1 - t)^2 + t^2 s^2` and a w that doesn't change, and each solver below is a way to
choose the m of a step. So grain, which is all spread, is there after one step, and with s = 0 it is DDIM's step (Song
et al., 2021, arXiv 2010.02502) or Euler's.

A solver takes what the prior sees as a function, the noise, and the times to step through, from 0 to 1. Cost is counted
in evaluations, because the network is all the work. The prior is never asked at t = 1, where nothing is left to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator
from torch import Tensor


class Seen(NamedTuple):
    """What a prior sees behind x: the mean of the data, and how far the data strays from it."""

    mean: Tensor
    spread: Tensor | float = 0.0


See = Callable[[Tensor, float], Seen]
Sampler = Callable[[See, Tensor, Sequence[float]], Tensor]


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError("give two times from 0 to 1 in order, such as [0, 0.5]")
    return interval


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]  # of t, both ends included


def grid(steps: int) -> list[float]:
    """`steps + 1` times from 0 to 1, evenly spaced."""
    return [i / steps for i in range(steps + 1)]


def follow(x: Tensor, seen: Seen, now: float, then: float) -> Tensor:
    """Where x at time `now` comes to at time `then`, if what was seen stays as it is."""
    return then * seen.mean + _width(seen, then) / _width(seen, now) * (x - now * seen.mean)


def _width(seen: Seen, t: float) -> Tensor | float:
    return ((1 - t) ** 2 + (t * seen.spread) ** 2) ** 0.5


def euler(see: See, noise: Tensor, times: Sequence[float]) -> Tensor:
    """What is seen at the step's beginning: one evaluation a step, error of order h."""
    x = noise
    for now, then in pairwise(times):
        x = follow(x, see(x, now), now, then)
    return x


def midpoint(see: See, noise: Tensor, times: Sequence[float]) -> Tensor:
    """What is seen halfway: two evaluations a step, error of order h^2."""
    x = noise
    for now, then in pairwise(times):
        middle = (now + then) / 2
        half = follow(x, see(x, now), now, middle)
        x = follow(x, see(half, middle), now, then)
    return x


def heun(see: See, noise: Tensor, times: Sequence[float]) -> Tensor:
    """The mean of what is seen at both ends: two evaluations a step, error of order h^2.

    The solver of Karras et al. (2022, arXiv 2206.00364) in terms of the data; its last step is one of Euler's.
    """
    x = noise
    for now, then in pairwise(times):
        first = see(x, now)
        there = follow(x, first, now, then)
        if then < 1:
            second = see(there, then)
            both = Seen((first.mean + second.mean) / 2, (first.spread + second.spread) / 2)
            there = follow(x, both, now, then)
        x = there
    return x


def multistep(see: See, noise: Tensor, times: Sequence[float]) -> Tensor:
    """What is seen, going on as it went since the step before: one evaluation a step, error of order h^2.

    An exponential multistep solver in the data, as DPM-Solver++ (Lu et al., 2022, arXiv 2211.01095), whose mean goes on
    linearly in t as in DEIS (Zhang and Chen, 2023, arXiv 2204.13902) and not in the log of the signal-to-noise ratio:
    that is infinite at both ends of this path, where two of four steps would fall back to Euler's. With levels of noise
    u now and v then, a mean of slope m' is worth a mean of `m + u (1 - v ln(u / v) / (u - v)) m'` that stays.
    """
    x, before, last = noise, 0.0, None
    for now, then in pairwise(times):
        seen = see(x, now)
        mean = seen.mean
        if last is not None:
            u, v = 1 - now, 1 - then
            ahead = u * (1 - v * math.log(u / v) / (u - v)) if v else u
            mean = mean + ahead / (now - before) * (mean - last)
        x = follow(x, Seen(mean, seen.spread), now, then)
        before, last = now, seen.mean
    return x


SamplerName = Literal["euler", "midpoint", "heun", "multistep"]
SAMPLERS: dict[str, Sampler] = {"euler": euler, "midpoint": midpoint, "heun": heun, "multistep": multistep}
