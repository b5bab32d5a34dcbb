"""One place at a time from a cache against the whole sequence at once."""

import pytest
import torch

from cymatic.nn.causal import GPTBlock, causal_mask
from cymatic.nn.fast_step import FastStep
from cymatic.nn.kv_cache import KVCache, padding_bias
from cymatic.nn.rotary import rotary_tables

WIDTH, PLACES = 16, 9


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("rotary", [True, False])
@torch.no_grad()
def test_steps_equal_the_whole(rotary, rows):
    torch.manual_seed(0)
    blocks = [GPTBlock(WIDTH, 2, rotary=rotary) for _ in range(3)]
    norm, head = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, 5, bias=False)
    for p in (p for module in (*blocks, norm, head) for p in module.parameters()):
        torch.nn.init.normal_(p, std=0.5)
    x = torch.randn(rows, PLACES, WIDTH)
    tables = rotary_tables(torch.arange(PLACES), WIDTH // 2) if rotary else None
    padding = torch.tensor([0, 2, 1])[:rows]
    mask = causal_mask(torch.arange(PLACES) >= padding[:, None])
    whole = x
    for block in blocks:
        whole = block(whole, tables, mask)
    caches = [block.new_cache(rows, PLACES) for block in blocks]
    first = x[:, :4]
    for block, cache in zip(blocks, caches, strict=True):
        short = None if tables is None else (tables[0][:4], tables[1][:4])
        first = block(first, short, mask[..., :4, :4], cache)
    torch.testing.assert_close(first, whole[:, :4])
    step = FastStep(blocks, norm, head, rows=rows, capacity=PLACES)
    bias = padding_bias(padding, PLACES)
    assert (bias is None) == (rows == 1)
    for at in range(4, PLACES):
        torch.testing.assert_close(step(x[:, at], caches, at, bias), head(norm(whole[:, at])), atol=5e-5, rtol=1e-4)


def test_a_cache_gives_what_was_written_and_keeps_the_rows_asked_for():
    cache = KVCache.empty(3, 2, 5, 4, like=torch.zeros(1))
    written = torch.randn(3, 2, 2, 4, 4)
    cache.append(written[:, :, :, :3], 0)
    keys, values = cache.append(written[:, :, :, 3:], 3)
    assert torch.equal(keys, written[:, 0]) and torch.equal(values, written[:, 1])
    kept = torch.tensor([True, False, True])
    less = cache.narrow(kept)
    assert torch.equal(less.append(written[kept][:, :, :, :1], 4)[0][:, :, :4], written[kept, 0])
