"""Judges of waveforms: shapes, independence of neighbours, and that they can learn and teach."""

import pytest
import torch

from cymatic.adversarial.discriminators import Discriminators, PeriodDiscriminator, SpectrogramDiscriminator
from cymatic.adversarial.losses import discriminator_loss, feature_loss, generator_loss

JUDGES = [SpectrogramDiscriminator(128, 4), PeriodDiscriminator(3, 4)]
every_judge = pytest.mark.parametrize("judge", JUDGES, ids=["spectrogram", "period"])


def waves(count: int, samples: int = 1500) -> torch.Tensor:
    return 0.1 * torch.randn(count, 1, samples, generator=torch.Generator().manual_seed(0))


@every_judge
def test_an_item_is_judged_alike_alone_and_in_a_batch(judge):
    batch = waves(3)
    scores, features = judge(batch)
    alone, features_alone = judge(batch[1:2])
    torch.testing.assert_close(scores[1:2], alone, atol=1e-5, rtol=1e-4)
    assert [f.shape[1:] for f in features] == [f.shape[1:] for f in features_alone]


@every_judge
@pytest.mark.parametrize("samples", [130, 1000, 1001])
def test_any_length_is_judged(judge, samples):
    scores, _ = judge(waves(2, samples))
    assert len(scores) == 2 and scores.isfinite().all()


def test_hinge_losses_by_hand():
    real = [(torch.tensor([[2.0, 0.5]]), [])]
    fake = [(torch.tensor([[-2.0, 0.0]]), [])]
    assert discriminator_loss(real, fake).item() == pytest.approx((0 + 0.5) / 2 + (0 + 1) / 2)
    assert generator_loss(fake).item() == pytest.approx((3 + 1) / 2)


def test_features_of_the_same_sound_match():
    judges = Discriminators(windows=(128,), periods=(2,), width=4)
    wave = waves(2)
    assert feature_loss(judges(wave), judges(wave)) == 0
    assert feature_loss(judges(wave), judges(wave * 0.5)) > 0


def test_judges_learn_to_tell_noise_from_tones():
    torch.manual_seed(0)
    judges = Discriminators(windows=(128,), periods=(2, 3), width=4)
    optimizer = torch.optim.AdamW(judges.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(100):
        hz = 200 + 1000 * torch.rand(4, 1, 1, generator=generator)
        tones = 0.2 * torch.sin(2 * torch.pi * hz * torch.arange(1200) / 8000)
        noise = 0.1 * torch.randn(4, 1, 1200, generator=generator)
        loss = discriminator_loss(judges(tones), judges(noise))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5, "chance is 2"
