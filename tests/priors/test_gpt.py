"""The GPT prior: its cache against none, its loss against what is sampled, pictures read row by row, overfitting."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, guide
from cymatic.errors import Error
from cymatic.priors.decoding import CodeSampling, choose
from cymatic.priors.gpt import GPTConfig, GPTPrior, mingpt_vas, vggsound_large, vggsound_xl
from cymatic.priors.order import flatten, unflatten


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


PICTURE = {"order": "row-major", "end": False}


def uncached(model: GPTPrior, condition: Cond, seeds, how: CodeSampling) -> torch.Tensor:
    """Twenty lines instead of a cache: the whole sequence again for each code."""
    total, width = model.config.rows * model.config.longest, model.config.codes
    even = torch.stack([torch.rand(total, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    codes = torch.zeros(len(seeds), 0, dtype=torch.int64)
    for at in range(total):
        logits = model(codes, condition)[:, -1, :width]
        if how.guidance != 1:
            logits = guide(logits, model(codes, condition.null())[:, -1, :width], how.guidance)
        codes = torch.cat([codes, choose(logits, even[:, at], how)[:, None]], dim=1)
    return unflatten(codes, model.config.order, height=model.config.rows)


@pytest.mark.parametrize("changes", [*KINDS, PICTURE, {**PICTURE, **KINDS[1]}])
@pytest.mark.parametrize("guidance", [1.0, 2.5])
@pytest.mark.parametrize("how", [{}, {"greedy": True}, {"top_k": 4, "temperature": 0.8}, {"top_p": 0.7}])
@torch.no_grad()
def test_with_the_cache_and_without_the_codes_are_the_same(changes, guidance, how):
    model, seeds, how = prior(**changes), [3, 4, 5], {**how, "guidance": guidance}
    codes, _ = model.sample(cond(4, 2, 3), seeds, lengths=torch.full((3,), 8), **how)
    assert torch.equal(codes, uncached(model, cond(4, 2, 3), seeds, CodeSampling(**how)))


@torch.no_grad()
def test_a_picture_is_read_row_by_row_and_always_whole():
    model, condition = prior(**PICTURE), cond(2, 3)
    codes, widths = model.sample(condition, [1, 2])
    assert codes.shape == (2, 3, 8) and widths.tolist() == [8, 8]
    for rows in (1, 2, 3):
        again, _ = model.sample(condition, [1, 2], start=codes[:, :rows])
        assert torch.equal(again, codes), "the rest of a picture that begins as this one"
    changed = codes.clone()
    changed[:, 1, 4] = (codes[:, 1, 4] + 1) % 20
    logits, other = (model(flatten(one, "row-major"), condition) for one in (codes, changed))
    same = (logits == other).all(-1).all(0)
    assert same.tolist() == [True] * 13 + [False] * 12, "no code knows of what comes later in its row or below"
    for wrong, message in (
        ({"lengths": torch.tensor([8, 7])}, "each item is 8 columns wide"),
        ({"start": codes[:, :, :4]}, "3 rows and 4 columns came, where this prior knows 3 rows and 8 to 8 columns"),
    ):
        with pytest.raises(Error, match=message):
            model.sample(condition, [1, 2], **wrong)
    with pytest.raises(Error, match=r"lengths of \[8, 7\] came with codes of 8 to 8"):
        model.loss(codes, torch.tensor([8, 7]), condition, torch.Generator())


@pytest.mark.parametrize("changes", [{"end": True}, {"end": False, "sizes": (20, 20, 20)}])
def test_a_picture_has_no_end_and_one_size_of_codes(changes):
    with pytest.raises(ValueError, match="give end false, and no sizes"):
        prior(order="row-major", **changes)


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("how", [{}, {"greedy": True}, {"top_k": 4}])
@torch.no_grad()
def test_rows_of_their_own_sizes(end, how):
    """What a row has not is never drawn, costs no probability, and is refused."""
    sizes, seeds = (7, 20, 3), [3, 4, 5]
    model, condition = prior(sizes=sizes, end=end), cond(4, 2, 3)
    how = {**how, "guidance": 1.0}
    codes, _ = model.sample(condition, seeds, lengths=torch.full((3,), 8), **how)
    assert torch.equal(codes, uncached(model, condition, seeds, CodeSampling(**how)))
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
    x, rotary, mask = model.trunk.begin(model.trunk.prefix(condition, 2), flatten(codes, "column-major"))
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
