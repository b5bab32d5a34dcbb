"""What the flow's outline, spread and times promise; the verbs of every prior are in tests/contracts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cymatic.cond import Cond
from cymatic.priors import flow
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.signal.mel import MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=64, mels=20, fmax=4000)


def make(**settings: Any) -> FlowPrior:
    torch.manual_seed(0)
    prior = FlowPrior(FlowConfig(mel=SPEC, width=32, depth=1, heads=2, cond_dim=16, **settings)).eval()
    torch.nn.init.normal_(prior.write_patch.weight, std=0.1)
    return prior


def clean(prior: FlowPrior, x: torch.Tensor, t: float, log_spread: float) -> torch.Tensor:
    with torch.no_grad():
        prior.write_spread.bias.fill_(log_spread)
        cond = Cond(torch.randn(len(x), 2, 16), torch.ones(len(x), 2, dtype=torch.bool), torch.randn(len(x), 16))
        torch.manual_seed(1)
        given = prior._condition(cond)
        return prior._clean(x, torch.full((len(x),), t), torch.full((len(x),), x.shape[-1]), *given)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_clean_mel_is_what_to_expect_where_x_was_seen(t: float) -> None:
    prior, x = make(), torch.randn(2, 20, 13)
    torch.manual_seed(2)
    outline = clean(prior, x, t, -30.0)  # the least spread that may be said: 0.007
    torch.manual_seed(2)
    got = clean(prior, x, t, math.log(0.3))
    # Two sources of what x is: a normal around the outline, and x itself seen through noise of (1 - t) / t.
    own, seen = 1 / 0.3**2, (t / (1 - t)) ** 2
    assert torch.allclose(got, (own * outline + seen * x / t) / (own + seen), atol=2e-2)


def test_grain_passes_by_a_network_that_knows_nothing_of_it() -> None:
    prior = make()
    torch.nn.init.zeros_(prior.write_patch.weight)
    grain = 0.2 * torch.randn(4, 20, 64)
    t = 0.95
    x = (1 - t) * torch.randn_like(grain) + t * grain
    error = (clean(prior, x, t, math.log(flow.SPREAD_AT_FIRST)) - grain).square().mean()
    assert error < 0.2 * grain.square().mean()


def test_longer_sounds_are_met_earlier_and_all_times_are_met() -> None:
    generator = torch.Generator().manual_seed(0)
    normal, even = torch.randn(20_000, generator=generator), torch.rand(2, 20_000, generator=generator)
    middles = []
    for frames in (12, 50, 470):
        times = flow._times(normal, even, torch.full((20_000,), frames))
        assert times.min() > 0 and times.max() < 1
        assert (times > 0.8).float().mean() > 0.03
        middles.append(times.median().item())
    assert middles == sorted(middles, reverse=True)
    assert middles[1] == pytest.approx(torch.tensor(-0.8).sigmoid().item(), abs=0.03)


def test_the_loss_is_finite_at_both_ends_of_the_path() -> None:
    prior, x = make(), torch.randn(2, 20, 9)
    for t in (0.0, 1e-6, 1 - 1e-6):
        assert clean(prior, x, t, math.log(0.2)).isfinite().all()


@torch.inference_mode()
def test_guidance_acts_within_its_interval() -> None:
    prior = make()
    for p in prior.parameters():  # zero-initialised layers would hide what flows through them
        torch.nn.init.normal_(p, std=0.1)
    prior.steps_trained.fill_(1)
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(1, 4, 16, generator=generator)
    cond = Cond(tokens, torch.ones(1, 4, dtype=torch.bool), torch.nn.functional.normalize(tokens.sum(1), dim=-1))

    def sample(guidance: float, *interval: float) -> torch.Tensor:
        settings: dict[str, Any] = {"guidance": guidance, "guidance_interval": interval, "steps": 4}
        return prior.sample(cond, [1], lengths=torch.tensor([12]), **settings)[0]

    assert torch.equal(sample(2.0, 0.8, 0.9), sample(1.0, 0.0, 1.0)), "no step of four begins there"
    partly, wholly = sample(2.0, 0.0, 0.5), sample(2.0, 0.0, 1.0)
    assert (partly - wholly).abs().max() > 1e-4 < (partly - sample(1.0, 0.0, 1.0)).abs().max()
