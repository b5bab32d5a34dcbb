"""A batch of many codes, a few items at a time: the same loss and the same gradient."""

from __future__ import annotations

import pytest
import torch
from tests.helpers import prior_over_codes

from cymatic.data.batches import collate
from cymatic.data.reading import Example
from cymatic.training.tasks import prior as module


@pytest.mark.parametrize("kind", ["gpt", "gpt-vae"])
def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole(kind, monkeypatch):
    task = prior_over_codes(f"kind: {kind}, width: 32, depth: 2, heads: 2, dropout: 0, pkeep: 0.8", size=20, rows=3)
    chance = torch.Generator().manual_seed(0)
    batch = collate([Example(torch.randint(20, (3, 4 + i), generator=chance), caption=f"sound {i}") for i in range(7)])
    task.train()
    found = []
    for most in (10**6, 60, 1):
        monkeypatch.setattr(module, "AT_ONCE", most)
        task.zero_grad()
        task.steps.zero_()
        terms = task(batch, 5)
        terms["loss"].backward()
        assert int(task.steps) == 1
        found.append((terms, [p.grad for p in task.parameters()]))
    (whole, gradients), *others = found
    for terms, own in others:
        for name, value in whole.items():
            torch.testing.assert_close(terms[name], value, atol=1e-4, rtol=1e-5)
        for a, b in zip(own, gradients, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
