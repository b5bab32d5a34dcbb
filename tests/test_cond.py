import pytest
import torch

from cymatic.cond import Cond, concatenate, guide


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
    assert torch.equal(first.dropped, again.dropped)
    assert 0.25 < first.dropped.float().mean() < 0.35
    assert (first.drop(0.3, torch.Generator().manual_seed(2)).dropped | ~first.dropped).all()
    assert not cond().drop(0.0, torch.Generator()).dropped.any()
    assert cond().null().dropped.all()


def test_repeat_and_concatenate_keep_items_in_order():
    one = cond(2)
    twice = one.repeat(2)
    assert len(twice) == 4
    assert torch.equal(twice.tokens[[0, 1]], one.tokens[[0, 0]])
    both = concatenate(one, one.null())
    assert both.dropped.tolist() == [False, False, True, True]
    assert torch.equal(both.vector, torch.cat([one.vector, one.vector]))


def test_tokens_need_their_mask():
    with pytest.raises(ValueError, match="mask"):
        Cond(tokens=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="tokens, a vector"):
        Cond()
