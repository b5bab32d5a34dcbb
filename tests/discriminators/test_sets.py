"""Discriminators of waveforms: shapes, independence of neighbours, what each can't hear, and that they can learn and
teach."""

import pytest
import torch
from pydantic import ValidationError

from cymatic.discriminators.losses import discriminator_loss, feature_loss
from cymatic.discriminators.sets import (
    DiscriminatorSet,
    DiscriminatorSetConfig,
    lumen,
    melgan_scales,
    spectrograms_and_periods,
)
from cymatic.discriminators.spectrogram import SpectrogramDiscriminatorConfig
from cymatic.discriminators.waveform import PeriodDiscriminatorConfig, ScaleDiscriminatorConfig
from cymatic.errors import Error
from cymatic.hub.parts import load_part, save_part

SMALL = {
    "spectrogram": SpectrogramDiscriminatorConfig(window=128, width=4),
    "period": PeriodDiscriminatorConfig(period=3, width=4),
    "scale": ScaleDiscriminatorConfig(halvings=1, channels=(4, 16, 32), groups=(2,)),
}
every_judge = pytest.mark.parametrize("discriminator", SMALL.values(), ids=SMALL)


def waves(count: int, samples: int = 1500, channels: int = 1) -> torch.Tensor:
    return 0.1 * torch.randn(count, channels, samples, generator=torch.Generator().manual_seed(0))


def built(*discriminators):
    torch.manual_seed(0)
    return DiscriminatorSet(DiscriminatorSetConfig(discriminators=discriminators))


@every_judge
@torch.no_grad()
def test_an_item_is_judged_alike_alone_and_in_a_batch(discriminator):
    discriminators, batch = built(discriminator), waves(3)
    ((scores, features),) = discriminators(batch)
    ((alone, features_alone),) = discriminators(batch[1:2])
    torch.testing.assert_close(scores[1:2], alone, atol=1e-5, rtol=1e-4)
    assert [f.shape[1:] for f in features] == [f.shape[1:] for f in features_alone]


@every_judge
@torch.no_grad()
@pytest.mark.parametrize("samples", [130, 1000, 1001])
def test_any_length_is_judged(discriminator, samples):
    ((scores, _),) = built(discriminator)(waves(2, samples))
    assert len(scores) == 2 and scores.isfinite().all()


@every_judge
@torch.no_grad()
def test_channels_are_judged_each_on_its_own(discriminator):
    discriminators, stereo = built(discriminator), waves(2, channels=2)
    ((both, _),) = discriminators(stereo)
    ((right, _),) = discriminators(stereo[:, 1:])
    torch.testing.assert_close(both.unflatten(0, (2, 2))[:, 1], right, atol=1e-5, rtol=1e-4)


@every_judge
def test_a_gradient_reaches_every_parameter_and_every_sample(discriminator):
    discriminators, wave = built(discriminator), waves(2).requires_grad_()
    ((scores, _),) = discriminators(wave)
    scores.square().mean().backward()
    assert not [name for name, p in discriminators.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert wave.grad.isfinite().all() and (wave.grad != 0).float().mean() > 0.9


@every_judge
def test_silence_has_a_finite_gradient(discriminator):
    wave = torch.zeros(1, 1, 500, requires_grad=True)
    ((scores, features),) = built(discriminator)(wave)
    (scores.sum() + sum(f.sum() for f in features)).backward()
    assert wave.grad.isfinite().all()


def test_saved_and_loaded_they_say_the_same(tmp_path):
    discriminators, batch = built(*SMALL.values()), waves(2)
    save_part(tmp_path, discriminators)
    again = load_part(tmp_path, (DiscriminatorSet,))
    assert again.config == discriminators.config
    for (mine, _), (theirs, _) in zip(discriminators(batch), again(batch), strict=True):
        assert torch.equal(mine, theirs)


@torch.no_grad()
def test_some_of_the_judges_can_be_asked():
    discriminators, batch = built(*SMALL.values()), waves(2)
    everything, ((only, _),) = discriminators(batch), discriminators(batch, which=[1])
    assert torch.equal(only, everything[1][0])


@torch.no_grad()
def test_melgans_published_layers():
    outputs = DiscriminatorSet(melgan_scales())(waves(1, 8192))
    channels = [16, 64, 256, 1024, 1024, 1024]
    lengths = [8192, 2048, 512, 128, 32, 32]
    assert [f.shape[1:] for f in outputs[0][1]] == list(zip(channels, lengths, strict=True))
    assert [scores.shape[1:] for scores, _ in outputs] == [(1, 32), (1, 16), (1, 8)]


@torch.no_grad()
def test_lumens_judges_are_three_scales_and_five_windows():
    outputs = DiscriminatorSet(lumen())(waves(1, 3000))
    assert [f.shape[1] for f in outputs[2][1]] == [16, 64, 256, 512, 1024, 1024]
    assert len(outputs) == 8 and [scores.shape[2] for scores, _ in outputs[3:]] == [65, 33, 17, 9, 5]


def test_features_of_the_same_sound_match():
    discriminators, wave = built(*SMALL.values()), waves(2)
    assert feature_loss(discriminators(wave), discriminators(wave)) == 0
    assert feature_loss(discriminators(wave), discriminators(wave * 0.5)) > 0


@pytest.mark.parametrize(
    ("config", "rate"),
    [
        (spectrograms_and_periods(windows=(128,), periods=(2, 3), width=4), 1e-2),
        (melgan_scales(width=4, depth=2), 3e-3),
    ],
    ids=["spectrograms and periods", "scales"],
)
def test_judges_learn_to_tell_noise_from_tones(config, rate):
    torch.manual_seed(0)
    discriminators = DiscriminatorSet(config)
    optimizer = torch.optim.AdamW(discriminators.parameters(), lr=rate, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        hz = 200 + 1000 * torch.rand(4, 1, 1, generator=generator)
        tones = 0.2 * torch.sin(2 * torch.pi * hz * torch.arange(1200) / 8000)
        noise = 0.1 * torch.randn(4, 1, 1200, generator=generator)
        loss = discriminator_loss(discriminators(tones), discriminators(noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5, "chance is 2"


@pytest.mark.parametrize(
    "wrong", [{"channels": (4, 8)}, {"channels": (4, 6, 8), "groups": (4,)}, {"channels": (0, 4, 4), "groups": (1,)}]
)
def test_scales_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ValidationError, match="groups"):
        ScaleDiscriminatorConfig(**wrong)


def test_too_few_samples_are_refused():
    with pytest.raises(Error, match="15 samples were given to a discriminator that needs 16"):
        built(SMALL["scale"])(waves(1, 15))
