"""Solvers of the path from noise at t = 0 to data at t = 1, as plain functions.

On the straight path `x_t = (1 - t) noise + t data`, a prior that takes the data behind x for normal, of mean m and
spread s, moves x along `dx/dt = (E[data | x] - x) / (1 - t)`. With m and s as they stand that has an exact solution,
`x_t = t m + d_t w` with `d_t^2 = (1 - t)^2 + t^2 s^2` and a w that doesn't change, and each solver below is a way to
choose the m of a step. So grain, which is all spread, is there after one step, and with s = 0 it is DDIM's step (Song
et al., 2021, arXiv 2010.02502) or Euler's.

A solver takes the prior's prediction as a function of x and t, the noise, and the times to step through, from 0 to 1.
Cost is counted in evaluations, because the network is all the work. The prior is never asked at t = 1, where nothing is
left to say. `on_step` is called between steps (`priors.progress`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple, Protocol

from pydantic import AfterValidator, Field
from torch import Tensor

from cymatic.config import Config
from cymatic.priors.progress import OnStep


class Prediction(NamedTuple):
    """What a prior takes the data behind x for: its mean, and how far it strays from that."""

    mean: Tensor
    spread: Tensor | float = 0.0


Denoise = Callable[[Tensor, float], Prediction]


class Sampler(Protocol):
    """A solver: from noise to data."""

    def __call__(
        self, denoise: Denoise, noise: Tensor, times: Sequence[float], on_step: OnStep | None = None
    ) -> Tensor: ...


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise ValueError("give two times from 0 to 1 in order, such as [0, 0.5]")
    return interval


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]  # of t, both ends included


def grid(steps: int) -> list[float]:
    """`steps + 1` times from 0 to 1, evenly spaced."""
    return [i / steps for i in range(steps + 1)]


def advance(x: Tensor, data: Prediction, now: float, then: float) -> Tensor:
    """Where x at time `now` comes to at time `then`, if the prediction stays as it is."""
    return then * data.mean + _width(data, then) / _width(data, now) * (x - now * data.mean)


def _width(data: Prediction, t: float) -> Tensor | float:
    return ((1 - t) ** 2 + (t * data.spread) ** 2) ** 0.5


def _steps(times: Sequence[float], on_step: OnStep | None) -> Iterator[tuple[float, float]]:
    """Begin and end of each step; `on_step` hears of each that is done."""
    for done, step in enumerate(pairwise(times), 1):
        yield step
        if on_step is not None:
            on_step(done, len(times) - 1)


def euler(denoise: Denoise, noise: Tensor, times: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """The prediction at the step's beginning: one evaluation a step, error of order h."""
    x = noise
    for now, then in _steps(times, on_step):
        x = advance(x, denoise(x, now), now, then)
    return x


def midpoint(denoise: Denoise, noise: Tensor, times: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """The prediction halfway: two evaluations a step, error of order h^2."""
    x = noise
    for now, then in _steps(times, on_step):
        middle = (now + then) / 2
        half = advance(x, denoise(x, now), now, middle)
        x = advance(x, denoise(half, middle), now, then)
    return x


def heun(denoise: Denoise, noise: Tensor, times: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """The mean of the predictions at both ends: two evaluations a step, error of order h^2.

    The solver of Karras et al. (2022, arXiv 2206.00364) in terms of the data; its last step is one of Euler's.
    """
    x = noise
    for now, then in _steps(times, on_step):
        first = denoise(x, now)
        there = advance(x, first, now, then)
        if then < 1:
            second = denoise(there, then)
            both = Prediction((first.mean + second.mean) / 2, (first.spread + second.spread) / 2)
            there = advance(x, both, now, then)
        x = there
    return x


def multistep(denoise: Denoise, noise: Tensor, times: Sequence[float], on_step: OnStep | None = None) -> Tensor:
    """The prediction, going on as it went since the step before: one evaluation a step, error of order h^2.

    An exponential multistep solver in the data, as DPM-Solver++ (Lu et al., 2022, arXiv 2211.01095), whose mean goes on
    linearly in t as in DEIS (Zhang and Chen, 2023, arXiv 2204.13902) and not in the log of the signal-to-noise ratio:
    that is infinite at both ends of this path, where two of four steps would fall back to Euler's. With levels of noise
    u now and v then, a mean of slope m' is worth a mean of `m + u (1 - v ln(u / v) / (u - v)) m'` that stays.
    """
    x, before, last = noise, 0.0, None
    for now, then in _steps(times, on_step):
        data = denoise(x, now)
        mean = data.mean
        if last is not None:
            u, v = 1 - now, 1 - then
            ahead = u * (1 - v * math.log(u / v) / (u - v)) if v else u
            mean = mean + ahead / (now - before) * (mean - last)
        x = advance(x, Prediction(mean, data.spread), now, then)
        before, last = now, data.mean
    return x


SamplerName = Literal["euler", "midpoint", "heun", "multistep"]
SAMPLERS: dict[str, Sampler] = {"euler": euler, "midpoint": midpoint, "heun": heun, "multistep": multistep}


class FlowSampling(Config):
    """How a flow is followed: by which solver in how many steps, and how strongly the condition is (`cond.guide`).

    Guidance acts at times within its interval.
    """

    guidance: float = Field(default=2.0, ge=0, le=100)
    guidance_interval: Interval = (0.0, 0.6)
    steps: int = Field(default=6, ge=1, le=1000)
    sampler: SamplerName = "euler"
