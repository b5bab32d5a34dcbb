"""The GPT prior: its cache against none, its steps against a GPT's own formula, what a step chooses, overfitting."""

import math

import pytest
import torch
from cymatic.priors.generation import Choice
from cymatic.priors.grid import column_major, flatten, unflatten
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, guide
from cymatic.errors import Error
from cymatic.nn.causal import GPTBlock, new_cache, pack, step
from cymatic.nn.rotary import rotary_tables
from cymatic.priors.gpt import GPTConfig, GPTPrior, mingpt_vas, vggsound_large, vggsound_xl


def prior(**changes) -> GPTPrior:
    torch.manual_seed(0)
    shape = dict(codes=20, rows=3, longest=8, width=32, depth=2, heads=2, cond_dim=16)
    made = GPTPrior(GPTConfig(**{**shape, **changes}))
    for p in made.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.25)
    made.steps_trained.fill_(1)
    return made.eval()


def cond(*lengths: int) -> Cond:
    tokens = torch.randn(len(lengths), max(lengths), 16, generator=torch.Generator().manual_seed(3))
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Cond(tokens, mask, normalize(tokens.sum(1), dim=-1))


KINDS = [{}, {"positions": "learned", "prefix": 7}]


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 7))
def test_the_order_is_column_major_and_invertible(batch, rows, columns):
    codes = torch.arange(batch * rows * columns).reshape(batch, rows, columns)
    sequence, order = flatten(codes), column_major(rows, columns)
    assert torch.equal(unflatten(sequence, rows), codes)
    assert torch.equal(codes.flatten(1)[:, order], sequence)
    assert torch.equal(sequence[:, order.argsort()], codes.flatten(1))
    assert sequence[0, :rows].tolist() == codes[0, :, 0].tolist()


def test_a_column_that_is_not_full_is_named():
    with pytest.raises(Error, match="7 codes fill no whole columns of 3"):
        unflatten(torch.zeros(1, 7, dtype=torch.int64), 3)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("rotary", [True, False])
@torch.no_grad()
def test_steps_equal_the_whole(rotary, rows):
    torch.manual_seed(0)
    blocks = [GPTBlock(16, 2, rotary=rotary) for _ in range(3)]
    for p in (p for block in blocks for p in block.parameters()):
        torch.nn.init.normal_(p, std=0.5)
    x = torch.randn(rows, 9, 16)
    rotary = rotary_tables(torch.arange(9), 8) if rotary else None
    whole = x
    for block in blocks:
        whole = block(whole, rotary)
    caches = [new_cache(block, rows, 9) for block in blocks]
    first = x[:, :4]
    for block, cache in zip(blocks, caches, strict=True):
        first = block(first, None if rotary is None else (rotary[0][:4], rotary[1][:4]), cache=cache)
    torch.testing.assert_close(first, whole[:, :4])
    packed = pack(blocks, rows, 9)
    for at in range(4, 9):
        torch.testing.assert_close(step(x[:, at], packed, caches, at), whole[:, at], atol=2e-5, rtol=1e-5)


def uncached(model: GPTPrior, condition: Cond, seeds, choice: Choice, guidance: float) -> torch.Tensor:
    """Twenty lines instead of a cache: the whole sequence again for each code."""
    total, width = model.config.rows * model.config.longest, model.config.codes
    even = torch.stack([torch.rand(total, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    codes = torch.zeros(len(seeds), 0, dtype=torch.int64)
    for at in range(total):
        logits = model(codes, condition)[:, -1, :width]
        if guidance != 1:
            logits = guide(logits, model(codes, condition.null())[:, -1, :width], guidance)
        codes = torch.cat([codes, choice(logits, even[:, at])[:, None]], dim=1)
    return unflatten(codes, model.config.rows)


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("how", [{}, {"greedy": True}, {"top_k": 4, "temperature": 0.8}, {"top_p": 0.7}])
@torch.no_grad()
def test_with_the_cache_and_without_the_codes_are_the_same(changes, guidance, how):
    model, seeds = prior(**changes), [3, 4, 5]
    codes, _ = model.sample(cond(4, 2, 3), seeds, columns=torch.full((3,), 8), guidance=guidance, **how)
    assert torch.equal(codes, uncached(model, cond(4, 2, 3), seeds, Choice(**how), guidance))


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("how", [{}, {"greedy": True}, {"top_k": 4}])
@torch.no_grad()
def test_rows_of_their_own_sizes(end, how):
    """What a row has not is never drawn, costs no probability, and is refused."""
    sizes, seeds = (7, 20, 3), [3, 4, 5]
    model, condition = prior(sizes=sizes, end=end), cond(4, 2, 3)
    codes, _ = model.sample(condition, seeds, columns=torch.full((3,), 8), **how)
    assert torch.equal(codes, uncached(model, condition, seeds, Choice(**how), 1.0))
    assert bool((codes < torch.tensor(sizes)[:, None]).all())
    free, lengths = model.sample(condition, seeds, **how)
    assert bool((free < torch.tensor(sizes)[:, None]).all()) and int(lengths.min()) >= 1
    likely = model(torch.zeros(3, 0, dtype=torch.int64), condition).softmax(-1)
    assert not likely[..., 7:].any() and likely[..., :7].all()
    wrong = codes.clone()
    wrong[0, 2, 3] = 3
    with pytest.raises(Error, match="code 3 came in row 3, which has 0 to 2"):
        model.loss(wrong, torch.full((3,), 8), condition, torch.Generator())


@pytest.mark.parametrize("sizes", [(7, 20), (7, 20, 0), (7, 19, 3)])
def test_sizes_of_rows_that_can_not_be(sizes):
    with pytest.raises(ValueError, match="give one for each of 3 rows, up to 20"):
        prior(sizes=sizes)


@pytest.mark.parametrize("changes", [*KINDS, {"end": False}])
@torch.no_grad()
def test_the_loss_is_the_sum_over_what_is_sampled(changes):
    """Codes and an end that can't be anywhere else: what the logits say at the places where a choice is made."""
    model, condition = prior(**changes), cond(4, 2)
    columns, codes = torch.tensor([5, 8]), torch.randint(20, (2, 3, 8), generator=torch.Generator().manual_seed(1))
    nats = 0.0
    for i, n in enumerate(columns.tolist()):
        sequence = codes[i, :, :n].T.flatten()
        one = Cond(condition.tokens[i : i + 1], condition.mask[i : i + 1], condition.vector[i : i + 1])
        for at in range(3 * n + 1):
            logits = model(sequence[None, :at], one)[0, -1] if at < 24 else None
            ends = at % 3 == 0 and 0 < at < 24 and model.config.end
            if at < 3 * n:
                nats += float(cross_entropy(logits if ends else logits[:20], sequence[at]))
            elif ends:
                nats += float(cross_entropy(logits, torch.tensor(20)))
    found = model.loss(codes, columns, condition, torch.Generator())
    assert float(found["nll"]) == pytest.approx(nats / (13 * 3), rel=1e-5)
    assert found["loss"] == found["nll"]


def test_shares_of_a_batch_make_its_loss():
    model, condition = prior(pkeep=0.5).train(), cond(4, 2, 3, 3)
    columns, codes = (
        torch.tensor([5, 8, 2, 7]),
        torch.randint(20, (4, 3, 8), generator=torch.Generator().manual_seed(1)),
    )
    whole = model.loss(codes, columns, condition, torch.Generator().manual_seed(2))["loss"]
    parts = []
    for rank in range(2):
        own = slice(rank, None, 2)
        one = Cond(condition.tokens[own], condition.mask[own], condition.vector[own])
        shard = BatchShard.of(columns.tolist(), rank, 2)
        most = int(columns[own].max())
        generator = torch.Generator().manual_seed(2)
        parts.append(model.loss(codes[own][..., :most], columns[own], one, generator, shard)["loss"])
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_some_codes_are_read_as_others_in_training_only():
    model = prior(pkeep=0.7)
    codes = torch.randint(20, (50, 3, 8))
    assert torch.equal(model.corrupted(codes, torch.Generator()), codes)
    kept = (model.train().corrupted(codes, torch.Generator()) == codes).float().mean()
    assert kept == pytest.approx(0.7 + 0.3 / 20, abs=0.03)
    columns = torch.full((50,), 8)
    losses = [model.loss(codes, columns, None, torch.Generator().manual_seed(s))["loss"] for s in (0, 0, 1)]
    assert losses[0] == losses[1] != losses[2]


def test_choices():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()[[2, 0, 3, 1]].repeat(10_000, 1)
    even = torch.rand(10_000, 1, generator=torch.Generator().manual_seed(0))

    def shares(**how):
        return (Choice(**how)(logits, even).bincount(minlength=4) / 10_000).tolist()

    assert shares() == pytest.approx([0.2, 0.4, 0.1, 0.3], abs=0.015)
    assert shares(top_k=2) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.015)
    assert shares(top_k=4) == shares(top_k=100) == shares(top_p=1.0) == shares()
    assert shares(top_k=1) == shares(greedy=True) == shares(top_p=0.1) == [0, 1, 0, 0]
    assert shares(top_p=0.65) == pytest.approx([0, 4 / 7, 0, 3 / 7], abs=0.015)
    assert shares(temperature=1e-3) == [0, 1, 0, 0]
    assert shares(temperature=1e3) == pytest.approx([0.25] * 4, abs=0.015)
    assert Choice(top_k=1)(torch.zeros(1, 3), torch.tensor([[0.9]])) == 2, "ties stay in, as in SpecVQGAN"
    at_the_edge = torch.tensor([[0.0, 0.0, -torch.inf]]).repeat(2, 1)
    assert Choice()(at_the_edge, torch.tensor([[0.0], [1 - 2**-24]])).tolist() == [0, 1]


@torch.no_grad()
def test_attention_maps_are_what_the_network_looks_at():
    model, condition = prior(), cond(4, 2)
    codes = torch.randint(20, (2, 3, 4), generator=torch.Generator().manual_seed(1))
    maps = model.attention_maps(codes, condition)
    assert [m.shape for m in maps] == [(2, 2, 17, 17)] * 2
    for m in maps:
        torch.testing.assert_close(m.sum(-1), torch.ones(2, 2, 17))
        assert not m.triu(1).any()
        assert not m[1, :, 2:, :2].any(), "the padding of the second condition"
    x, rotary, mask = model.trunk.begin(model.trunk.prefix(condition, 2), flatten(codes))
    block = model.trunk.blocks[0]
    by_hand = x + block.out((maps[0] @ block._heads(x, rotary)[2]).transpose(1, 2).flatten(2))
    by_hand = by_hand + block.narrow(torch.nn.functional.gelu(block.widen(block.norm2(by_hand))))
    torch.testing.assert_close(block(x, rotary, mask), by_hand, atol=1e-5, rtol=1e-5)


def test_the_published_sizes():
    millions = {}
    for name, config in (("vas", mingpt_vas()), ("large", vggsound_large()), ("xl", vggsound_xl(prefix=212))):
        with torch.device("meta"):
            weights = sum(p.numel() for n, p in GPTPrior(config).named_parameters() if "read_token" not in n)
        millions[name] = weights / 1e6
    assert millions == pytest.approx({"vas": 303, "large": 711, "xl": 1044}, rel=0.005)
    assert mingpt_vas().places == 266
    assert vggsound_xl(prefix=212).places == 477


@pytest.mark.parametrize(
    "changes", [{"width": 30, "heads": 4}, {"positions": "learned"}, {"prefix": 3}, {"depth": 257}]
)
def test_sizes_that_can_not_be_are_refused(changes):
    with pytest.raises(ValueError, match=r"multiple of|prefix goes|less than or equal"):
        prior(**changes)


def test_too_many_tokens_for_learned_places_are_named():
    model = prior(positions="learned", prefix=3)
    with pytest.raises(Error, match="at most 3"):
        model.sample(cond(5), [0])
    with pytest.raises(Error, match="3 of the condition and 24 codes"):
        model(torch.zeros(1, 23, dtype=torch.int64), cond(5))


def test_a_prior_that_is_never_conditioned_on_anything():
    model = prior(cond_dim=None)
    assert model.sample(None, [0, 1])[0].shape[0] == 2
    with pytest.raises(Error, match="reads no condition"):
        model.sample(cond(2), [0])


@pytest.mark.parametrize("changes", KINDS)
def test_eight_sequences_are_learned_by_heart(changes):
    torch.manual_seed(0)
    model = GPTPrior(GPTConfig(codes=20, rows=3, longest=8, width=48, depth=2, heads=2, cond_dim=16, **changes))
    condition = cond(*[2, 3, 4, 5] * 2)
    columns = torch.tensor([8, 3, 5, 6, 2, 7, 4, 8])
    codes = torch.randint(20, (8, 3, 8), generator=torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = model.loss(codes, columns, condition, torch.Generator())["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < math.log(20)
    model.steps_trained.fill_(150)
    made, lengths = model.eval().sample(condition, range(8), greedy=True)
    assert torch.equal(lengths, columns)
    beyond = torch.arange(8) >= columns[:, None, None]
    assert torch.equal(made, codes.masked_fill(beyond, 0))
