"""The GPT-VAE: its terms against closed forms, its verbs, its two stages."""

import math

import pytest
import torch

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error
from cymatic.priors.gpt import GPTConfig
from cymatic.priors.gpt_vae import GPTVAE, GPTVAEConfig
from cymatic.priors.variational import (
    active_units,
    divergence,
    free_bits,
    log_density,
    mutual_information,
    ramp,
)


def model(**changes) -> GPTVAE:
    torch.manual_seed(0)
    shape = GPTConfig(codes=20, rows=3, longest=8, width=32, depth=1, heads=2, cond_dim=None)
    plain = {"free_bits": 0, "target": 0.0, "kl_start": 1.0}  # the whole KL from the first step on
    made = GPTVAE(GPTVAEConfig(**{"decoder": shape, "latent": 6, **plain, **changes}))
    for p in made.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.25)
    made.steps_trained.fill_(1)
    return made.eval()


def grids(count: int, columns: int = 6) -> torch.Tensor:
    return torch.randint(20, (count, 3, columns), generator=torch.Generator().manual_seed(1))


COLUMNS = torch.tensor([6, 4, 5])


def posterior(items: int, dim: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return spread * torch.randn(items, dim, generator=generator), torch.randn(items, dim, generator=generator) / 4


def test_divergence_is_the_mean_log_ratio():
    mean, log_var = posterior(3, 2)
    z = mean + (0.5 * log_var).exp() * torch.randn(200_000, 3, 2, generator=torch.Generator().manual_seed(1))
    ratio = log_density(z, mean, log_var) - log_density(z, torch.zeros(2), torch.zeros(2))
    torch.testing.assert_close(divergence(mean, log_var).sum(1), ratio.mean(0), atol=0.02, rtol=0)
    assert not divergence(torch.zeros(2, 4), torch.zeros(2, 4)).any()
    normal = torch.distributions.Normal(mean[0], (0.5 * log_var[0]).exp())
    torch.testing.assert_close(log_density(z[0, 0], mean[0], log_var[0]), normal.log_prob(z[0, 0]).sum())


def test_free_bits():
    kl = torch.tensor([[0.1, 0.3], [2.0, 0.2], [1.5, 1.5]])
    assert free_bits(kl, 0, 1.0) == pytest.approx(5.6 / 3)
    assert free_bits(kl, 1, 1.0) == pytest.approx((2.2 + 3.0) / 3), "the first item's 0.4 are free"
    assert free_bits(kl, 2, 1.0) == pytest.approx((2.0 + 3.0) / 3), "what is at most 1 / 2 in a dimension is free"
    assert free_bits(kl, 3, 1.0) == pytest.approx(5.6 / 3)
    assert free_bits(kl, 3, 2.0) == 0
    assert free_bits(kl, 1, 2.2) == pytest.approx(3.0 / 3), "the target itself is free"


def test_the_ramp():
    assert [ramp(step, 0.0, 10) for step in (0, 5, 10, 50)] == [0.0, 0.5, 1.0, 1.0]
    assert ramp(0, 1.0, 10) == ramp(0, 0.2, 0) == 1.0
    assert ramp(5, 0.5, 10) == 0.75


def test_mutual_information_is_nothing_or_all():
    same = torch.zeros(64, 3)
    assert mutual_information(same, same, torch.Generator().manual_seed(0)) == pytest.approx(0, abs=0.2)
    apart = 100 * torch.arange(64.0)[:, None].expand(64, 3)
    assert mutual_information(apart, same, torch.Generator().manual_seed(0)) == pytest.approx(math.log(64), abs=0.2)


def test_mutual_information_of_a_normal_channel():
    """x ~ N(0, s²), z = x + N(0, 1): log(1 + s²) / 2 nats in each dimension."""
    mean, _ = posterior(3000, 1, spread=2.0)
    found = mutual_information(mean, torch.zeros_like(mean), torch.Generator().manual_seed(1))
    assert found == pytest.approx(0.5 * math.log(5), abs=0.05)


def test_active_units():
    mean = torch.randn(100, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.0, 0.05, 0.2])
    assert active_units(mean) == 2


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_loss_is_likelihood_and_weighted_divergence(reduction):
    vae, codes = model(reduction=reduction, beta=2.0, kl_start=0.0, warmup=8), grids(3)
    # Two of eight steps of the ramp: a quarter of 2.
    terms = [vae.loss(codes, COLUMNS, None, torch.Generator().manual_seed(0), step=step) for step in (0, 2, 50, None)]
    assert terms[2]["loss"] == terms[3]["loss"] > terms[1]["loss"], (
        "the whole of it once it is warm, and without a step"
    )
    mean, log_var = vae.encode(codes, COLUMNS)
    kl = divergence(mean, log_var).sum(1).mean()
    per_item = 15 if reduction == "sum" else 1  # codes
    torch.testing.assert_close(terms[0]["kl"], kl)
    torch.testing.assert_close(terms[0]["loss"], terms[0]["nll"] * per_item)
    torch.testing.assert_close(terms[1]["loss"] - terms[0]["loss"], 0.5 * kl * per_item / 15, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_shares_of_a_batch_make_its_loss(reduction):
    vae, codes = model(reduction=reduction), grids(3)
    whole = vae.loss(codes, COLUMNS, None, torch.Generator().manual_seed(2))
    parts = []
    for rank in range(2):
        own, generator = slice(rank, None, 2), torch.Generator().manual_seed(2)
        shard = BatchShard.of(COLUMNS.tolist(), rank, 2)
        parts.append(vae.loss(codes[own], COLUMNS[own], None, generator, shard))
    if reduction == "sum":
        for name in whole:
            torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, whole[name])
    torch.testing.assert_close((parts[0]["nll"] + parts[1]["nll"]) / 2, whole["nll"])


@pytest.mark.parametrize("pool", ["last", "mean"])
@torch.no_grad()
def test_an_item_has_the_same_latent_alone_and_in_a_batch(pool):
    vae, codes = model(pool=pool), grids(3)
    mean, log_var = vae.encode(codes, COLUMNS)
    for i, n in enumerate(COLUMNS.tolist()):
        alone = vae.encode(codes[i : i + 1, :, :n], COLUMNS[i : i + 1])
        torch.testing.assert_close((mean[i : i + 1], log_var[i : i + 1]), alone, atol=1e-5, rtol=0)
    turned = codes.clone()
    turned[:, :, 0] = (codes[:, :, 0] + 1) % 20
    assert (vae.encode(turned, COLUMNS)[0] - mean).abs().min(1).values.min() > 0, "it looks both ways"


@torch.no_grad()
def test_a_variance_that_is_fixed():
    vae = model(variance=0.25)
    mean, log_var = vae.encode(grids(3), COLUMNS)
    assert mean.shape == (3, 6)
    torch.testing.assert_close(log_var.exp(), torch.full((3, 6), 0.25))


@torch.no_grad()
def test_more_draws_bound_the_likelihood_more_tightly():
    vae, codes = model(), grids(3)
    generator = torch.Generator().manual_seed(0)
    bounds = []
    for draws, rounds in ((1, 60), (20, 6)):
        runs = [vae.importance_weighted_nll(codes, COLUMNS, None, generator, draws=draws) for _ in range(rounds)]
        bounds.append(torch.stack(runs).mean(0))
    assert (bounds[1] < bounds[0]).all()
    terms = [vae.loss(codes, COLUMNS, None, torch.Generator().manual_seed(s))["loss"] for s in range(60)]
    torch.testing.assert_close(bounds[0].mean(), torch.stack(terms).mean(), rtol=0.02, atol=0)


@torch.no_grad()
def test_a_latent_decides_what_is_said_and_is_drawn_from_the_seed():
    vae, columns = model(), torch.tensor([8])
    z = torch.randn(2, 1, 6, generator=torch.Generator().manual_seed(0))
    made = [vae.sample(None, [0], latent=one, lengths=columns, greedy=True)[0] for one in z]
    assert not torch.equal(made[0], made[1])
    drawn_one = vae.drawn_latents([5])
    assert torch.equal(
        vae.sample(None, [5], lengths=columns)[0], vae.sample(None, [5], latent=drawn_one, lengths=columns)[0]
    )
    with pytest.raises(Error, match=r"latents of \[1, 5\] came for 1 items; give \[1, 6\]"):
        vae.sample(None, [0], latent=torch.zeros(1, 5))


@torch.no_grad()
def test_blends_go_from_one_to_the_other():
    vae, a, b = model(), grids(1, 8)[0], grids(2, 4)[1]
    codes, columns = vae.blend(a, b, 5, greedy=True)
    assert columns.tolist() == [8, 7, 6, 5, 4]
    for end, source in ((0, a), (4, b)):
        mean, _ = vae.encode(source[None], torch.tensor([source.shape[1]]))
        own, _ = vae.sample(None, [0], latent=mean, lengths=torch.tensor([source.shape[1]]), greedy=True)
        assert torch.equal(codes[end, :, : source.shape[1]], own[0])
    with pytest.raises(Error, match="2 or more"):
        vae.blend(a, b, 1)


@torch.no_grad()
def test_variations_stay_near_as_far_as_they_are_told():
    vae, codes = model(), grids(1, 8)[0]
    mean, _ = vae.encode(codes[None], torch.tensor([8]))
    own, _ = vae.sample(None, [0], latent=mean, lengths=torch.tensor([8]), greedy=True)
    still, columns = vae.vary(codes, 3, 0.0, greedy=True)
    assert torch.equal(still, own.expand(3, -1, -1))
    assert columns.tolist() == [8, 8, 8]
    fresh, _ = vae.vary(codes, 2, 1.0, seed=7, greedy=True)
    assert torch.equal(fresh[1], vae.sample(None, [8], lengths=torch.tensor([8]), greedy=True)[0][0])
    with pytest.raises(Error, match="between 0"):
        vae.vary(codes, 1, 1.5)


def test_the_second_stage_takes_the_encoder_and_nothing_else():
    first, second = model(), model()
    for p in first.parameters():
        torch.nn.init.normal_(p, std=0.3)
    before = {name: p.clone() for name, p in second.named_parameters()}
    second.take_encoder(first)
    for name, p in second.named_parameters():
        taken = name.startswith(("encoder.", "write_latent."))
        assert torch.equal(p, dict(first.named_parameters())[name] if taken else before[name]), name
    with pytest.raises(Error, match="differ in size"):
        second.take_encoder(model(latent=5))


def test_eight_sequences_are_kept_in_their_latents():
    torch.manual_seed(0)
    shape = GPTConfig(codes=20, rows=3, longest=8, width=48, depth=2, heads=2, cond_dim=None)
    vae = GPTVAE(GPTVAEConfig(decoder=shape, latent=8, reduction="mean", beta=0.02, warmup=200, free_bits=0))
    codes, columns = grids(8, 8), torch.tensor([8, 3, 5, 6, 2, 7, 4, 8])
    optimizer = torch.optim.AdamW(vae.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(0)
    for i in range(250):
        optimizer.zero_grad()
        terms = vae.loss(codes, columns, None, generator, step=i)
        terms["loss"].backward()
        optimizer.step()
    assert terms["nll"] < 0.1
    vae.steps_trained.fill_(250)
    with torch.no_grad():
        mean, log_var = vae.eval().encode(codes, columns)
        made, lengths = vae.sample(None, range(8), latent=mean, greedy=True)
    assert torch.equal(lengths, columns)
    assert torch.equal(made, codes.masked_fill(torch.arange(8) >= columns[:, None, None], 0))
    assert 1.2 < mutual_information(mean, log_var, generator) < 1.1 * math.log(8)
