"""The samplers against a Gaussian, whose velocity and whose answer are known in closed form.

For data N(m, s^2) and noise N(0, 1) on the path x_t = (1 - t) noise + t data, x_t is N(t m, d^2) with
d^2 = (1 - t)^2 + t^2 s^2, the velocity is v(x, t) = m + (d d'/d^2)(x - t m) with d d' = t s^2 - (1 - t), and its flow
takes noise z to exactly m + s z.
"""

import pytest
import torch

from cymatic.priors.samplers import SAMPLERS, euler, heun, midpoint

MEAN, SPREAD = 1.5, 0.3


def velocity(x: torch.Tensor, t: float) -> torch.Tensor:
    variance = (1 - t) ** 2 + t**2 * SPREAD**2
    return MEAN + (t * SPREAD**2 - (1 - t)) / variance * (x - t * MEAN)


def error(sampler, steps: int) -> float:
    noise = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (sampler(velocity, noise, steps) - (MEAN + SPREAD * noise)).abs().mean().item()


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (midpoint, 2), (heun, 2)])
def test_error_falls_with_the_order_of_the_method(sampler, order):
    assert error(sampler, 400) < 1e-2 ** (order - 0.4)
    # At least: on this symmetric path the midpoint rule is even of third order.
    assert error(sampler, 64) / error(sampler, 128) > 0.85 * 2**order


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_straight_path_takes_one_step(name):
    noise = torch.randn(5)
    torch.testing.assert_close(SAMPLERS[name](lambda x, t: torch.full_like(x, 2.0), noise, 1), noise + 2)


@pytest.mark.parametrize(("name", "evaluations"), [("euler", 7), ("midpoint", 14), ("heun", 13)])
def test_cost_and_times(name, evaluations):
    times = []
    SAMPLERS[name](lambda x, t: times.append(t) or x, torch.zeros(1), 7)
    assert len(times) == evaluations
    assert times[0] == 0
    assert 0 <= min(times) <= max(times) < 1
