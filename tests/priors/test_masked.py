"""The masked prior: how places are filled in, what is kept, its loss and its bound, overfitting."""

import math
from itertools import pairwise

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond
from cymatic.errors import Error
from cymatic.priors.masked import MaskedConfig, MaskedPrior
from cymatic.priors.order import halton

SHAPE = dict(codes=20, rows=3, longest=4, width=32, depth=2, heads=2, cond_dim=16)
COLUMNS = torch.tensor([4, 4])


def prior(**changes) -> MaskedPrior:
    torch.manual_seed(0)
    made = MaskedPrior(MaskedConfig(**{**SHAPE, **changes}))
    for p in made.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.25)
    made.steps_trained.fill_(1)
    return made.eval()


def cond(*lengths: int) -> Cond:
    tokens = torch.randn(len(lengths), max(lengths), 16, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Cond(tokens, mask, normalize(tokens.sum(1), dim=-1))


def grids(count: int) -> torch.Tensor:
    return torch.randint(20, (count, 3, 4), generator=torch.Generator().manual_seed(1))


class Watched(MaskedPrior):
    """Remembers what the network was asked."""

    def forward(self, codes, cond):
        self.asked = [*getattr(self, "asked", []), codes.clone()]
        return super().forward(codes, cond)


def watched(**changes) -> Watched:
    model = Watched(MaskedConfig(**{**SHAPE, **changes}))
    model.load_state_dict(prior(**changes).state_dict())
    return model.eval()


@pytest.mark.parametrize("how", [{"order": "halton"}, {"noise": 0.0}, {"noise": 100.0}, {"greedy": True}])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_fewer_and_fewer_are_masked_by_the_cosine_and_what_was_filled_in_stays(how, guidance):
    model = watched()
    made, _ = model.sample(cond(3), [1], steps=5, guidance=guidance, **how)
    states = [codes[:1] for codes in model.asked] + [made.flatten(1)]
    masked = [int((one == 20).sum()) for one in states]
    assert masked == [12, *(math.floor(math.cos(math.pi / 2 * t / 5) * 12 + 1e-4) for t in range(1, 6))]
    for before, after in pairwise(states):
        assert torch.equal(before[before != 20], after[before != 20])


def test_halton_fills_in_places_in_its_own_order():
    model = watched()
    model.sample(cond(3), [1], steps=12, order="halton")
    filled = []
    for before, after in pairwise(model.asked):
        filled += ((before == 20) & (after != 20))[0].nonzero()[:, 0].tolist()
    order = halton(3, 4).tolist()
    assert sorted(order) == list(range(12))
    assert len(filled) == 11 and filled == order[:11]


@torch.inference_mode()
def test_confidence_fills_in_the_likeliest_first():
    model = watched()
    model.sample(cond(3), [1], steps=4, greedy=True, guidance=1.0)
    likely = model(model.asked[0], cond(3)).log_softmax(-1).amax(-1)[0]
    filled = model.asked[1][0] != 20
    assert 0 < filled.sum() < 12
    assert likely[filled].min() >= likely[~filled].max()


@pytest.mark.parametrize("order", ["confidence", "halton"])
@torch.no_grad()
def test_what_is_to_be_kept_is_kept_and_the_rest_knows_of_it(order):
    model, codes = prior(), grids(2)
    keep = torch.zeros(2, 3, 4, dtype=torch.bool)
    keep[0, 1:, :2], keep[1, 0, 3] = True, True
    made, _ = model.sample(cond(2, 3), [1, 2], start=codes, keep=keep, order=order)
    assert torch.equal(made[keep], codes[keep]) and int(made.max()) < 20
    assert (made != codes)[~keep].any()
    hidden = torch.where(keep, codes, (codes + 3) % 20)  # what is not kept is not looked at
    assert torch.equal(model.sample(cond(2, 3), [1, 2], start=hidden, keep=keep, order=order)[0], made)
    other = torch.where(keep, (codes + 3) % 20, codes)
    changed, _ = model.sample(cond(2, 3), [1, 2], start=other, keep=keep, order=order)
    assert (changed != made)[~keep].any()
    # The second has more places to fill in.
    alone, _ = model.sample(
        Cond(cond(2, 3).tokens[:1, :2], cond(2, 3).mask[:1, :2], cond(2, 3).vector[:1]), [1], start=codes[:1],
        keep=keep[:1], order=order,
    )  # fmt: skip
    assert torch.equal(alone[0], made[0])
    whole, _ = model.sample(cond(2, 3), [1, 2], start=codes, keep=torch.ones_like(keep))
    assert torch.equal(whole, codes)


@torch.no_grad()
def test_pictures_are_painted_in_and_varied():
    model, (codes,) = prior(), grids(1)
    redraw = torch.zeros(3, 4, dtype=torch.bool)
    redraw[1:, 1:3] = True
    how = {"cond": cond(2), "guidance": 1.0, "temperature": 5.0}
    made, _ = model.inpaint(codes, redraw, 3, seed=5, **how)
    assert (made == codes)[:, ~redraw].all() and len({tuple(one.flatten().tolist()) for one in made}) == 3
    alone, _ = model.inpaint(codes, redraw, 1, seed=6, **how)
    assert torch.equal(alone[0], made[1]), "item i has the seed seed + i"
    same = []
    for amount in (0.0, 0.25, 0.75, 1.0):
        varied, _ = model.vary(codes, 20, amount, seed=1, temperature=5.0)
        same.append(float((varied == codes).float().mean()))
    assert same[0] == 1 and same == sorted(same, reverse=True) and same[3] < 0.5
    assert same[1] == pytest.approx(0.75 + 0.25 * same[3], abs=0.12)


@torch.no_grad()
def test_what_is_expected_is_told_whole():
    model, told = prior(), []
    made, _ = model.sample(cond(2), [1], steps=5, on_estimate=lambda *found: told.append(found))
    assert [one[:2] for one in told] == [(done, 5) for done in range(1, 6)]
    assert all(one[2].shape == (1, 3, 4) and int(one[2].max()) < 20 for one in told)
    assert torch.equal(told[-1][2], made) and not torch.equal(told[0][2], made)


@torch.no_grad()
def test_a_picture_that_is_begun_keeps_its_rows():
    model, codes = prior(), grids(2)
    made, columns = model.sample(cond(2, 3), [1, 2], start=codes[:, :2])
    assert torch.equal(made[:, :2], codes[:, :2]) and columns.tolist() == [4, 4]
    keep = torch.zeros(2, 3, 4, dtype=torch.bool)
    keep[:, :2] = True
    assert torch.equal(model.sample(cond(2, 3), [1, 2], start=codes, keep=keep)[0], made)


@torch.no_grad()
def test_the_order_and_the_noise_matter_and_so_do_the_steps():
    model, condition = prior(), cond(3)
    ways = ({}, {"order": "halton"}, {"noise": 50.0}, {"steps": 2}, {"temperature": 0.5}, {"top_k": 1})
    made = [model.sample(condition, [1], **how)[0] for how in ways]
    assert len({tuple(one.flatten().tolist()) for one in made}) == len(ways)
    many, _ = model.sample(condition, [1], steps=1000)
    assert int(many.max()) < 20, "no more steps than places"
    greedy = [model.sample(condition, [seed], greedy=True)[0] for seed in (1, 2)]
    assert torch.equal(*greedy)


def test_the_loss_is_that_of_the_masked_codes():
    model, condition, codes = watched(), cond(4, 2), grids(2)
    found = model.loss(codes, COLUMNS, condition, torch.Generator().manual_seed(5))
    (read,) = model.asked
    masked = read == 20
    assert torch.equal(read[~masked], codes.flatten(1)[~masked])
    logits = MaskedPrior.forward(model, read, condition)
    wanted = cross_entropy(logits[masked], codes.flatten(1)[masked])
    torch.testing.assert_close(found["loss"], wanted)
    assert found["loss"] == found["cross_entropy"]


def test_how_many_are_masked_follows_the_cosine():
    model = watched(rows=16, longest=16)
    codes = torch.randint(20, (64, 16, 16))
    with torch.no_grad():
        model.loss(codes, torch.full((64,), 16), cond(*[2] * 64), torch.Generator().manual_seed(5))
    shares = (model.asked[0] == 20).float().mean(1).sort().values
    wanted = torch.cos((1 - (torch.arange(64) + 0.5) / 64) * math.pi / 2)
    assert (shares - wanted).abs().max() < 0.03
    places = (model.asked[0] == 20).float().mean(0)
    assert places.min() > 0.4 and places.max() < 0.9, "every place is masked as often"


def test_shards_of_a_batch_make_its_loss():
    model, condition, codes = prior(), cond(4, 2, 3, 3, 1), grids(5)
    columns, parts = torch.full((5,), 4), []
    whole = model.loss(codes, columns, condition, torch.Generator().manual_seed(2))["loss"]
    for rank in range(2):
        own = slice(rank, None, 2)
        one = Cond(condition.tokens[own], condition.mask[own], condition.vector[own])
        shard = BatchShard.of(columns.tolist(), rank, 2)
        parts.append(model.loss(codes[own], columns[own], one, torch.Generator().manual_seed(2), shard)["loss"])
    torch.testing.assert_close(sum(parts) / 2, whole)


@torch.no_grad()
def test_the_bound_is_exact_where_the_network_knows_nothing():
    """With the same logits everywhere each code costs the same whatever is masked."""
    model, codes = prior(), grids(2)
    model.head.weight.zero_()
    bound = model.nll(codes, COLUMNS, cond(2, 3), torch.Generator().manual_seed(0))
    assert float(bound) == pytest.approx(12 * math.log(20), rel=1e-5)


@torch.no_grad()
def test_attention_maps_look_both_ways():
    model, codes = prior(), grids(2)
    maps = model.attention_maps(codes, cond(4, 2))
    assert [m.shape for m in maps] == [(2, 2, 17, 17)] * 2
    for m in maps:
        torch.testing.assert_close(m.sum(-1), torch.ones(2, 2, 17))
        assert m[0].triu(1).any() and not m[1, :, :, :2].any(), "the padding of the second condition"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "multiple of twice the heads"),
        ({"rows": 65, "longest": 64}, "a grid of 65 x 64 has 4160 places, more than 4,096"),
        ({"width": 16384, "depth": 256}, "more than 2,000,000,000 weights"),
    ],
)
def test_sizes_that_can_not_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MaskedConfig(**{**SHAPE, **changes})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"keep": torch.ones(1, 3, 4, dtype=torch.bool)}, r"came as \[1, 3, 4\]; give them, and start"),
        (
            {"start": grids(1)[:, :2], "keep": torch.ones(1, 2, 4, dtype=torch.bool)},
            r"\[1, 2, 4\].*whole grids of 3 x 4",
        ),
        ({"start": grids(1) + 20}, "codes from .* came, where this prior knows 0 to 19"),
        ({"steps": 0}, "steps"),
        ({"order": "row-major"}, "order"),
    ],
)
def test_what_can_not_be_asked_for_is_named(how, message):
    with pytest.raises(Error, match=message):
        prior().sample(cond(2), [0], **how)


def test_eight_grids_are_learned_by_heart():
    torch.manual_seed(0)
    model = MaskedPrior(MaskedConfig(**{**SHAPE, "width": 48}))
    condition, codes, columns = cond(*[2, 3, 4, 5] * 2), grids(8), torch.full((8,), 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(codes, columns, condition, generator)["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 < math.log(20)
    model.steps_trained.fill_(150)
    model.eval()
    for order in ("confidence", "halton"):
        made, _ = model.sample(condition, range(8), steps=4, guidance=1.0, order=order, greedy=True)
        assert torch.equal(made, codes)
    assert float(model.nll(codes, columns, condition, generator)) < 3
