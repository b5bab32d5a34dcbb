"""The energy transformer: its energy by hand, its gradient by autograd, downhill, padding, and that it learns."""

import pytest
import torch
from tests.helpers import draw
from torch.nn.functional import pad

from cymatic.errors import ModelError
from cymatic.nn.energy_transformer import EnergyTransformer, EnergyTransformerConfig
from cymatic.nn.rotary import rotary_tables, rotate

KINDS = ("relu", "softmax")


def built(hopfield: str, spread: float = 0.3, **settings) -> EnergyTransformer:
    torch.manual_seed(0)
    layer = EnergyTransformer(EnergyTransformerConfig(dim=16, heads=2, memories=24, hopfield=hopfield, **settings))
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(spread * torch.randn_like(p))
    return layer


def with_steps(layer: EnergyTransformer, steps: int) -> EnergyTransformer:
    again = EnergyTransformer(layer.config.model_copy(update={"steps": steps}))
    again.load_state_dict(layer.state_dict())
    return again


@pytest.mark.parametrize("hopfield", KINDS)
@torch.no_grad()
def test_the_energy_by_its_formula(hopfield):
    layer, z = built(hopfield), draw(1, 16, 5)
    x = z[0].T
    g = layer.gain.exp() * (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    g = g + layer.shift
    energy, rotary = 0.0, rotary_tables(torch.arange(5), 8)
    for h in range(2):
        q = rotate((g @ layer.queries.weight[8 * h : 8 * h + 8].T)[None, None], rotary)[0, 0]
        k = rotate((g @ layer.keys.weight[8 * h : 8 * h + 8].T)[None, None], rotary)[0, 0]
        b = float(layer.heat[h].exp())
        for place in range(5):
            energy -= float(sum((b * q[place] @ k[other]).exp() for other in range(5)).log()) / b
    b = float(layer.memory_heat.exp())
    for place in range(5):
        likeness = b * layer.memories.weight @ g[place]
        energy -= float(likeness.clamp(0).square().sum() / 2 if hopfield == "relu" else likeness.exp().sum().log() / b)
    torch.testing.assert_close(layer.energy(z), torch.tensor([energy]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hopfield", KINDS)
def test_the_gradient_is_autograds(hopfield):
    layer = built(hopfield)
    layer.norm = lambda x: x  # so that the energy is a function of g
    z, mask = draw(3, 16, 7), torch.arange(7) < torch.tensor([7, 4, 1])[:, None]
    z.requires_grad_()
    (expected,) = torch.autograd.grad(layer.energy(z, mask).sum(), z)
    found = layer.gradient(z.mT, mask, rotary_tables(torch.arange(7), 8)).mT
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert found.abs().max() > 0.1


@pytest.mark.parametrize("hopfield", KINDS)
@torch.no_grad()
def test_the_energy_falls_with_each_step(hopfield):
    layer, z = built(hopfield, steps=1, step=0.02), draw(4, 16, 9)
    energies = [layer.energy(z)]
    for _ in range(20):
        z = layer(z)
        energies.append(layer.energy(z))
    assert (torch.stack(energies).diff(dim=0) < 0).all()


@pytest.mark.parametrize("hopfield", KINDS)
@torch.no_grad()
def test_many_steps_are_one_step_many_times(hopfield):
    layer, z = built(hopfield, steps=5), draw(2, 16, 9)
    one, again = with_steps(layer, 1), z
    for _ in range(5):
        again = one(again)
    assert torch.equal(layer(z), again)


@pytest.mark.parametrize("hopfield", KINDS)
@torch.no_grad()
def test_padding_does_not_matter(hopfield):
    layer, z = built(hopfield), draw(2, 16, 6)
    mask = torch.arange(11).expand(2, -1) < 6
    padded = pad(z, (0, 5), value=100.0)
    made = layer(padded, mask)
    torch.testing.assert_close(made[..., :6], layer(z), atol=1e-5, rtol=1e-5)
    assert torch.equal(made[..., 6:], padded[..., 6:])
    torch.testing.assert_close(layer.energy(padded, mask), layer.energy(z), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("frames", [1, 2, 300])
def test_any_length_and_at_first_next_to_nothing(frames):
    layer, z = EnergyTransformer(EnergyTransformerConfig(dim=16, heads=2)), draw(1, 16, frames)
    torch.testing.assert_close(layer(z), z, atol=1e-2, rtol=0)
    assert not torch.equal(layer(z), z)


@pytest.mark.parametrize("hopfield", KINDS)
def test_a_gradient_reaches_every_parameter(hopfield):
    layer, z = built(hopfield), draw(2, 16, 9).requires_grad_()
    layer(z).square().mean().backward()
    assert not [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert z.grad.abs().min() > 0


@pytest.mark.parametrize("hopfield", KINDS)
def test_it_learns_what_to_expect(hopfield):
    """Sequences of four vectors with noise on them: their direction comes back, the noise stays behind."""
    layer = built(hopfield, spread=0.05, steps=4, step=0.5)
    vectors = draw(4, 16).softmax(1)
    vectors = (vectors - vectors.mean(1, keepdim=True)) / vectors.std(1, keepdim=True, correction=0)
    clean = vectors[torch.randint(4, (8, 12), generator=torch.Generator().manual_seed(3))].mT
    noisy = clean + draw(8, 16, 12, seed=2)
    optimizer = torch.optim.Adam(layer.parameters(), lr=3e-2)

    def error(x: torch.Tensor) -> torch.Tensor:
        return (1 - torch.cosine_similarity(x, clean, dim=1)).mean()

    for _ in range(40):
        loss = error(layer(noisy))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * error(noisy)


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(ModelError, match="16 numbers can't be split into 3 heads"):
        EnergyTransformerConfig.parse({"dim": 16, "heads": 3}, "config.json")
