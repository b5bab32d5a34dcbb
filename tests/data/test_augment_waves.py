"""Waveforms changed at each step: what each change does, and that the generator decides all of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.data.augment_waves import WaveAugmentation

RATE = 24_000
ALL = WaveAugmentation(gain=6, polarity=0.5, filter=4, noise=0.5, overtones=0.5, mix=0.5)


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def tones(batch=8, samples=4800, channels=1):
    time = torch.arange(samples) / RATE
    hz = 300.0 + 100 * torch.arange(batch * channels)
    return 0.3 * torch.cos(2 * torch.pi * hz[:, None] * time).unflatten(0, (batch, channels))


def ratios(made, waves):
    """By how much each item is larger, and how far it is from being only that, in parts of its size."""
    scale = (made * waves).sum((1, 2)) / waves.square().sum((1, 2))
    rest = (made - scale[:, None, None] * waves).square().mean((1, 2)).sqrt()
    return scale, rest / made.square().mean((1, 2)).sqrt()


def test_without_settings_nothing_changes():
    waves = tones()
    assert WaveAugmentation()(waves, RATE, chance()) is waves


@given(batch=st.integers(1, 4), channels=st.integers(1, 2), samples=st.integers(1, 500), seed=st.integers(0, 99))
def test_anything_comes_out_finite_in_its_shape_and_no_louder_than_full(batch, channels, samples, seed):
    waves = torch.randn(batch, channels, samples, generator=chance(seed)).clamp(-1, 1)
    waves[0] = 0
    made = ALL(waves, RATE, chance(seed))
    assert made.shape == waves.shape and made.isfinite().all() and made.abs().max() <= 1 + 1e-5


def test_the_generator_decides():
    waves = tones()
    before = waves.clone()
    made = ALL(waves, RATE, chance(1))
    assert torch.equal(made, ALL(waves, RATE, chance(1))) and torch.equal(waves, before)
    assert not torch.equal(made, ALL(waves, RATE, chance(2)))


def test_gain_and_polarity_only_scale():
    waves = tones(64)
    scale, rest = ratios(WaveAugmentation(gain=6, polarity=0.5)(waves, RATE, chance()), waves)
    decibels = 20 * scale.abs().log10()
    assert rest.max() < 1e-3 and decibels.abs().max() < 6.01 and decibels.std() > 2
    assert 0.3 < (scale < 0).float().mean() < 0.7


def test_noise_lies_as_far_below_the_sound_as_it_should():
    waves = tones(64)
    made = WaveAugmentation(noise=1, snr=20)(waves, RATE, chance())
    below = -20 * ((made - waves).square().mean((1, 2)) / waves.square().mean((1, 2))).sqrt().log10()
    assert below.min() > 19.9 and below.max() < 50.1 and below.std() > 5
    some = WaveAugmentation(noise=0.5)(waves, RATE, chance()) - waves
    assert 0.3 < (some.abs().amax((1, 2)) > 1e-5).float().mean() < 0.7
    assert not WaveAugmentation(noise=1)(torch.zeros(2, 1, 100), RATE, chance()).any()


def test_an_equaliser_moves_no_phase_and_spreads_as_it_should():
    impulse = torch.zeros(64, 1, 4801)
    impulse[..., 2400] = 0.1
    made = WaveAugmentation(filter=3)(impulse, RATE, chance())
    torch.testing.assert_close(made, made.flip(-1), atol=1e-5, rtol=0)
    decibels = 20 * (torch.fft.rfft(made).abs() / torch.fft.rfft(impulse).abs()).log10()
    assert 2 < decibels.std(0).mean() < 4.5


def test_overtones_are_those_of_a_tone():
    samples = 2400
    waves = (0.3 * torch.cos(2 * torch.pi * 500 * torch.arange(samples) / RATE))[None, None].repeat(16, 1, 1)
    made = WaveAugmentation(overtones=1)(waves, RATE, chance())
    hann = torch.hann_window(samples)
    power = torch.fft.rfft((made - waves) * hann).abs().square().mean((0, 1))
    tall = {50 * n for n in (2, 3)}  # bins are 10 Hz wide
    near = sum(power[bin - 3 : bin + 4].sum() for bin in tall) + power[47:54].sum() + power[:4].sum()
    assert near / power.sum() > 0.98
    assert all(power[bin] > 1e-3 * power.max() for bin in tall)


def test_a_mixture_is_an_item_and_a_fainter_other():
    waves = tones(8)
    made = WaveAugmentation(mix=1)(waves, RATE, chance())
    added = (made - waves).square().mean((1, 2)).sqrt() / waves.square().mean((1, 2)).sqrt()
    assert (added > 10 ** (-12.1 / 20)).all() and (added < 1.01).all()
    spectra = torch.fft.rfft((made - waves) * torch.hann_window(4800)).abs()[:, 0]
    assert (
        len(set(spectra.argmax(1).tolist())) == 8
        and (spectra.argmax(1) != torch.fft.rfft(waves).abs()[:, 0].argmax(1)).all()
    )
    alone = tones(1)
    assert WaveAugmentation(mix=1)(alone, RATE, chance()) is alone


def test_channels_of_one_item_are_changed_alike():
    stereo = tones(4, channels=1).repeat(1, 2, 1)
    made = WaveAugmentation(gain=6, polarity=0.5, filter=4, overtones=0.5, mix=0.5)(stereo, RATE, chance())
    torch.testing.assert_close(made[:, 0], made[:, 1])


@pytest.mark.parametrize("wrong", [{"gain": -1}, {"polarity": 2}, {"unknown": 1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        WaveAugmentation(**wrong)
