"""YIN, against its equations and for frames that have no period."""

from __future__ import annotations

import numpy as np
import torch

from cymatic.signal.yin import difference, normalised, period


def naive_difference(frame: np.ndarray, longest: int) -> np.ndarray:
    """Equation 6 of de Cheveigné and Kawahara, word for word."""
    window = len(frame) - longest
    return np.array([sum((frame[j] - frame[j + lag]) ** 2 for j in range(window)) for lag in range(longest + 1)])


def naive_normalised(differences: np.ndarray) -> np.ndarray:
    """Equation 8."""
    lags = range(1, len(differences))
    return np.array([1.0] + [differences[lag] / (sum(differences[1 : lag + 1]) / lag) for lag in lags])


def test_the_fast_difference_equals_the_sum_it_stands_for() -> None:
    frames = np.random.default_rng(0).normal(size=(3, 150))
    fast = difference(torch.from_numpy(frames), 60)
    slow = np.stack([naive_difference(frame, 60) for frame in frames])
    np.testing.assert_allclose(fast.numpy(), slow, atol=1e-9)
    np.testing.assert_allclose(normalised(fast).numpy(), np.stack([naive_normalised(row) for row in slow]), atol=1e-9)


def test_the_first_deep_dip_is_the_period_and_not_the_deepest() -> None:
    at = torch.arange(400, dtype=torch.float64)
    frames = torch.stack([torch.cos(2 * torch.pi * at / lag) for lag in (20.0, 33.3, 47.5)])
    lag, depth = period(normalised(difference(frames, 150)), 10)
    torch.testing.assert_close(lag, torch.tensor([20.0, 33.3, 47.5], dtype=torch.float64), atol=0.05, rtol=0)
    assert (depth < 0.02).all()


def test_what_has_no_period_says_so() -> None:
    frames = torch.stack([torch.zeros(300), torch.full((300,), 0.5), torch.linspace(0, 1, 300)])
    lag, depth = period(normalised(difference(frames, 100)), 10)
    assert torch.isfinite(lag).all() and (depth > 0.3).all()
    noise = torch.randn(20, 900, generator=torch.Generator().manual_seed(0))
    assert (period(normalised(difference(noise, 300)), 15)[1] > 0.35).float().mean() > 0.9
