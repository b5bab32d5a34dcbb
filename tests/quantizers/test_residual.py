"""The residual quantizer against a naive one, by hand, and with two processes."""

from itertools import pairwise

import pytest
import torch
from tests.helpers import draw, generator, side_by_side
from torch.nn.functional import normalize

from cymatic.batch_shard import BatchShard
from cymatic.errors import Error, ModelError
from cymatic.quantizers.learning import _highest, levels_used
from cymatic.quantizers.maps import MapConfig
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig


def build(levels: int = 3, size: int = 8, dim: int = 4, *, begun: bool = True, **settings) -> ResidualQuantizer:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(ResidualQuantizerConfig(levels=levels, size=size, dim=dim, **settings))
    if begun:
        quantizer.batches.fill_(1)
    return quantizer.train()


def sounds(items: int, seed: int = 0, dim: int = 16) -> torch.Tensor:
    """Vectors near a few curved lines, as those of sounds are: `[items, dim, 50]`."""
    frame = draw(dim, 3, seed=99)
    steps = draw(items, 3, 50, seed=seed).cumsum(-1) / 5
    return torch.tanh(frame @ steps) + 0.05 * draw(items, dim, 50, seed=seed + 1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_codes_and_sum_are_the_naive_ones(metric):
    quantizer = build(metric=metric, size=50).eval()
    z = draw(4, 4, 11, 3)
    residual, given, codes = z.movedim(1, -1).reshape(-1, 4), torch.zeros(4 * 33, 4), []
    for book in quantizer.codebooks:
        a, b = (normalize(residual, dim=-1), normalize(book, dim=-1)) if metric == "cosine" else (residual, book)
        codes.append(torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").argmin(1))
        given, residual = given + book[codes[-1]], residual - book[codes[-1]]
    out = quantizer(z)
    assert torch.equal(out.codes.movedim(1, -1).reshape(-1, 3), torch.stack(codes, 1))
    torch.testing.assert_close(out.z.movedim(1, -1).reshape(-1, 4), given)


def test_projections_are_those_of_each_level():
    quantizer = build(lookup_dim=2, metric="cosine", size=30).eval()
    z = draw(2, 4, 9)
    residual, given = z.mT, 0
    for level, book in enumerate(quantizer.codebooks):
        narrow = quantizer.in_proj[level](residual)
        codes = (normalize(narrow, dim=-1) @ normalize(book, dim=-1).T).argmax(-1)
        assert torch.equal(codes, quantizer.encode(z)[:, level])
        given, residual = (
            given + quantizer.out_proj[level](book[codes]),
            residual - quantizer.out_proj[level](book[codes]),
        )
    torch.testing.assert_close(quantizer(z).z, given.mT)


@pytest.mark.parametrize("settings", [{}, {"lookup_dim": 2, "metric": "cosine", "learned": "gradient"}])
def test_fewer_levels_are_the_first_of_more(settings):
    quantizer = build(levels=5, **settings).eval()
    z = draw(2, 4, 30)
    codes = quantizer.encode(z)
    assert quantizer.levels == 5 and quantizer.sizes == (8,) * 5
    errors = []
    for levels in range(1, 6):
        assert torch.equal(quantizer.encode(z, levels), codes[:, :levels])
        parts = quantizer.lookup(codes[:, :levels])
        assert parts.shape == z.shape
        errors.append(parts)
    torch.testing.assert_close(errors[-1], quantizer(z).z)
    for wrong in (0, 6):
        with pytest.raises(Error, match=f"{wrong} levels were asked for and there are 5"):
            quantizer.encode(z, wrong)
    with pytest.raises(Error, match="codes of 6 levels and this quantizer has 5"):
        quantizer.lookup(torch.cat([codes, codes[:, :1]], 1))


def test_losses_by_hand():
    quantizer = build(learned="gradient", beta=0.25).eval()
    z = draw(2, 4, 5)
    out = quantizer(z)
    errors = [(z - quantizer.lookup(out.codes[:, :n])).square().mean() for n in (1, 2, 3)]
    torch.testing.assert_close(out.losses, {"codebook": sum(errors) / 3, "commitment": sum(errors) / 12})
    assert build().eval()(z).losses.keys() == {"commitment"}


def test_the_gradient_goes_straight_through_once():
    z = draw(2, 4, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(build().eval()(z).z, z, torch.full_like(z, 2.0))
    assert torch.equal(gradient, torch.full_like(z, 2.0))
    quantizer = build(lookup_dim=2).eval()
    (gradient,) = torch.autograd.grad(quantizer(z).z, z, torch.ones_like(z))
    residual = given = torch.zeros_like(z.mT) + z.mT  # as if nothing were quantised
    given = 0
    for in_proj, out_proj in zip(quantizer.in_proj, quantizer.out_proj, strict=True):
        part = out_proj(in_proj(residual))
        given, residual = given + part, residual - part
    (expected,) = torch.autograd.grad(given.mT, z, torch.ones_like(z))
    torch.testing.assert_close(gradient, expected)


def test_each_term_teaches_its_own_side():
    quantizer = build(learned="gradient", size=3).eval()
    z = draw(2, 4, 50).requires_grad_()
    losses = quantizer(z).losses
    grad = torch.autograd.grad(losses["codebook"], (z, quantizer.codebooks), allow_unused=True)
    assert grad[0] is None and (grad[1].abs().amax((1, 2)) > 0).all()
    grad = torch.autograd.grad(quantizer(z).losses["commitment"], (z, quantizer.codebooks), allow_unused=True)
    assert grad[0].abs().max() > 0 and grad[1] is None


def test_running_means_against_the_naive_ones():
    quantizer = build(2, 5, 3, decay=0.9, restart=False)
    counts, sums = torch.ones(2, 5), quantizer.codebooks.clone()
    for step in range(3):
        z, books = draw(2, 3, 6, seed=step), quantizer.codebooks.clone()
        residual, codes = z.mT, quantizer(z).codes
        for level in range(2):
            for k in range(5):
                chose = codes[:, level] == k
                counts[level, k] = 0.9 * counts[level, k] + 0.1 * chose.sum()
                sums[level, k] = 0.9 * sums[level, k] + 0.1 * residual[chose].sum(0)
            residual = residual - books[level][codes[:, level]]
            smoothed = (counts[level] + 1e-5) / (counts[level].sum() + 5e-5) * counts[level].sum()
            torch.testing.assert_close(quantizer.codebooks[level], sums[level] / smoothed[:, None])
    torch.testing.assert_close(quantizer.usage, counts)


@pytest.mark.parametrize("learned", ["ema", "gradient"])
def test_the_first_batch_gives_the_first_codes(learned):
    quantizer = build(size=16, begun=False, learned=learned, decay=0.999999)
    z, mask = sounds(4, dim=4), torch.arange(50) < torch.tensor([50, 7, 0, 30])[:, None]
    z = torch.where(mask[:, None], z, 9.0)
    with pytest.raises(Error, match="give it a generator"):
        quantizer(z)
    quantizer(z, generator(), mask)
    rows = z.mT[mask]
    book = quantizer.codebooks[0].detach()
    assert (torch.cdist(book, rows).amin(1) < 1e-3).all(), "each is a vector of a valid place"
    assert len(book.unique(dim=0)) == 16, "and none is there twice"
    assert quantizer.codebooks[1].norm(dim=1).median() > 0.05, "a code's own vector leaves something for the next level"
    before = quantizer.codebooks.detach().clone()
    quantizer(z, generator(), mask)
    assert quantizer.batches == 2
    if learned == "gradient":
        assert torch.equal(before, quantizer.codebooks), "only the first"


def test_a_first_batch_smaller_than_the_codebook_is_enough_with_others():
    quantizer = build(levels=2, size=64, dim=16, begun=False, decay=0.9)
    for step in range(80):
        quantizer(sounds(1, seed=step), generator(step))
    used = [len(codes.unique()) for codes in quantizer.eval().encode(sounds(40, seed=500)).unbind(1)]
    assert min(used) >= 0.9 * 64


@pytest.mark.parametrize("settings", [{"learned": "ema"}, {"learned": "gradient", "restart_below": 0.3}])
def test_all_levels_are_well_used_after_a_few_batches(settings):
    quantizer = build(levels=4, size=128, dim=16, begun=False, decay=0.9, **settings)
    optimiser = torch.optim.Adam([*quantizer.parameters(), torch.nn.Parameter(torch.zeros(1))], lr=1e-2)
    for step in range(40):
        out = quantizer(sounds(16, seed=step), generator(step))
        if settings["learned"] == "gradient":
            optimiser.zero_grad()
            sum(out.losses.values()).backward()
            optimiser.step()
    z = sounds(40, seed=500)
    codes = quantizer.eval().encode(z)
    assert min(len(level.unique()) for level in codes.unbind(1)) >= 0.92 * 128
    given = [quantizer.lookup(codes[:, : n + 1]).detach() for n in range(4)]
    errors = [float((z - parts).square().mean() / z.var()) for parts in given]
    assert errors[0] < 0.1 and all(b < a for a, b in pairwise(errors))


def test_dropped_levels_count_in_no_sum_no_loss_and_no_statistic():
    quantizer = build(levels=4, dropout=1.0, restart=False, decay=0.0)
    z = draw(20, 4, 7)
    drawn = torch.rand(20, 2, generator=generator(3))
    most = (drawn[:, 1] * 4).long() + 1
    assert len(most.unique()) == 4
    whole, books = quantizer.encode(z), quantizer.codebooks.clone()
    still = build(levels=4).eval()
    sums = [torch.zeros_like(z)] + [still.lookup(whole[:, :n]) for n in (1, 2, 3, 4)]
    out = quantizer(z, generator(3))
    assert torch.equal(out.codes, whole), "all codes are given"
    for i, n in enumerate(most):
        torch.testing.assert_close(out.z[i], sums[n][i])
    squares = [(z - sums[n + 1]).square().mean((1, 2)) * (most > n) for n in range(4)]
    torch.testing.assert_close(out.losses["commitment"], 0.25 * sum(squares).mean() / 4)
    hits = torch.stack([torch.bincount(whole[most > n, n].flatten(), minlength=8) for n in range(4)])
    torch.testing.assert_close(quantizer.usage, hits.float())
    assert not torch.equal(books, quantizer.codebooks)
    assert torch.equal(quantizer.eval()(z).z, quantizer.lookup(quantizer.encode(z))), "in training only"


def test_dropout_keeps_its_share_of_items_whole():
    used = torch.stack(levels_used(8, 0.5, torch.ones(4000, 1, dtype=torch.bool), generator(), None))[:, :, 0].sum(0)
    assert (used == 8).float().mean() == pytest.approx(0.5 + 0.5 / 8, abs=0.03)
    assert all((used == n).float().mean() == pytest.approx(0.5 / 8, abs=0.015) for n in range(1, 8))


def test_a_share_of_a_batch_drops_what_the_whole_would():
    z = draw(5, 4, 7)
    whole = build(dropout=0.9, restart=False)(z, generator(3)).z
    for r in range(2):
        part = build(dropout=0.9, restart=False)(z[r::2], generator(3), shard=BatchShard.of([7] * 5, r, 2)).z
        torch.testing.assert_close(part, whole[r::2])


def test_unused_codes_are_put_on_residuals():
    quantizer = build(levels=2, size=16, decay=0.9)
    with torch.no_grad():
        quantizer.codebooks[:, 4:] += 100  # far from everything
        quantizer.sums.copy_(quantizer.codebooks)
    for step in range(40):
        quantizer(draw(8, 4, 20, seed=step), generator(step))
    assert quantizer.codebooks.abs().max() < 10
    assert all(len(codes.unique()) == 16 for codes in quantizer.eval().encode(draw(8, 4, 50)).unbind(1))


def test_a_batch_of_nothing_but_padding_teaches_nothing():
    for begun in (False, True):
        quantizer = build(begun=begun)
        before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
        out = quantizer(draw(3, 4, 8), generator(), torch.zeros(3, 8, dtype=torch.bool))
        assert out.losses["commitment"] == 0
        assert all(torch.equal(tensor, before[name]) for name, tensor in quantizer.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"levels": 0}, "levels"),
        ({"dropout": 1.5}, "dropout"),
        ({"metric": "angle"}, "metric"),
        ({"sise": 4}, "size"),
    ],
)
def test_wrong_settings_are_named(wrong, said):
    with pytest.raises(ModelError, match=said):
        ResidualQuantizerConfig.parse({"dim": 2, **wrong}, "here")


SETTINGS = [
    {"decay": 0.3},
    {"decay": 0.3, "dropout": 0.6, "lookup_dim": 3},
    {"learned": "gradient", "decay": 0.0, "metric": "cosine"},
    {"decay": 0.3, "map": MapConfig(batches=4)},
]


def steps(settings: dict, rank: int, ranks: int) -> dict[str, torch.Tensor]:
    """The state after some batches of five items, of which this process has every `ranks`-th."""
    quantizer = build(2, 24, begun=False, **settings)
    lengths = [9, 5, 1, 7, 2]
    for step in range(4):
        z, mask = draw(5, 4, 9, seed=step), torch.arange(9) < torch.tensor(lengths)[:, None]
        shard = BatchShard.of(lengths, rank, ranks)
        quantizer(z[rank::ranks], generator(step), mask[rank::ranks], shard)
    return quantizer.state_dict()


def _process(rank: int) -> list:
    return [{name: tensor.numpy() for name, tensor in steps(s, rank, 2).items()} for s in SETTINGS]


def test_two_processes_learn_what_one_does_with_the_whole_batch():
    states = side_by_side(_process)
    for i, settings in enumerate(SETTINGS):
        alone = steps(settings, 0, 1)
        assert not torch.equal(alone["codebooks"], build(2, 24, **settings).codebooks)
        for state in states:
            for name, tensor in alone.items():
                torch.testing.assert_close(torch.from_numpy(state[i][name]), tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 7, 60, 64, 97, 512, 1000, 1024])
def test_the_highest_score_is_found_whatever_their_number(size):
    scores = draw(300, size)
    assert torch.equal(_highest(scores), scores.argmax(-1))
