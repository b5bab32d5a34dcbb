"""What every prior over mels promises. A new one is one more row in ROWS."""

import math

import pytest
import torch

from cymatic.cond import Cond
from cymatic.errors import ModelError
from cymatic.priors import PRIORS
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.signal.mel import MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)


def flow(patch: int) -> FlowPrior:
    torch.manual_seed(0)
    prior = FlowPrior(FlowConfig(mel=SPEC, cond_dim=16, width=32, depth=2, heads=2, patch=patch))
    for p in prior.parameters():  # zero-initialised layers would hide what flows through them
        torch.nn.init.normal_(p, std=0.1)
    prior.fit_statistics([torch.randn(10, 30) * 2 - 5])
    prior.steps_trained.fill_(1)
    return prior.eval()


ROWS = {"flow, patch 1": flow(1), "flow, patch 2": flow(2), "flow, patch 3": flow(3)}
every_prior = pytest.mark.parametrize("prior", ROWS.values(), ids=ROWS)


def test_every_prior_is_here():
    assert {type(prior) for prior in ROWS.values()} == set(PRIORS)


def conds(lengths: list[int]) -> Cond:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(len(lengths), max(lengths), 16, generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Cond(tokens, mask, torch.nn.functional.normalize((tokens * mask[..., None]).sum(1), dim=-1))


def item(cond: Cond, i: int) -> Cond:
    n = int(cond.mask[i].sum())
    return Cond(cond.tokens[i : i + 1, :n], cond.mask[i : i + 1, :n], cond.vector[i : i + 1])


@every_prior
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@torch.inference_mode()
def test_a_batch_equals_its_items(prior, guidance):
    cond, frames, seeds = conds([2, 5, 3]), torch.tensor([7, 30, 12]), [4, 5, 6]
    mel, lengths = prior.sample(cond, seeds, frames=frames, guidance=guidance, steps=3)
    assert mel.shape == (3, 10, 30)
    assert torch.equal(lengths, frames)
    for i in range(3):
        alone, _ = prior.sample(item(cond, i), [seeds[i]], frames=frames[i : i + 1], guidance=guidance, steps=3)
        torch.testing.assert_close(mel[i : i + 1, :, : frames[i]], alone, atol=1e-5, rtol=0)
        assert torch.equal(mel[i, :, frames[i] :], torch.full_like(mel[i, :, frames[i] :], math.log(SPEC.floor)))


@every_prior
@torch.inference_mode()
def test_same_seed_same_result_and_other_seed_another(prior):
    cond = conds([4])
    torch.manual_seed(1)
    first, length = prior.sample(cond, [7], steps=2)
    torch.manual_seed(2)
    again, _ = prior.sample(cond, [7], steps=2)
    other, _ = prior.sample(cond, [8], steps=2, frames=length)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@every_prior
@torch.inference_mode()
def test_guidance_one_is_no_guidance_and_zero_ignores_the_condition(prior):
    a, b = item(conds([4, 2]), 0), item(conds([4, 2]), 1)
    frames = torch.tensor([12])
    plain, _ = prior.sample(a, [1], frames=frames, guidance=1.0, steps=2)
    nearly, _ = prior.sample(a, [1], frames=frames, guidance=1.0 + 1e-6, steps=2)
    torch.testing.assert_close(plain, nearly, atol=1e-3, rtol=0)
    ignoring = [prior.sample(c, [1], frames=frames, guidance=0.0, steps=2)[0] for c in (a, b)]
    torch.testing.assert_close(*ignoring, atol=1e-5, rtol=0)
    heard = [prior.sample(c, [1], frames=frames, guidance=1.0, steps=2)[0] for c in (a, b)]
    assert (heard[0] - heard[1]).abs().max() > 1e-3, "the condition must reach the result"


@every_prior
@torch.inference_mode()
def test_guidance_acts_within_its_interval(prior):
    cond, frames = conds([4]), torch.tensor([12])

    def sample(guidance, **how):
        return prior.sample(cond, [1], frames=frames, guidance=guidance, steps=4, **how)[0]

    assert torch.equal(sample(2.0, interval=(0.0, 1.0)), sample(2.0))
    assert torch.equal(sample(2.0, interval=(0.8, 0.9)), sample(1.0)), "no step of four begins there"
    partly = sample(2.0, interval=(0.0, 0.5))
    assert (partly - sample(2.0)).abs().max() > 1e-4 < (partly - sample(1.0)).abs().max()


@every_prior
def test_padding_does_not_reach_the_loss(prior):
    cond, frames = conds([3, 3]), torch.tensor([9, 9])
    target = torch.randn(2, 10, 9)
    padded = torch.nn.functional.pad(target, (0, 6), value=1e3)
    garbage = torch.nn.functional.pad(target, (0, 6), value=-1e3)
    losses = [prior.loss(t, frames, cond, torch.Generator().manual_seed(0))["loss"] for t in (padded, garbage)]
    torch.testing.assert_close(*losses)


@every_prior
def test_a_gradient_reaches_every_parameter(prior):
    cond = conds([3, 5, 4, 2]).drop(0.5, torch.Generator().manual_seed(0))
    assert cond.tokens_dropped.any() and not cond.tokens_dropped.all()
    prior.zero_grad()
    prior.loss(torch.randn(4, 10, 9), torch.tensor([9, 5, 7, 8]), cond, torch.Generator())["loss"].backward()
    without = [name for name, p in prior.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not without
    prior.zero_grad(set_to_none=True)


@every_prior
@torch.inference_mode()
def test_lengths_are_drawn_within_what_was_trained_on(prior):
    _, lengths = prior.sample(conds([4]).repeat(50), range(50), steps=1)
    assert lengths.min() >= 1
    assert lengths.max() <= prior.longest
    assert lengths.unique().numel() > 1


def test_a_prior_that_was_never_trained_refuses():
    prior = flow(2)
    prior.steps_trained.zero_()
    with pytest.raises(ModelError, match="never trained"):
        prior.sample(conds([2]), [0])
    prior.sample(conds([2]), [0], frames=torch.tensor([3]), steps=1, allow_untrained=True)
