"""Contrastive losses against their formulas, pair by pair, and recall against counting."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize

from cymatic.encoders.align import LOSSES, InfoNCE, SigLIP, recall
from cymatic.errors import Error


def vectors(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(normalize(torch.randn(n, 5, generator=generator), dim=-1) for _ in range(2))


SAME = torch.eye(6, dtype=torch.bool)
SAME[0, 3] = SAME[3, 0] = True
cases = pytest.mark.parametrize("same", [None, torch.eye(6, dtype=torch.bool), SAME], ids=["none", "itself", "two"])


def left_out(same: torch.Tensor | None, i: int, j: int) -> bool:
    return same is not None and i != j and bool(same[i, j])


@cases
def test_infonce_is_its_formula(same):
    a, b = vectors()
    loss, scale = InfoNCE(), 1 / 0.07
    total = 0.0
    for i in range(6):
        for x, y in ((a, b), (b, a)):
            others = [math.exp(scale * float(x[i] @ y[j])) for j in range(6) if not left_out(same, i, j)]
            total -= math.log(math.exp(scale * float(x[i] @ y[i])) / sum(others)) / 12
    assert loss(a, b, same).item() == pytest.approx(total, rel=1e-5)


def naive(a, b, ids, scale, margin, decoupled):
    """SpeechCLIP's loss pair by pair: items of one id are no negatives of one another."""
    n, total = len(a), 0.0
    for x, y in ((a, b), (b, a)):
        for i in range(n):
            logits = [scale * float(x[i] @ y[j]) - margin * (i == j) for j in range(n)]
            summed = [j for j in range(n) if ids[j] != ids[i] or (j == i and not decoupled)]
            if summed:
                total += math.log(sum(math.exp(logits[j]) for j in summed)) - logits[i]
    return total / (2 * n)


@given(
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=7), margin=st.sampled_from([0.0, 0.3, 2.0]),
    decoupled=st.booleans(), learned=st.booleans(), temperature=st.floats(0.05, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_infonce_with_its_options_is_the_naive_loop(ids, margin, decoupled, learned, temperature, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (normalize(torch.randn(len(ids), 5, generator=generator), dim=-1).requires_grad_() for _ in range(2))
    loss = InfoNCE(temperature, learned=learned, margin=margin, decoupled=decoupled)
    numbers = torch.tensor(ids)
    found = loss(a, b, numbers[:, None] == numbers)
    wanted = naive(a.detach(), b.detach(), ids, 1 / temperature, margin, decoupled)
    assert found.item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    found.backward()
    assert a.grad.isfinite().all() and b.grad.isfinite().all()
    if len(set(ids)) == len(ids):
        assert loss(a, b).item() == pytest.approx(found.item(), rel=1e-6, abs=1e-6)


def test_infonce_without_options_is_what_it_was_bit_for_bit():
    a, b = vectors()
    loss, own = InfoNCE(), torch.arange(6)
    logits = loss.log_scale.exp() * a @ b.T
    assert torch.equal(loss(a, b), (cross_entropy(logits, own) + cross_entropy(logits.T, own)) / 2)
    assert list(loss.state_dict()) == ["log_scale"]


def test_a_fixed_temperature_learns_and_stores_nothing():
    loss = InfoNCE(0.1, learned=False)
    assert not loss.state_dict() and loss.scale.item() == pytest.approx(10)
    a, b = (torch.cat([x] * 60) for x in vectors())  # of any number of items
    assert loss(a, b).isfinite() and loss(a[:7], b[:7]).isfinite()
    with pytest.raises(Error, match="give a number above 0"):
        InfoNCE(0.0)


def test_infonce_holds_in_half_precision():
    """Logits of 100 and more, whose exponentials 16 bits can't hold."""
    a, b = vectors()
    whole, half = InfoNCE(0.01, decoupled=True), InfoNCE(0.01, decoupled=True).half()
    assert half(a.half(), b.half()).item() == pytest.approx(whole(a, b).item(), rel=0.02)


@cases
def test_siglip_is_its_formula(same):
    a, b = vectors()
    total = 0.0
    for i in range(6):
        for j in range(6):
            if not left_out(same, i, j):
                sign = 1 if i == j else -1
                total += math.log1p(math.exp(-sign * (10 * float(a[i] @ b[j]) - 10))) / 6
    assert SigLIP()(a, b, same).item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_gradient_reaches_vectors_and_temperature(kind):
    a, b = (x.requires_grad_() for x in vectors())
    loss = LOSSES[kind]()
    loss(a, b, SAME).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in (a, b, *loss.parameters()))


@pytest.mark.parametrize("kind", LOSSES)
def test_what_its_twin_is_makes_no_difference_to_an_item(kind):
    """Items 0 and 3 count as one, so the gradient of either side's item 0 does not depend on the other's item 3."""
    found = []
    for twin in (0, 1):
        a, b = (x.clone() for x in vectors())
        b[3] = vectors()[twin][3]
        a.requires_grad_()
        LOSSES[kind]()(a, b, SAME).backward()
        found.append(a.grad[0].clone())
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("kind", LOSSES)
def test_the_scale_stays_below_a_hundred(kind):
    a, b = vectors()
    losses = []
    for log_scale in (50.0, math.log(100.0)):
        loss = LOSSES[kind]()
        loss.log_scale.data.fill_(log_scale)
        losses.append(loss(a, b).item())
    assert losses[0] == pytest.approx(losses[1])


def test_recall_counts_rows_that_find_their_own():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.2, 0.3], [0.1, 0.2, 0.0]])
    same = torch.eye(3, dtype=torch.bool)
    assert [recall(similarity, same, k) for k in (1, 2, 3, 9)] == pytest.approx([1 / 3, 1 / 3, 1, 1])
    same[1, 0] = True
    assert recall(similarity, same, 1) == pytest.approx(2 / 3)
