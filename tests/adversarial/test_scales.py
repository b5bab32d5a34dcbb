"""MelGAN's judges: their layers, what they teach by hand, and that they can learn."""

import pytest
import torch

from cymatic.adversarial.losses import discriminator_loss
from cymatic.adversarial.scales import ScaleDiscriminators, matching_loss, persuasion_loss


def waves(count: int, samples: int = 1500) -> torch.Tensor:
    return 0.1 * torch.randn(count, 1, samples, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_published_layers():
    judged = ScaleDiscriminators()(waves(1, 8192))
    channels = [16, 64, 256, 1024, 1024, 1024]
    lengths = [8192, 2048, 512, 128, 32, 32]
    assert [f.shape[1:] for f in judged[0][1]] == list(zip(channels, lengths, strict=True))
    assert [scores.shape[1:] for scores, _ in judged] == [(1, 32), (1, 16), (1, 8)]


@torch.no_grad()
def test_an_item_is_judged_alike_alone_and_in_a_batch():
    judges, batch = ScaleDiscriminators(width=4, depth=2), waves(3)
    for (together, _), (alone, _) in zip(judges(batch), judges(batch[1:2]), strict=True):
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("samples", [32, 1000, 1001])
def test_any_length_is_judged(samples):
    assert all(scores.isfinite().all() for scores, _ in ScaleDiscriminators(width=4)(waves(2, samples)))


def test_the_losses_by_hand():
    ones, twos = torch.ones(2, 3, 4), torch.full((2, 3, 4), 2.0)
    real = [(ones, [ones, ones, ones, ones])] * 2
    fake = [(twos, [ones, ones, twos, twos]), (0.5 * ones, [ones, ones, ones, twos])]
    assert persuasion_loss(fake).item() == pytest.approx(-2.5)
    # Four layers with features are two strided ones, so 4 / 3 each; two scales, so half of it.
    assert matching_loss(real, fake).item() == pytest.approx(3 * 4 / 3 / 2)


def test_a_gradient_reaches_every_parameter():
    judges = ScaleDiscriminators(width=4, depth=2)
    torch.stack([scores.square().mean() for scores, _ in judges(waves(2))]).sum().backward()
    assert not [name for name, p in judges.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_they_learn_to_tell_noise_from_tones():
    torch.manual_seed(0)
    judges = ScaleDiscriminators(width=4, depth=2)
    optimizer = torch.optim.AdamW(judges.parameters(), lr=3e-3, betas=(0.9, 0.99))
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
