"""Solvers of `dx/dt = velocity(x, t)` from noise at t = 0 to data at t = 1, as plain functions.

Each takes the velocity as a function, the noise and the number of steps; the times are evenly spaced. Cost is counted
in evaluations of the velocity, because the network is all the work. The velocity is never asked for at t = 1, where a
prior that gives the clean data has none.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
Sampler = Callable[[Velocity, Tensor, int], Tensor]


def euler(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """`x += h v(x, t)`: one evaluation a step, error of order h."""
    x, h = noise, 1 / steps
    for i in range(steps):
        x = x + h * velocity(x, i * h)
    return x


def midpoint(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """`x += h v(x + h/2 v(x, t), t + h/2)`: two evaluations a step, error of order h^2."""
    x, h = noise, 1 / steps
    for i in range(steps):
        half = x + h / 2 * velocity(x, i * h)
        x = x + h * velocity(half, (i + 0.5) * h)
    return x


def heun(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """`x += h/2 (v(x, t) + v(x + h v(x, t), t + h))`: two evaluations a step, error of order h^2.

    The solver of Karras et al. (2022, arXiv 2206.00364), on a straight schedule; its last step is one of Euler's.
    """
    x, h = noise, 1 / steps
    for i in range(steps):
        first = velocity(x, i * h)
        if i == steps - 1:
            return x + h * first
        x = x + h / 2 * (first + velocity(x + h * first, (i + 1) * h))
    return x


SAMPLERS: dict[str, Sampler] = {"euler": euler, "midpoint": midpoint, "heun": heun}
