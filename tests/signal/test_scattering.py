"""The distance of pictures by local energies: what costs more than what."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d, pad

from cymatic.signal.scattering import FREQUENCY, SIDE, WIDTH, scattering_distance


def texture(size: int = 64, seed: int = 0) -> torch.Tensor:
    """Smooth noise with some grain: what pictures have at all scales."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(1, 3, size, size)
    for octave in range(4):
        small = torch.randn(1, 3, size >> octave, size >> octave, generator=generator)
        x += torch.nn.functional.interpolate(small, size, mode="bicubic")
    return (x / 6).tanh()


def blurred(x: torch.Tensor, times: int) -> torch.Tensor:
    for _ in range(times):
        x = avg_pool2d(pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x


def test_equal_pictures_cost_nothing_and_both_ways_are_the_same():
    x, y = texture(), texture(seed=1)
    assert scattering_distance(x, x) == 0 < scattering_distance(x, y) == scattering_distance(y, x)


def test_it_grows_with_blur():
    x = texture()
    costs = [float(scattering_distance(blurred(x, times), x)) for times in range(5)]
    assert costs == sorted(costs) and costs[0] == 0 < costs[1] < 0.7 * costs[4]


def test_blur_costs_more_than_a_shift_that_pixels_find_as_far():
    x = texture(72)
    shifted, here = x[..., 4:-4, 5:-3], x[..., 4:-4, 4:-4]
    by_shift = float((shifted - here).square().mean())
    soft = here
    while float((soft - here).square().mean()) < by_shift:  # the least blur that is as far
        soft = blurred(soft, 1)
        assert soft.std() > 0.01, "no blur is as far as the shift"
    excess = float((soft - here).square().mean()) / by_shift
    assert excess < 2  # so near to it that the comparison is fair
    assert scattering_distance(soft, here) > 2 * excess**0.5 * scattering_distance(shifted, here)


def test_a_flat_colour_has_no_energy():
    dark, light = torch.full((1, 3, 32, 32), -0.5), torch.full((1, 3, 32, 32), 0.5)
    assert scattering_distance(dark, light) < 1e-6


def test_the_finest_scale_by_the_formula():
    """By hand, for a picture of one scale: a loop over orientations and places."""
    x, y = texture(16, 2)[:, :1, :12, :12], texture(16, 3)[:, :1, :12, :12]
    at = np.arange(SIDE) - SIDE // 2
    window = np.exp(-(at[:, None] ** 2 + at**2) / (2 * WIDTH**2))
    window /= window.sum()

    def energies(picture: torch.Tensor) -> np.ndarray:
        padded = np.pad(picture[0, 0].double().numpy(), SIDE // 2, mode="reflect")
        out = np.zeros((4, 5, 5))
        for turn in range(4):
            angle = np.pi * turn / 4
            wave = window * np.exp(1j * FREQUENCY * (np.cos(angle) * at + np.sin(angle) * at[:, None]))
            wave -= window * wave.real.sum()
            modulus = np.array(
                [[abs((padded[i : i + SIDE, j : j + SIDE] * wave).sum()) for j in range(12)] for i in range(12)]
            )
            for i in range(5):
                for j in range(5):
                    out[turn, i, j] = modulus[2 * i : 2 * i + 4, 2 * j : 2 * j + 4].mean()
        return out

    expected = np.abs(energies(x) - energies(y)).mean()
    assert float(scattering_distance(x, y)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [2, 8, 33])
def test_any_size_and_a_gradient_everywhere(size):
    x = texture(40)[..., :size, :size].clone().requires_grad_()
    distance = scattering_distance(x, torch.zeros_like(x))
    distance.backward()
    assert distance.isfinite() and x.grad is not None and x.grad.isfinite().all()
    flat = torch.zeros(1, 3, 16, 16, requires_grad=True)
    scattering_distance(flat, flat.detach()).backward()
    assert flat.grad is not None and flat.grad.isfinite().all()
