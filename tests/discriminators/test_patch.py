"""The discriminator of patches, and how hard it may push."""

import pytest
import torch
from tests.helpers import side_by_side
from torch import nn

from cymatic.discriminators.losses import discriminator_loss, feature_loss, generator_loss
from cymatic.discriminators.patch import PatchDiscriminator, discriminate_together
from cymatic.discriminators.weight import adaptive_weight, ramp, settled
from cymatic.errors import Error


def pictures(count: int, high: int = 32, wide: int = 40, channels: int = 1) -> torch.Tensor:
    return torch.randn(count, channels, high, wide, generator=torch.Generator().manual_seed(count))


def discriminator(**settings) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(width=4, **settings)


def test_the_published_size():
    with torch.device("meta"):
        full = PatchDiscriminator()
    # 16 places each: 1 x 64, 64 x 128, 128 x 256, 256 x 512 and 512 x 1, as pix2pix's of three layers.
    directions = sum(p.numel() for name, p in full.named_parameters() if name.endswith("original1"))
    assert directions == 16 * (64 + 64 * 128 + 128 * 256 + 256 * 512 + 512)
    scores, features = PatchDiscriminator(width=4)(torch.randn(1, 1, 80, 848))
    assert scores.shape == (1, 1, 8, 104)
    assert [f.shape[1] for f in features] == [4, 8, 16, 32]
    deep = discriminator(layers=2, channels=3)
    assert deep(pictures(1, 12, 12, 3))[0].shape == (1, 1, 1, 1)


def test_no_statistics_of_the_batch():
    network = discriminator().train()
    assert not list(network.buffers())
    x = pictures(3)
    scores, features = network(x)
    alone, features_alone = network(x[1:2])
    torch.testing.assert_close(scores[1:2], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features[-1][1:2], features_alone[-1], atol=1e-5, rtol=1e-4)


def test_a_patch_is_judged_by_itself():
    network = discriminator()
    x = pictures(1, 128, 128)
    other = x.clone()
    other[..., 96:] = 9.0
    assert torch.equal(network(x)[0][..., :3], network(other)[0][..., :3])


def test_real_and_made_together_are_what_they_are_apart():
    x, y, c = pictures(3), pictures(3).flip(0), torch.randn(3, 5)
    for network, vector in ((discriminator(), None), (discriminator(cond_dim=5), c)):
        together = discriminate_together(network, x, y, vector)
        for found, expected in zip(together, (network(x, vector), network(y, vector)), strict=True):
            torch.testing.assert_close(found[0], expected[0], atol=1e-5, rtol=1e-4)
            for a, b in zip(found[1], expected[1], strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_a_condition_moves_scores_and_not_features():
    network, x = discriminator(cond_dim=5), pictures(2)
    a, b = torch.randn(2, 5), torch.randn(2, 5)
    assert (network(x, a)[0] - network(x, b)[0]).abs().max() > 1e-6
    assert torch.equal(network(x, a)[1][-1], network(x, b)[1][-1])
    zero = torch.zeros(2, 5)
    assert torch.equal(network(x, zero)[0], network.last(network(x, zero)[1][-1]))


def test_a_gradient_reaches_every_parameter():
    network = discriminator(cond_dim=5)
    real, made = discriminate_together(network, pictures(3), pictures(3).flip(0), torch.randn(3, 5))
    (discriminator_loss([real], [made]) + feature_loss([made], [real])).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters())


@pytest.mark.parametrize(
    ("settings", "picture", "vector", "said"),
    [
        ({}, pictures(1), torch.ones(1, 5), "knows no conditions"),
        ({"cond_dim": 5}, pictures(1), None, "was given none"),
        ({}, pictures(1, 23, 40), None, "a picture of 23 x 40 was given.*24 x 24 at least"),
    ],
)
def test_what_can_not_be_judged_is_said(settings, picture, vector, said):
    with pytest.raises(Error, match=said):
        discriminator(**settings)(picture, vector)


def test_it_learns_to_tell_stripes_from_noise():
    network = discriminator()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3, betas=(0.5, 0.9))
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        phase = 6.28 * torch.rand(4, 1, 1, 1, generator=generator)
        stripes = torch.sin(phase + torch.arange(32.0)[:, None]).expand(4, 1, 32, 32)
        noise = 0.7 * torch.randn(4, 1, 32, 32, generator=generator)
        real, made = discriminate_together(network, stripes, noise)
        loss = discriminator_loss([real], [made])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5, "chance is 2"


def decoder() -> tuple[nn.Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    last = nn.Conv2d(3, 1, 3, padding=1)
    return last, last(torch.randn(4, 3, 32, 32))


def test_the_adaptive_weight_is_the_ratio_of_the_gradients():
    last, made = decoder()
    network, target = discriminator(), torch.zeros_like(made)
    reconstruction, adversarial = (made - target).abs().mean(), generator_loss([network(made)])
    rec = torch.autograd.grad(reconstruction, last.weight, retain_graph=True)[0].norm()
    adv = torch.autograd.grad(adversarial, last.weight, retain_graph=True)[0].norm()
    found = adaptive_weight(reconstruction, adversarial, last.weight, weight=0.8)
    torch.testing.assert_close(found, 0.8 * rec / (adv + 1e-4))
    assert not found.requires_grad
    assert adaptive_weight(reconstruction, adversarial, last.weight, most=1.0, weight=0.8) == pytest.approx(0.8)
    assert adaptive_weight(reconstruction, adversarial, last.weight, least=1e5, most=1e5, weight=2) == 2e5
    (reconstruction + found * adversarial).backward()
    assert last.weight.grad is not None


def test_a_settled_loss_has_the_same_value_and_gradients():
    last, made = decoder()
    network, target = discriminator(), torch.zeros_like(made)
    seen = []
    network.register_forward_hook(lambda *_: seen.append(1))

    def of(x: torch.Tensor) -> torch.Tensor:
        return generator_loss([network(x)])

    rec, plain, small = (made - target).abs().mean(), of(made), settled(of, made)
    torch.testing.assert_close(small, plain)
    parts = [torch.autograd.grad(loss, last.weight, retain_graph=True)[0] for loss in (plain, small)]
    torch.testing.assert_close(*parts, atol=1e-7, rtol=1e-5)
    torch.testing.assert_close(adaptive_weight(rec, small, last.weight), adaptive_weight(rec, plain, last.weight))
    network.zero_grad()
    small.backward()
    assert all(p.grad is None for p in network.parameters()), "the discriminator learns nothing from what it teaches"


def test_the_ramp_waits_and_grows():
    assert [ramp(step, 3, 2) for step in range(7)] == [0, 0, 0, 0.5, 1, 1, 1]
    assert ramp(0, 0, 0) == 1


def _process(rank: int) -> float:
    return weight_of(slice(2 * rank, 2 * rank + 2))


def weight_of(items: slice) -> float:
    last, made = decoder()
    made = made[items]
    loss = generator_loss([discriminator()(made)])
    return float(adaptive_weight(made.abs().mean(), loss, last.weight))


def test_two_processes_weigh_as_one_does():
    found = side_by_side(_process)
    assert found == pytest.approx([weight_of(slice(0, 4))] * 2, rel=1e-4)
    assert weight_of(slice(0, 2)) != pytest.approx(found[0], rel=1e-3)
