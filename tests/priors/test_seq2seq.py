"""The seq2seq prior: its caches against none, its loss against what is sampled, its condition, overfitting."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, guide
from cymatic.errors import Error
from cymatic.latent import TargetFacts
from cymatic.media.wave_spec import WaveSpec
from cymatic.nn.fast_decoder import FastDecoderStep, decoder_state
from cymatic.priors.decoding import CodeSampling, choose
from cymatic.priors.seq2seq import Seq2SeqConfig, Seq2SeqPrior, dalle_mega, dalle_mini

SHAPE = dict(codes=20, rows=3, longest=4, width=32, depth=2, heads=2, cond_dim=16)
STYLES = [{}, {"style": "bart"}, {"encoder_depth": 1, "encoder_heads": 4, "hidden": 24, "encoder_hidden": 40}]
every_style = pytest.mark.parametrize("changes", STYLES)


def prior(**changes) -> Seq2SeqPrior:
    torch.manual_seed(0)
    made = Seq2SeqPrior(Seq2SeqConfig(**{**SHAPE, **changes}))
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


def uncached(model: Seq2SeqPrior, condition: Cond, seeds, how: CodeSampling) -> torch.Tensor:
    """The whole sequence again for each code."""
    total = model.config.rows * model.config.longest
    even = torch.stack([torch.rand(total, 1, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
    codes = torch.zeros(len(seeds), 0, dtype=torch.int64)
    for at in range(total):
        logits = model(codes, condition)[:, -1]
        if how.guidance != 1:
            logits = guide(logits, model(codes, condition.null())[:, -1], how.guidance)
        codes = torch.cat([codes, choose(logits, even[:, at], how)[:, None]], dim=1)
    return codes.unflatten(1, (model.config.rows, model.config.longest))


@every_style
@pytest.mark.parametrize("guidance", [1.0, 10.0])
@pytest.mark.parametrize("how", [{}, {"greedy": True}, {"top_k": 4, "temperature": 0.8}, {"top_p": 0.7}])
@torch.no_grad()
def test_with_the_caches_and_without_the_codes_are_the_same(changes, guidance, how):
    model, seeds, how = prior(**changes), [3, 4, 5], {**how, "guidance": guidance}
    codes, _ = model.sample(cond(4, 2, 3), seeds, **how)
    assert torch.equal(codes, uncached(model, cond(4, 2, 3), seeds, CodeSampling(**how)))


@every_style
@torch.no_grad()
def test_a_step_gives_the_logits_of_all_at_once(changes):
    model, codes = prior(**changes), grids(3).flatten(1)
    encoded, tokens = model.encode(cond(4, 2, 3), 3), model.begin(codes[:, :-1])
    wanted = model.network.head(
        model.network.decode(tokens, model.network.given(encoded), encoded.mask)
    )  # fmt: skip
    fast = FastDecoderStep(model.network, rows=3)
    hidden, state = decoder_state(model.network, tokens[:, :2], model.network.given(encoded), encoded.valid, 12)
    torch.testing.assert_close(fast.head(hidden), wanted[:, 1], atol=1e-5, rtol=1e-5)
    for at in range(2, 12):
        torch.testing.assert_close(fast(tokens[:, at], at, state), wanted[:, at], atol=1e-5, rtol=1e-5)


@every_style
@torch.no_grad()
def test_no_code_knows_of_what_comes_later(changes):
    model, codes = prior(**changes), grids(2).flatten(1)
    changed = codes.clone()
    changed[:, 5] = (codes[:, 5] + 1) % 20
    logits, other = (model(one, cond(2, 3)) for one in (codes[:, :-1], changed[:, :-1]))
    assert (logits == other).all(-1).all(0).tolist() == [True] * 6 + [False] * 6


@torch.no_grad()
def test_the_loss_is_what_is_sampled_costs():
    model, condition, codes = prior(), cond(4, 2), grids(2)
    logits = model(codes.flatten(1)[:, :-1], condition)
    assert logits.shape == (2, 12, 20)
    nats = -logits.log_softmax(-1).gather(-1, codes.flatten(1)[..., None]).sum()
    found = model.loss(codes, torch.tensor([4, 4]), condition, torch.Generator())
    assert found["loss"] == found["nll"] == pytest.approx(float(nats) / 24, rel=1e-5)
    nll = model.nll(codes, torch.tensor([4, 4]), condition, torch.Generator())
    assert float(nll) == pytest.approx(float(nats) / 2, rel=1e-5)


def test_shards_of_a_batch_make_its_loss():
    model, condition, codes = prior(), cond(4, 2, 3, 3, 1), grids(5)
    columns, parts = torch.full((5,), 4), []
    whole = model.loss(codes, columns, condition, torch.Generator())["loss"]
    for rank in range(2):
        own = slice(rank, None, 2)
        one = Cond(condition.tokens[own], condition.mask[own], condition.vector[own])
        shard = BatchShard.of(columns.tolist(), rank, 2)
        parts.append(model.loss(codes[own], columns[own], one, torch.Generator(), shard)["loss"])
    torch.testing.assert_close(sum(parts) / 2, whole)


@torch.no_grad()
def test_tokens_or_the_vector_alone_are_a_condition():
    model, whole, codes = prior(), cond(4), torch.zeros(1, 0, dtype=torch.int64)
    both = model(codes, whole)
    tokens, vector = (
        Cond(whole.tokens, whole.mask, whole.vector, tokens_dropped=no_tokens, vector_dropped=~no_tokens)
        for no_tokens in (torch.tensor([False]), torch.tensor([True]))
    )
    torch.testing.assert_close(model(codes, tokens), model(codes, Cond(whole.tokens, whole.mask)))
    torch.testing.assert_close(model(codes, vector), model(codes, Cond(vector=whole.vector)), atol=1e-5, rtol=1e-5)
    none = model(codes, None)
    for a, b in ((both, tokens), (both, vector), (tokens, vector), (vector, None)):
        a, b = (none if x is None else x if isinstance(x, torch.Tensor) else model(codes, x) for x in (a, b))
        assert (a - b).abs().max() > 1e-3


@torch.no_grad()
def test_several_nulls_stand_where_a_short_condition_was():
    model, codes = prior(nulls=3, vector=False), torch.zeros(2, 0, dtype=torch.int64)
    torch.testing.assert_close(model(codes, cond(2, 1).null()), model(codes, None))
    dropped = cond(2, 1).drop(1.0, torch.Generator())
    torch.testing.assert_close(model(codes, dropped), model(codes, None))


@every_style
@torch.no_grad()
def test_attention_maps_are_what_the_decoder_looks_at(changes):
    model, codes = prior(**changes), grids(2)
    encoded, tokens = model.encode(cond(4, 2), 2), model.begin(codes.flatten(1)[:, :-1])
    maps = model.attention_maps(codes, cond(4, 2))
    assert [m.shape for m in maps] == [(2, 2, 12, 12)] * 2
    for m in maps:
        torch.testing.assert_close(m.sum(-1), torch.ones(2, 2, 12))
        assert not m.triu(1).any()
    network = model.network
    block, x = network.blocks[0], network.embed(tokens)
    own = block.attention.f
    v = own.keys_and_values(block.attention.before(x))[:, 1]
    by_hand = block.attention.add(x, own.out((maps[0] @ v).transpose(1, 2).flatten(2)))
    kv = network.given(encoded)[0]
    by_hand = block.cross.add(by_hand, block.cross.f(block.cross.before(by_hand), kv, encoded.mask))
    by_hand = block.feed.add(by_hand, block.feed.f(block.feed.before(by_hand)))
    torch.testing.assert_close(block(x, kv, encoded.mask), by_hand, atol=1e-5, rtol=1e-5)


def test_the_published_sizes():
    millions = []
    for config in (dalle_mini(), dalle_mega()):
        with torch.device("meta"):
            weights = sum(p.numel() for n, p in Seq2SeqPrior(config).named_parameters() if "read_token" not in n)
        words = 50_264 * config.width  # the embeddings of the text are the encoder's, outside of the prior
        millions.append((weights + words) / 1e6)
    assert millions == pytest.approx([438, 2603], rel=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "width 32 is not a multiple of the heads"),
        ({"encoder_heads": 5}, "width 32 is not a multiple of the heads"),
        ({"nulls": 4, "prefix": 3}, "4 nulls don't fit into a condition of 3"),
        ({"width": 16384, "depth": 256, "heads": 64}, "more than 4,000,000,000 weights"),
        ({"codes": 2**20, "width": 16384}, "more than 4,000,000,000 weights"),
        ({"cond_dim": 0}, "greater than 0"),
    ],
)
def test_sizes_that_can_not_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Seq2SeqConfig(**{**SHAPE, **changes})


def test_what_it_can_not_read_is_named():
    with pytest.raises(Error, match="the condition has 6 tokens and this prior was made for at most 5"):
        prior(prefix=5).sample(cond(5), [0])
    with pytest.raises(Error, match="only a vector"):
        prior(vector=False).sample(Cond(vector=cond(1).vector), [0])
    with pytest.raises(Error, match="2 conditions came for 1 items"):
        prior().sample(cond(1, 2), [0])
    with pytest.raises(Error, match="the condition is 16 wide and this prior reads 8"):
        prior(cond_dim=8).sample(cond(1), [0])
    with pytest.raises(Error, match="rows have 7 to 20 codes to choose from"):
        Seq2SeqConfig().fitted(TargetFacts(WaveSpec(rate=8000), sizes=(7, 20), longest=9, cond_dim=24))
    with pytest.raises(Error, match=r"lengths of \[4, 3\] came; each item is 4 columns wide"):
        prior().loss(grids(2), torch.tensor([4, 3]), cond(2, 2), torch.Generator())


@every_style
def test_eight_grids_are_learned_by_heart(changes):
    torch.manual_seed(0)
    model = Seq2SeqPrior(Seq2SeqConfig(**{**SHAPE, "width": 48, **changes}))
    condition, codes, columns = cond(*[2, 3, 4, 5] * 2), grids(8), torch.full((8,), 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.loss(codes, columns, condition, torch.Generator())["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 < math.log(20)
    model.steps_trained.fill_(120)
    assert torch.equal(model.eval().sample(condition, range(8), greedy=True)[0], codes)
    begun, _ = model.sample(condition, range(8), greedy=True, start=codes[:, :1])
    assert torch.equal(begun, codes)
