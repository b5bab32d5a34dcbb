"""Solvers of the path from noise at t = 0 to data at t = 1, as plain functions.

On the straight path `x_t = (1 - t) noise + t data` a prior that names the clean data D for what it sees at t moves x
along `dx/dt = (D(x, t) - x) / (1 - t)`. Each solver takes D as a function, the noise, and the times to step through,
from 0 to 1. Cost is counted in evaluations of D, because the network is all the work. D is never asked for at t = 1,
where nothing is left to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

Clean = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Clean, Tensor, Sequence[float]], Tensor]


def even(steps: int, shift: float = 1.0) -> list[float]:
    """`steps + 1` times from 0 to 1, evenly spaced, or crowded towards the noise by a shift above 1.

    Shifted as the noise levels of Esser et al. (2024, arXiv 2403.03206): `s (1 - t) / (1 + (s - 1) (1 - t))`.
    """
    levels = [1 - i / steps for i in range(steps + 1)]
    return [1 - shift * level / (1 + (shift - 1) * level) for level in levels]


def toward(x: Tensor, data: Tensor, now: float, then: float) -> Tensor:
    """Straight on from x at `now` to where `data` would have it at `then`."""
    return x + (then - now) / (1 - now) * (data - x)


def euler(clean: Clean, noise: Tensor, times: Sequence[float]) -> Tensor:
    """Straight towards D: one evaluation a step, error of order h. It is also DDIM (Song et al., 2021)."""
    x = noise
    for now, then in pairwise(times):
        x = toward(x, clean(x, now), now, then)
    return x


def midpoint(clean: Clean, noise: Tensor, times: Sequence[float]) -> Tensor:
    """The direction halfway, for the whole step: two evaluations a step, error of order h^2."""
    x = noise
    for now, then in pairwise(times):
        middle = (now + then) / 2
        half = toward(x, clean(x, now), now, middle)
        x = x + (then - now) / (1 - middle) * (clean(half, middle) - half)
    return x


def heun(clean: Clean, noise: Tensor, times: Sequence[float]) -> Tensor:
    """The mean of the directions at both ends: two evaluations a step, error of order h^2.

    The solver of Karras et al. (2022, arXiv 2206.00364), on a straight schedule; its last step is one of Euler's.
    """
    x = noise
    for now, then in pairwise(times):
        first = clean(x, now)
        there = toward(x, first, now, then)
        if then < 1:
            second = (clean(there, then) - there) / (1 - then)
            there = x + (then - now) / 2 * ((first - x) / (1 - now) + second)
        x = there
    return x


def dpm_2m(clean: Clean, noise: Tensor, times: Sequence[float]) -> Tensor:
    """DPM-Solver++ (2M)."""
    x, before, last = noise, None, None
    for now, then in pairwise(times):
        data = clean(x, now)
        ahead = data
        if last is not None and before > 0 and then < 1:
            span, back = logit(then) - logit(now), logit(now) - logit(before)
            ahead = data + span / (2 * back) * (data - last)
        x = toward(x, ahead, now, then)
        before, last = now, data
    return x


def logit(t: float) -> float:
    return math.log(t / (1 - t))


def multistep(clean: Clean, noise: Tensor, times: Sequence[float], final: bool = True) -> Tensor:
    """D taken to go on as it went from the step before, linearly in t: one evaluation a step, error of order h^2.

    Between steps the path has a closed form for such a D: a straight step and `(u - v - v ln(u / v)) D'` with the
    levels of noise u = 1 - now and v = 1 - then.
    """
    x, before, last = noise, None, None
    for now, then in pairwise(times):
        data = clean(x, now)
        x = toward(x, data, now, then)
        if last is not None and (final or then < 1):
            u, v = 1 - now, 1 - then
            bend = u - v - (v * math.log(u / v) if v else 0.0)
            x = x + bend / (now - before) * (data - last)
        before, last = now, data
    return x


SAMPLERS: dict[str, Sampler] = {"euler": euler, "midpoint": midpoint, "heun": heun, "dpm": dpm_2m, "multi": multistep, "multi1": lambda c,n,t: multistep(c,n,t,False)}
