"""The bottleneck without codes: its loss by hand, its scale, its noise, and what a mask leaves out."""

import pytest
import torch
from tests.helpers import draw
from torch.distributions import Normal, kl_divergence

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error
from cymatic.hub.parts import load_weights
from cymatic.quantizers.gaussian import GaussianBottleneck, GaussianBottleneckConfig


def built(**settings) -> GaussianBottleneck:
    torch.manual_seed(0)
    return GaussianBottleneck(GaussianBottleneckConfig(**{"dim": 6, "latent": 4, **settings})).eval()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("places", [(9,), (4, 3)])
def test_it_gives_what_a_quantizer_gives(places):
    layer, z = built(), draw(2, 6, *places)
    out = layer(z)
    assert out.z.shape == z.shape and out.codes.shape == (2, 0, *places) and out.codes.dtype == torch.int64
    assert (layer.levels, layer.sizes) == (0, ())
    assert layer.to_latent(z).shape == (2, 4, *places)
    torch.testing.assert_close(layer.from_latent(layer.to_latent(z)), out.z)


def test_the_loss_is_the_divergence_from_the_unit_gaussian():
    layer, z = built(kl=0.5), draw(2, 6, 9)
    mean, spread = layer.in_proj(z.mT).chunk(2, -1)
    nats = kl_divergence(Normal(mean, (spread / 2).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(layer(z).losses, {"kl": 0.5 * nats.mean()})
    mask = torch.arange(9) < torch.tensor([9, 4])[:, None]
    torch.testing.assert_close(layer(z, mask=mask).losses["kl"], 0.5 * nats[mask].mean())


def test_what_it_was_trained_on_has_mean_0_and_variance_1():
    layer = built(decay=0.9).train()
    for seed in range(30):
        layer(5 + 0.5 * draw(8, 6, 500, seed=seed), seeded(1000 + seed))  # of the same seed they would be alike
    layer.eval()
    # Not wider: the variances are exponentials, and the more they spread the less a few thousand draws say of them.
    z = 5 + 0.5 * draw(8, 6, 2500, seed=99)
    mean, spread = layer.in_proj(z.mT).chunk(2, -1)
    drawn = mean + (spread / 2).exp() * draw(8, 2500, 4)
    middle, width = layer._scale()
    scaled = ((drawn - middle) / width).flatten(0, 1)
    torch.testing.assert_close(scaled.mean(0), torch.zeros(4), atol=0.04, rtol=0)
    torch.testing.assert_close(scaled.var(0), torch.ones(4), atol=0.05, rtol=0)
    torch.testing.assert_close(layer.from_latent(layer.to_latent(z)), layer(z).z, atol=1e-4, rtol=1e-4)


def test_noise_in_training_alone_and_by_the_generator():
    layer, z = built(), draw(4, 6, 9)
    assert torch.equal(layer(z).z, layer(z).z)
    layer.train()
    first, again, other = (layer(z, seeded(seed)).z for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    shard = BatchShard.of([9] * 4, 1, 2)
    torch.testing.assert_close(layer(z[1::2], seeded(), shard=shard).z, first[1::2])
    with pytest.raises(Error, match="give it a generator"):
        layer(z)


def test_padding_reaches_no_statistic():
    mask = torch.arange(9) < torch.tensor([9, 4, 0])[:, None]
    states = []
    for padding in (0.0, 100.0):
        layer = built().train()
        layer(torch.where(mask[:, None], draw(3, 6, 9), padding), seeded(), mask)
        states.append(layer.state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    before = states[0]["first"].clone()
    layer.load_state_dict(states[0])
    layer(draw(3, 6, 9), seeded(), torch.zeros_like(mask))
    assert torch.equal(layer.first, before)


def test_a_gradient_reaches_everything():
    layer, z = built().train(), draw(2, 6, 30).requires_grad_()
    out = layer(z, seeded())
    (out.z.square().mean() + out.losses["kl"]).backward()
    assert z.grad.abs().min() > 0
    assert not [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


def test_saved_and_loaded_it_is_the_same(tmp_path):
    from safetensors.torch import save_file

    layer = built().train()
    layer(draw(2, 6, 9), seeded())
    save_file(layer.eval().state_dict(), tmp_path / "weights.safetensors")
    again = GaussianBottleneck(GaussianBottleneckConfig.parse(layer.config.model_dump(), "here")).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    assert torch.equal(again.to_latent(draw(2, 6, 9)), layer.to_latent(draw(2, 6, 9)))


def test_another_latent_is_refused():
    with pytest.raises(Error, match="a latent of 5 numbers was given; this codec's have 4"):
        built().from_latent(torch.zeros(1, 5, 3))
