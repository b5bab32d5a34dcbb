"""Quantizers without a codebook against naive ones, and their entropies by hand."""

import pytest
import torch
from tests.helpers import draw

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error, ModelError
from cymatic.quantizers import finite
from cymatic.quantizers.finite import (
    FiniteScalarQuantizer,
    FiniteScalarQuantizerConfig,
    LookupFreeQuantizer,
    LookupFreeQuantizerConfig,
)


def scalar(**settings) -> FiniteScalarQuantizer:
    torch.manual_seed(0)
    return FiniteScalarQuantizer(FiniteScalarQuantizerConfig(**{"dim": 6, "steps": (4, 5, 3), **settings})).train()


def free(**settings) -> LookupFreeQuantizer:
    torch.manual_seed(0)
    return LookupFreeQuantizer(LookupFreeQuantizerConfig(**{"dim": 6, "bits": 3, **settings})).train()


def test_sizes_are_products_and_powers():
    assert scalar(levels=2).sizes == (60, 60) and free(levels=3).sizes == (8, 8, 8)
    assert FiniteScalarQuantizer(FiniteScalarQuantizerConfig(dim=4)).sizes == (1000,)


def test_rounding_is_the_naive_one_and_levels_refine_it():
    quantizer = scalar(levels=3).eval()
    z = 3 * draw(4, 6, 400)
    bounded = quantizer.in_proj(z.mT).tanh()
    codes = quantizer.encode(z)
    for number, steps in enumerate((4, 5, 3)):
        middles = torch.tensor([(2 * c + 1) / steps - 1 for c in range(steps)])
        residual = bounded[..., number]
        before = [1, 4, 20][number]
        for level in range(3):
            nearest = (residual[..., None] - middles / steps**level).abs().argmin(-1)
            assert torch.equal(codes[:, level] // before % steps, nearest)
            residual = residual - middles[nearest] / steps**level
            assert residual.abs().max() <= 1 / steps ** (level + 1) + 1e-6
    assert len(codes[:, 0].unique()) == 60, "every code can be had"


@pytest.mark.parametrize("make", [scalar, free])
def test_fewer_levels_are_the_first_of_more_and_stand_for_less(make):
    quantizer = make(levels=4).eval()
    z = draw(2, 6, 30)
    codes = quantizer.encode(z)
    wanted = quantizer.out_proj(quantizer._bounded(z) if make is scalar else quantizer.in_proj(z.mT).clamp(-2, 2)).mT
    errors = []
    for levels in (1, 2, 3, 4):
        assert torch.equal(quantizer.encode(z, levels), codes[:, :levels])
        errors.append(float((quantizer.lookup(codes[:, :levels]) - wanted).detach().square().mean()))
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0] / 10
    with pytest.raises(Error, match="5 levels were asked for and there are 4"):
        quantizer.encode(z, 5)
    with pytest.raises(Error, match="codes of 5 levels and this quantizer has 4"):
        quantizer.lookup(torch.cat([codes, codes[:, :1]], 1))


def test_signs_are_bits():
    quantizer = free(levels=2).eval()
    z = draw(2, 6, 40)
    x = quantizer.in_proj(z.mT)
    left = x - torch.where(x > 0, 1.0, -1.0)
    expected = torch.stack([sum((r[..., i] > 0).long() << i for i in range(3)) for r in (x, left)], 1)
    assert torch.equal(quantizer.encode(z), expected)


@pytest.mark.parametrize("make", [scalar, free])
def test_the_gradient_goes_straight_through(make):
    quantizer = make(levels=2).eval()
    z = draw(2, 6, 5).requires_grad_()
    (found,) = torch.autograd.grad(quantizer(z).z.sum(), z)
    inside = quantizer._bounded(z) if make is scalar else quantizer.in_proj(z.mT)
    (expected,) = torch.autograd.grad(quantizer.out_proj(inside).sum(), z)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("make", [scalar, free])
def test_dropout_uses_the_first_levels_of_some_items(make):
    quantizer = make(levels=3, dropout=1.0)
    z, generator = draw(12, 6, 5), torch.Generator().manual_seed(3)
    out = quantizer(z, generator)
    drawn = torch.rand(12, 2, generator=torch.Generator().manual_seed(3))
    most = (drawn[:, 1] * 3).long() + 1
    assert len(most.unique()) == 3 and torch.equal(out.codes, quantizer.encode(z))
    for i, levels in enumerate(most):
        torch.testing.assert_close(out.z[i : i + 1], quantizer.lookup(out.codes[i : i + 1, :levels]))
    with pytest.raises(Error, match="give it a generator"):
        quantizer(z)


def test_the_entropies_are_those_of_all_codes_counted_out():
    quantizer = free(levels=2, temperature=0.7, entropy=0.3, diversity=0.8, beta=0.5)
    z, mask = draw(3, 6, 20), torch.arange(20) < torch.tensor([20, 5, 0])[:, None]
    out = quantizer(z, mask=mask)
    table = torch.stack([torch.arange(8) >> i & 1 for i in range(3)], 1) * 2.0 - 1
    residual, entropy, commitment = quantizer.in_proj(z.mT)[mask], 0, 0
    for level in range(2):
        scaled = residual * 2**level
        p = torch.softmax(-(scaled[:, None] - table).square().sum(-1) / 0.7, -1)
        h = -(p * p.log()).sum(-1).mean()
        mean = p.mean(0)
        entropy = entropy + h + 0.8 * (mean * mean.log()).sum()
        chosen = torch.where(residual > 0, 1.0, -1.0) / 2**level
        commitment = commitment + (residual - chosen).square().mean()
        residual = residual - chosen
    torch.testing.assert_close(out.losses, {"commitment": 0.5 * commitment / 2, "entropy": 0.3 * entropy / 2})


def test_many_bits_are_counted_in_groups():
    quantizer = free(bits=13, entropy=1.0, diversity=1.0)
    z = draw(1, 6, 50)
    probabilities = torch.sigmoid(4 * quantizer.in_proj(z.mT)[0])
    sure = -(probabilities.log() * probabilities + (1 - probabilities).log() * (1 - probabilities)).sum(1).mean()
    diverse = 0
    for bits in (range(10), range(10, 13)):
        joint = torch.ones(50, 1)
        for bit in bits:
            p = probabilities[:, bit, None]
            joint = torch.cat([joint * (1 - p), joint * p], 1)
        diverse = diverse - (joint.mean(0) * joint.mean(0).log()).sum()
    torch.testing.assert_close(quantizer(z).losses["entropy"], sure - diverse, rtol=1e-4, atol=1e-4)


def test_the_shares_of_processes_have_the_entropy_and_gradient_of_the_whole(monkeypatch):
    z, lengths, asked = draw(5, 6, 9), [9, 5, 1, 7, 2], []
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]

    def loss(items: slice, shard: BatchShard | None) -> tuple[torch.Tensor, torch.Tensor]:
        quantizer = free(levels=2, dropout=0.7)
        out = quantizer(z[items], torch.Generator().manual_seed(1), mask[items], shard)
        total = sum(out.losses.values()) * (1.0 if shard is None else shard.frames_weight)
        return total.detach(), torch.autograd.grad(total, quantizer.in_proj.weight)[0]

    monkeypatch.setattr(finite, "total", lambda x: asked.append(x) or x)
    whole, gradient = loss(slice(None), None)
    for r in range(2):
        answers = iter(asked)
        monkeypatch.setattr(finite, "total", lambda x, answers=answers: next(answers))
        value, part = loss(slice(r, None, 2), BatchShard.of(lengths, r, 2))
        whole, gradient = whole - value / 2, gradient - part / 2
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0)


def test_the_entropy_makes_choices_sure_and_uses_all_codes():
    quantizer = free(entropy=1.0, beta=0.0)
    z, optimiser = draw(8, 6, 50) * 0.3 + 0.5, torch.optim.Adam(quantizer.parameters(), lr=0.02)
    before = len(quantizer.encode(z).unique()), quantizer.in_proj(z.mT).abs().mean()
    for _ in range(150):
        optimiser.zero_grad()
        quantizer(z).losses["entropy"].backward()
        optimiser.step()
    counts = torch.bincount(quantizer.encode(z).flatten(), minlength=8) / 400
    assert counts.min() > 0.08 and quantizer.in_proj(z.mT).abs().mean() > before[1]


@pytest.mark.parametrize(
    ("config", "wrong", "said"),
    [
        (FiniteScalarQuantizerConfig, {"steps": []}, "steps"),
        (FiniteScalarQuantizerConfig, {"steps": [1, 4]}, "steps"),
        (FiniteScalarQuantizerConfig, {"steps": [1024, 1024, 1024]}, "steps"),
        (LookupFreeQuantizerConfig, {"bits": 0}, "bits"),
        (LookupFreeQuantizerConfig, {"temperature": 0.0}, "temperature"),
    ],
)
def test_wrong_settings_are_named(config, wrong, said):
    with pytest.raises(ModelError, match=said):
        config.parse({"dim": 4, **wrong}, "here")
