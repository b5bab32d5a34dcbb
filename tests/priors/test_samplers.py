"""The samplers against normals, whose velocity and whose answer are known in closed form.

For data N(m, s^2) and noise N(0, 1) on the path x_t = (1 - t) noise + t data, x_t is N(t m, d^2) with
d^2 = (1 - t)^2 + t^2 s^2, the data to expect behind x is m + (t s^2 / d^2)(x - t m), and the flow takes noise z to
exactly m + s z.
"""

import pytest
import torch
from tests.conftest import installed

from cymatic.errors import Cancelled
from cymatic.priors.samplers import SAMPLERS, Prediction, euler, grid, heun, midpoint, multistep

MEAN, SPREAD = 1.5, 0.3
NOISE = torch.randn(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)


def expected(x: torch.Tensor, t: float) -> Prediction:
    """The data to expect, and no word of its spread: the solver has to find its way."""
    return Prediction(MEAN + t * SPREAD**2 / ((1 - t) ** 2 + t**2 * SPREAD**2) * (x - t * MEAN))


def error(sampler, steps: int) -> float:
    return (sampler(expected, NOISE, grid(steps)) - (MEAN + SPREAD * NOISE)).abs().mean().item()


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (midpoint, 2), (heun, 2), (multistep, 2)])
def test_error_falls_with_the_order_of_the_method(sampler, order):
    assert error(sampler, 400) < 1e-2 ** (order - 0.4)
    # At least, and once the steps are short: on this symmetric path some do better than they must.
    assert error(sampler, 800) / error(sampler, 1600) > 0.85 * 2**order


@every_sampler
def test_one_step_is_exact_where_the_spread_is_seen(sampler):
    seen = Prediction(torch.tensor(MEAN), torch.tensor(SPREAD))
    for steps in (1, 3):
        torch.testing.assert_close(sampler(lambda x, t: seen, NOISE, grid(steps)), MEAN + SPREAD * NOISE)


@every_sampler
def test_a_straight_path_takes_one_step(sampler):
    noise = torch.randn(5)
    there = noise + 2
    torch.testing.assert_close(sampler(lambda x, t: Prediction(there), noise, grid(1)), there)


@pytest.mark.parametrize(("name", "evaluations"), [("euler", 7), ("midpoint", 14), ("heun", 13), ("multistep", 7)])
def test_cost_and_times(name, evaluations):
    times = []
    SAMPLERS[name](lambda x, t: times.append(t) or Prediction(x), torch.zeros(1), grid(7))
    assert len(times) == evaluations
    assert times[0] == 0
    assert 0 <= min(times) <= max(times) < 1


@every_sampler
def test_steps_are_told_and_what_a_listener_raises_ends_them(sampler):
    told: list[tuple[int, int]] = []
    x = sampler(expected, NOISE, grid(4), lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert torch.equal(x, sampler(expected, NOISE, grid(4)))
    asked: list[float] = []

    def denoise(x: torch.Tensor, t: float) -> Prediction:
        asked.append(t)
        return expected(x, t)

    def cancel(done: int, total: int) -> None:
        raise Cancelled("nobody waits any more")

    with pytest.raises(Cancelled):
        sampler(denoise, NOISE, grid(4), cancel)
    assert max(asked) <= 0.25, "one step of four"


def test_euler_is_that_of_diffusers():
    installed("diffusers", "test")
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1 - t for t in grid(6)[:-1]])
    x = NOISE.float()
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        velocity = (expected(x, 1 - float(sigma)).mean - x) / sigma
        x = scheduler.step(-velocity, timestep, x).prev_sample
    torch.testing.assert_close(euler(expected, NOISE.float(), grid(6)), x, atol=1e-5, rtol=0)
