"""Distances between sounds: the fast ones against the plain ones, values and gradients."""

import pytest
import torch

from cymatic.signal import distances
from cymatic.signal.distances import (
    SCALES,
    by_items,
    loudness_distance,
    multi_scale_mel_distance,
    phase_distance,
)
from cymatic.signal.magnitudes import magnitudes
from cymatic.signal.mel import MelSpec, log_mel

TONE = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(12_000) / 24_000)[None, None]


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def naive_mel_distance(a, b, rate):
    terms = []
    for window, mels in SCALES:
        spec = MelSpec(rate=rate, n_fft=window, hop=window // 4, mels=mels, fmax=rate / 2)
        terms.append((log_mel(a, spec) - log_mel(b, spec)).abs().mean())
    return torch.stack(terms).mean()


def slopes(function, *sounds):
    """Its value and the gradients with respect to all of `sounds`."""
    leaves = [sound.clone().requires_grad_() for sound in sounds]
    value = function(*leaves)
    return value.detach(), torch.autograd.grad(value, leaves)


@pytest.mark.parametrize("samples", [1, 100, 2400, 2401])
@pytest.mark.parametrize("at_once", [1, 5000, 10**9])
def test_mel_distance_is_the_plain_one(samples, at_once, monkeypatch):
    monkeypatch.setattr(distances, "AT_ONCE", at_once)
    a, b = 0.1 * noise(3, 1, samples), 0.1 * noise(3, 1, samples, seed=1)
    fast, its = slopes(lambda a, b: multi_scale_mel_distance(a, b, 24_000), a, b)
    plain, theirs = slopes(lambda a, b: naive_mel_distance(a, b, 24_000), a, b)
    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=0)
    for mine, wanted in zip(its, theirs, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=0, atol=1e-4 * wanted.abs().max().item())


def test_mel_distance_of_silence_has_a_gradient_of_nought():
    silence, tone = torch.zeros_like(TONE), TONE
    value, (of_tone, of_silence) = slopes(lambda a, b: multi_scale_mel_distance(a, b, 24_000), tone, silence)
    assert value > 1 and of_tone.abs().max() > 0 and torch.equal(of_silence, silence)


def test_mel_distance_is_nought_for_one_sound_and_grows_with_noise():
    near, far = (multi_scale_mel_distance(TONE, TONE + level * noise(*TONE.shape), 24_000) for level in (1e-3, 1e-1))
    assert multi_scale_mel_distance(TONE, TONE, 24_000) == 0
    assert 0 < near < far


def test_a_distance_by_items_asks_gradients_of_those_that_want_them():
    a, b = noise(5, 1, 7), noise(5, 1, 7, seed=1).requires_grad_()
    value = by_items(lambda a, b: (a - b).square().mean(), a, b)
    (3 * value).backward()
    torch.testing.assert_close(b.grad, 6 * (b.detach() - a) / a.numel())
    with torch.no_grad():
        assert not by_items(lambda a, b: (a - b).square().mean(), a, b).requires_grad


@pytest.mark.parametrize(("n_fft", "hop", "samples"), [(16, 4, 64), (16, 4, 67), (9, 3, 40), (16, 5, 50), (2, 1, 9)])
def test_magnitudes_are_torchs(n_fft, hop, samples):
    wave = noise(2, samples)

    def theirs(wave):
        window = torch.hann_window(n_fft)
        return torch.stft(wave, n_fft, hop, window=window, center=False, return_complex=True).abs().mT

    weights = noise(*theirs(wave).shape, seed=1)
    mine, (slope,) = slopes(lambda wave: (weights * magnitudes(wave, n_fft, hop)).sum(), wave)
    plain, (wanted,) = slopes(lambda wave: (weights * theirs(wave)).sum(), wave)
    torch.testing.assert_close(magnitudes(wave, n_fft, hop), theirs(wave), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(slope, wanted, rtol=1e-4, atol=1e-4)


def test_loudness_hears_no_phase_and_what_is_loud_most():
    real = torch.randn(2, 1, 4000)
    assert loudness_distance(real, real) == loudness_distance(real, -real) == 0
    half = real.clone()
    half[..., 2000:] *= 0.01
    loud, soft = half.clone(), half.clone()
    loud[..., :2000] *= 0.5
    soft[..., 2000:] *= 0.5
    assert loudness_distance(half, loud) > 5 * loudness_distance(half, soft) > 0


def test_phase_hears_what_magnitudes_do_not():
    rate = 8000
    real, other = torch.randn(2, 1, 4000), torch.randn(2, 1, 4000)
    assert phase_distance(real, real, rate) == 0
    torch.testing.assert_close(phase_distance(real, -real, rate), torch.tensor(2.0))
    assert 1 < phase_distance(real, other, rate) < 1.6
    assert phase_distance(real, real + 0.1 * other, rate) < 0.3
    fake = (real + other).requires_grad_()
    (gradient,) = torch.autograd.grad(phase_distance(real, fake, rate), fake)
    assert phase_distance(real, fake.detach() - 1000 * gradient, rate) < phase_distance(real, fake, rate)


def test_phase_is_followed_up_to_six_kilohertz():
    at = torch.arange(4800) / 48_000
    low, high = (torch.cos(2 * torch.pi * hz * at)[None, None] for hz in (1000, 12_000))
    assert phase_distance(low + high, low - high, 48_000) < 0.1
    assert phase_distance(low + high, high - low, 48_000) > 1
