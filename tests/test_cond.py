from dataclasses import replace

import pytest
import torch

from cymatic.batch_shard import BatchShard
from cymatic.cond import Cond, concatenate, guide, joined, padded
from cymatic.priors.flow import FlowConfig, FlowPrior
from cymatic.priors.trunk import CodeShape, CodeTrunk
from cymatic.signal.mel import MelSpec

SPEC = MelSpec(rate=8000, n_fft=256, hop=100, mels=10, fmax=4000)


def cond(batch: int = 4) -> Cond:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(batch, 3, 8, generator=generator)
    return Cond(tokens, torch.ones(batch, 3, dtype=torch.bool), torch.nn.functional.normalize(tokens.mean(1), dim=-1))


def test_guidance_of_one_is_no_guidance_and_of_zero_is_no_condition():
    c, u = torch.randn(2, 5), torch.randn(2, 5)
    torch.testing.assert_close(guide(c, u, 1.0), c)
    assert torch.equal(guide(c, u, 0.0), u)
    torch.testing.assert_close(guide(c, u, 3.0) - guide(c, u, 2.0), c - u)


def test_dropping_is_by_the_generator_and_never_undone():
    first = cond(1000).drop(0.3, torch.Generator().manual_seed(1))
    again = cond(1000).drop(0.3, torch.Generator().manual_seed(1))
    assert torch.equal(first.tokens_dropped, again.tokens_dropped)
    assert 0.25 < first.tokens_dropped.float().mean() < 0.35
    assert torch.equal(first.tokens_dropped, first.vector_dropped)
    assert (first.drop(0.3, torch.Generator().manual_seed(2)).tokens_dropped | ~first.tokens_dropped).all()
    assert not cond().drop(0.0, torch.Generator()).tokens_dropped.any()
    assert cond().null().tokens_dropped.all() and cond().null().vector_dropped.all()


def test_tokens_and_vector_may_be_dropped_apart():
    apart = cond(4000).drop(0.3, torch.Generator().manual_seed(1), vector=0.6)
    together = cond(4000).drop(0.3, torch.Generator().manual_seed(1))
    assert torch.equal(apart.tokens_dropped, together.tokens_dropped)
    assert 0.55 < apart.vector_dropped.float().mean() < 0.65
    both = (apart.tokens_dropped & apart.vector_dropped).float().mean()
    assert both.item() == pytest.approx(0.18, abs=0.03)  # independent of one another
    shard = BatchShard.of([3] * 4000, 1, 2)
    half = cond(2000).drop(0.3, torch.Generator().manual_seed(1), shard, vector=0.6)
    assert torch.equal(half.vector_dropped, apart.vector_dropped[1::2])


def test_what_one_encoder_dropped_is_left_out_of_both_together():
    first, second = cond(3), replace(cond(3), vector=torch.nn.functional.normalize(torch.randn(3, 8), dim=-1))
    gone = torch.tensor([True, False, True])
    either = joined(replace(first, tokens_dropped=gone, vector_dropped=gone), second)
    assert either.mask.tolist() == [[False] * 3 + [True] * 3, [True] * 6, [False] * 3 + [True] * 3]
    torch.testing.assert_close(either.vector[0], second.vector[0])
    torch.testing.assert_close(either.vector[1], joined(first, second).vector[1])
    assert not either.tokens_dropped.any() and not either.vector_dropped.any()
    neither = joined(first.null(), second.null())
    assert neither.tokens_dropped.all() and neither.vector_dropped.all()


@torch.no_grad()
@pytest.mark.parametrize("kind", ["tokens", "vector"])
def test_a_prior_reads_what_is_left(kind):
    """What was dropped changes nothing any more, and what was kept does."""
    torch.manual_seed(0)
    flow = FlowPrior(FlowConfig(mel=SPEC, cond_dim=8, width=32, depth=1, heads=2))
    trunk = CodeTrunk(CodeShape(codes=20, rows=3, longest=8, width=32, depth=1, heads=2, cond_dim=8, vector=True), 1)
    for p in [*flow.parameters(), *trunk.parameters()]:
        torch.nn.init.normal_(p, std=0.1)
    gone = torch.ones(4, dtype=torch.bool)
    given = replace(cond(), **{f"{kind}_dropped": gone})
    tokens, vector = torch.randn(4, 3, 8), torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
    others = {"tokens": replace(given, tokens=tokens), "vector": replace(given, vector=vector)}

    def of_flow(cond: Cond) -> torch.Tensor:
        mel, lengths = torch.randn(4, 10, 6, generator=torch.Generator().manual_seed(0)), torch.full((4,), 6)
        return flow.loss(mel, lengths, cond, torch.Generator().manual_seed(0))["loss"]

    def of_codes(cond: Cond) -> torch.Tensor:
        return trunk(trunk.prefix(cond, 4), torch.zeros(4, 2, dtype=torch.int64))[:, -1]

    kept = "vector" if kind == "tokens" else "tokens"
    for result in (of_flow, of_codes):
        torch.testing.assert_close(result(others[kind]), result(given), atol=0, rtol=0)
        assert not torch.allclose(result(others[kept]), result(given))
        assert not torch.allclose(result(given.null()), result(given))


def test_padded_items_know_their_lengths():
    items = [torch.arange(2 * n).view(2, n).float() for n in (3, 1, 2)]
    batch = padded(items, value=-1.0)
    assert batch.values.shape == (3, 2, 3) and batch.lengths.tolist() == [3, 1, 2] and len(batch) == 3
    assert batch.mask.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    assert (batch.values[1, :, 1:] == -1).all()
    assert all(torch.equal(one, item) for one, item in zip(batch.items(), items, strict=True))


def test_repeat_and_concatenate_keep_items_in_order():
    one = cond(2)
    twice = one.repeat(2)
    assert len(twice) == 4
    assert torch.equal(twice.tokens[[0, 1]], one.tokens[[0, 0]])
    both = concatenate(one, one.null())
    assert both.tokens_dropped.tolist() == both.vector_dropped.tolist() == [False, False, True, True]
    assert torch.equal(both.vector, torch.cat([one.vector, one.vector]))


def test_tokens_need_their_mask():
    with pytest.raises(ValueError, match="mask"):
        Cond(tokens=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="tokens, a vector"):
        Cond()
