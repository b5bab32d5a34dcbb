"""What the flow over grids does with patches, either half of a condition, masks and variations; the verbs of every
prior are in tests/contracts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss, normalize

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.media.picture import PictureSpec
from cymatic.nn.rotary import axial_tables, rotate
from cymatic.priors import PRIORS
from cymatic.priors.grid_flow import GridFlowConfig, GridFlowPrior
from cymatic.priors.rectified import halves, with_null
from cymatic.priors.samplers import SAMPLERS


def make(**settings: Any) -> GridFlowPrior:
    torch.manual_seed(0)
    values: dict[str, Any] = {"grid": (3, 4, 6), "width": 32, "depth": 2, "heads": 2, "cond_dim": 16, **settings}
    prior = GridFlowPrior(GridFlowConfig(**values)).eval()
    for p in prior.parameters():  # zero-initialised layers would hide what flows through them
        torch.nn.init.normal_(p, std=0.1)
    prior.fit_statistics(list(2 * torch.randn(5, *prior.config.shape) - 1))
    prior.steps_trained.fill_(1)
    return prior


def conds(items: int = 2) -> Cond:
    tokens = torch.randn(items, 3, 16, generator=torch.Generator().manual_seed(3))
    return Cond(tokens, torch.ones(items, 3, dtype=torch.bool), normalize(tokens.sum(1), dim=-1))


def target(prior: GridFlowPrior) -> torch.Tensor:
    return torch.randn(prior.config.shape, generator=torch.Generator().manual_seed(9))


@torch.inference_mode()
def test_either_half_of_a_condition_draws_alone() -> None:
    prior, both = make(), conds()
    tokens, vector = Cond(both.tokens, both.mask), Cond(vector=both.vector)
    none, every = torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    without = {
        "tokens": Cond(both.tokens, both.mask, both.vector, none, every),
        "vector": Cond(both.tokens, both.mask, both.vector, every, none),
    }
    made = {}
    for name, cond in (("tokens", tokens), ("vector", vector)):
        made[name] = prior.sample(cond, [1, 2], guidance=2.0)[0]
        torch.testing.assert_close(made[name], prior.sample(without[name], [1, 2], guidance=2.0)[0], atol=1e-5, rtol=0)
    made["both"] = prior.sample(both, [1, 2], guidance=2.0)[0]
    made["neither"] = prior.sample(both.null(), [1, 2], guidance=2.0)[0]
    names = list(made)
    for i, a in enumerate(names):
        assert all((made[a] - made[b]).abs().max() > 1e-3 for b in names[i + 1 :])


def test_patches_lie_where_they_are_read() -> None:
    prior = make(patch=2)
    x = torch.randn(2, 3, 4, 6)
    read: list[torch.Tensor] = []
    prior.read_patch.register_forward_hook(lambda layer, inputs, output: read.append(inputs[0]))
    prior.write_patch.register_forward_hook(lambda layer, inputs, output: read[0])
    spreads = torch.arange(18.0).view(1, 6, 3).expand(2, -1, -1) / 18 - 2
    prior.write_spread.register_forward_hook(lambda layer, inputs, output: spreads)
    found = prior._predict(x, torch.tensor([0.3, 0.6]), prior_given(prior))
    assert torch.equal(found.mean, x), "what is written as it was read is where it was"
    for row in range(2):
        for column in range(3):
            patch = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            place = 3 * row + column
            assert torch.equal(read[0][:, place], patch.flatten(1))
            spread = torch.as_tensor(found.spread)[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(spread, spreads[:, place].exp()[:, :, None, None].expand_as(spread))


def prior_given(prior: GridFlowPrior) -> Any:
    from cymatic.priors.rectified import with_null

    return with_null(conds(), prior.null)


def test_rotary_products_depend_on_distances_in_rows_and_in_columns() -> None:
    q, k = torch.randn(1, 1, 1, 16).expand(-1, -1, 4, -1), torch.randn(1, 1, 1, 16).expand(-1, -1, 4, -1)
    here = torch.tensor([[0, 0], [2, 5], [0, 0], [0, 0]])
    there = torch.tensor([[1, 3], [3, 8], [3, 1], [1, 2]])  # one down and three right, twice; another; another
    product = (rotate(q, axial_tables(here, 16)) * rotate(k, axial_tables(there, 16))).sum(-1)[0, 0]
    assert product[0] == pytest.approx(product[1].item(), abs=1e-4)
    assert (product[0] - product[2]).abs() > 1e-3 and (product[0] - product[3]).abs() > 1e-3


@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.inference_mode()
def test_what_a_mask_keeps_is_kept_exactly(sampler: str) -> None:
    prior = make()
    known, redraw = target(prior), torch.zeros(4, 6, dtype=torch.bool)
    redraw[1:3, 2:] = True
    cond, how = conds(1), {"steps": 3, "sampler": sampler}
    made, lengths = prior.inpaint(known, redraw, 2, cond=cond, seed=4, **how)
    assert lengths.tolist() == [6, 6]
    assert torch.equal(made[:, :, ~redraw], known.expand(2, -1, -1, -1)[:, :, ~redraw])
    assert (made[0] - made[1])[:, redraw].abs().min() > 0
    single, _ = prior.inpaint(known, redraw, 1, cond=cond, seed=5, **how)
    torch.testing.assert_close(single, made[1:], atol=1e-5, rtol=0)
    others, _ = prior.inpaint(known + 0.5 * ~redraw, redraw, 1, cond=cond, seed=5, **how)
    assert (others - single)[0, :, redraw].abs().max() > 1e-3, "what is kept is read"
    unmasked, _ = prior.inpaint(known, torch.ones_like(redraw), 2, cond=cond, seed=4, **how)
    torch.testing.assert_close(unmasked, prior.sample(cond.repeat(2), [4, 5], **how)[0], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_what_is_kept_lies_on_its_straight_path() -> None:
    """So the network has it before it as noisy as the rest."""
    prior, x = make(), []
    known, redraw = target(prior), torch.zeros(4, 6, dtype=torch.bool)
    prior.read_patch.register_forward_hook(lambda layer, inputs, output: x.append(inputs[0]))
    prior.inpaint(known, redraw, 1, seed=4, steps=4, sampler="euler", guidance=1.0)
    noise, data = prior._noise([4]), (known - prior.mean) / prior.std
    assert len(x) == 4
    for step, patches in enumerate(x):
        t = step / 4
        wanted = ((1 - t) * noise + t * data).permute(0, 2, 3, 1).flatten(1, 2)
        torch.testing.assert_close(patches, wanted, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_variations_go_from_the_same_to_another() -> None:
    prior, cond = make(), conds(1)
    known = target(prior)
    for guidance in (1.0, 2.0):
        how = {"cond": cond, "seed": 7, "guidance": guidance, "steps": 4}
        assert torch.equal(prior.vary(known, 2, 0.0, **how)[0], known.expand(2, -1, -1, -1))
        whole, lengths = prior.vary(known, 2, 1.0, **how)
        free, _ = prior.sample(cond.repeat(2), [7, 8], guidance=guidance, steps=4)
        assert torch.equal(whole, free) and lengths.tolist() == [6, 6]
    far = [mse_loss(prior.vary(known, 1, amount, seed=7, steps=8)[0][0], known).item() for amount in (0.1, 0.4, 1.0)]
    assert far == sorted(far) and far[0] < 0.2 * far[2]
    for amount in (-0.1, 1.5, float("nan")):
        with pytest.raises(Error, match="not between 0"):
            prior.vary(known, 1, amount)


@pytest.mark.parametrize("sampler", SAMPLERS)
@torch.inference_mode()
def test_estimates_come_after_every_step_and_change_nothing(sampler: str) -> None:
    prior, heard, steps = make(), [], []
    how = {"steps": 3, "sampler": sampler, "guidance": 2.0}
    made, _ = prior.sample(
        conds(), [1, 2], on_estimate=lambda *told: heard.append(told), on_step=lambda *told: steps.append(told), **how
    )
    assert torch.equal(made, prior.sample(conds(), [1, 2], **how)[0])
    assert [told[:2] for told in heard] == steps == [(1, 3), (2, 3), (3, 3)]
    assert all(told[2].shape == made.shape for told in heard)
    with torch.no_grad():
        prior.write_spread.weight.zero_()
        prior.write_spread.bias.fill_(-30.0)  # the least that may be said of a spread
    heard.clear()
    made, _ = prior.sample(conds(), [1, 2], on_estimate=lambda *told: heard.append(told), **{**how, "sampler": "euler"})
    torch.testing.assert_close(heard[-1][2], made, atol=0.1, rtol=0)


def test_the_statistics_of_each_channel_are_saved(tmp_path: Any) -> None:
    prior = make()
    mean, std = torch.tensor([[0.0, 3.0, -2.0], [1.0, 5.0, 1e-9]])[..., None, None]
    data = mean + std * torch.randn(6, 3, 4, 6)
    prior.fit_statistics(list(data))
    assert prior.mean.flatten().tolist() == pytest.approx(data.mean((0, 2, 3)).tolist(), abs=1e-5)
    assert prior.std.flatten()[:2].tolist() == pytest.approx(data.std((0, 2, 3))[:2].tolist(), rel=0.05)
    assert prior.std.flatten()[2] == pytest.approx(0.01), "a channel that never changes is not divided by nothing"
    save_part(tmp_path, prior)
    again: Any = load_part(tmp_path, PRIORS)
    assert torch.equal(again.mean, prior.mean) and torch.equal(again.std, prior.std)


def test_shards_of_a_batch_come_to_the_whole() -> None:
    prior, items = make(), torch.randn(5, 3, 4, 6)
    cond, lengths = conds(5), torch.full((5,), 6)
    whole = prior.loss(items, lengths, cond, torch.Generator().manual_seed(1))["loss"]
    parts = []
    for rank in range(2):
        mine = slice(rank, None, 2)
        assert cond.tokens is not None and cond.mask is not None and cond.vector is not None
        part = Cond(cond.tokens[mine], cond.mask[mine], cond.vector[mine])
        shard = BatchShard.of(lengths.tolist(), rank, 2)
        parts.append(prior.loss(items[mine], lengths[mine], part, torch.Generator().manual_seed(1), shard)["loss"])
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_other_sizes_are_named() -> None:
    prior = make()
    message = "3 x 4 x 5 numbers came, and this prior is over 3 x 4 x 6 numbers"
    with pytest.raises(Error, match=message):
        prior.loss(torch.zeros(2, 3, 4, 5), torch.tensor([5, 5]), conds(), torch.Generator())
    with pytest.raises(Error, match=message):
        prior.fit_statistics([torch.zeros(3, 4, 6), torch.zeros(3, 4, 5)])
    with pytest.raises(Error, match=r"lengths of \[4\] were asked for; this prior makes 6 columns"):
        prior.sample(conds(1), [0], lengths=torch.tensor([4]))
    with pytest.raises(ModelError, match="makes 3 x 4 x 8 numbers, and this one 3 x 4 x 6 numbers; take the same"):
        prior.take_over(make(grid=(3, 4, 8)), 6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 4}, "4 x 6 is no whole number of patches of 4 x 4"),
        ({"heads": 3}, "not a multiple of four times the heads"),
        ({"grid": (3, 0, 6)}, "no whole number of patches"),
        ({"grid": (3, 4096, 4096)}, "too large for a patch of 1"),
        ({"picture": PictureSpec(size=4096), "patch": 256}, "too large for a patch of 256"),
        ({"width": 8192, "heads": 2, "depth": 128}, "more than 1,000,000,000 weights"),
    ],
)
def test_sizes_that_can_not_be_are_refused(settings: dict[str, Any], message: str) -> None:
    values = {"kind": "grid-flow", "grid": (3, 4, 6), "width": 32, "depth": 2, "heads": 2, **settings}
    with pytest.raises(ModelError, match=message):
        GridFlowConfig.parse(values, "the prior")


@pytest.mark.slow
def test_eight_pictures_are_learned_by_heart() -> None:
    pictures = torch.zeros(8, 3, 16, 16)
    for i in range(8):  # a square of its own colour in its own quarter, on its own ground
        top, left = 8 * (i % 2), 8 * (i // 2 % 2)
        pictures[i] = torch.tensor([0.9, 0.8, 1.0])[:, None, None] * (0.3 + 0.08 * i)
        colour = torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(i))
        pictures[i, :, top + 1 : top + 7, left + 1 : left + 7] = colour
    torch.manual_seed(0)
    prior = GridFlowPrior(
        GridFlowConfig(picture=PictureSpec(size=16), patch=4, width=64, depth=2, heads=2, cond_dim=16, centre=-0.8)
    )
    prior.fit_statistics(list(pictures))
    tokens = torch.randn(8, 2, 16)
    cond = Cond(tokens, torch.ones(8, 2, dtype=torch.bool), normalize(tokens.sum(1), dim=-1))
    optimiser = torch.optim.AdamW(prior.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, 700)
    lengths = torch.full((8,), 16)
    for step in range(700):
        generator = torch.Generator().manual_seed(step)
        loss = prior.loss(pictures, lengths, cond.drop(0.3, generator, vector=0.3), generator)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    prior.steps_trained.fill_(1)
    with torch.inference_mode():
        for given in (cond, Cond(cond.tokens, cond.mask), Cond(vector=cond.vector)):
            made, _ = prior.eval().sample(given, range(8), steps=8, sampler="heun", guidance=1.0)
            errors = (made[:, None] - pictures[None]).square().mean((2, 3, 4))
            assert errors.argmin(1).tolist() == list(range(8)), "each prompt gives its own picture"
            assert errors.diagonal().max() < 0.01, "within 20 dB"


def test_halves_without_padding_have_the_loss_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    prior, n = make(), 5
    tokens = torch.randn(n, 7, 16, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(7) < torch.tensor([2, 7, 1, 3, 2])[:, None]
    cond = Cond(tokens, mask, normalize(tokens.sum(1), dim=-1)).drop(0.3, torch.Generator().manual_seed(0), vector=0.3)
    data = torch.randn(n, *prior.config.shape, generator=torch.Generator().manual_seed(1))

    def loss() -> float:
        return prior.loss(data, torch.full((n,), 6), cond, torch.Generator().manual_seed(2))["loss"].item()

    by_halves = loss()
    parts = halves(with_null(cond, prior.null))
    assert sorted(int(row) for rows, _ in parts for row in rows) == list(range(n))
    for rows, given in parts:
        assert given.tokens.shape[:2] == given.mask.shape and len(given.vector) == len(rows)
        assert given.mask.any(0).all()
    monkeypatch.setattr("cymatic.priors.grid_flow.halves", lambda given: [(torch.arange(len(given.mask)), given)])
    assert by_halves == pytest.approx(loss(), rel=1e-5)
