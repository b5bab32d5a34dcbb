"""Muon's orthogonal steps against the singular value decomposition, its other steps against torch's AdamW."""

import pytest
import torch

from cymatic.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 4, 32), (2, 32, 4)])
def test_orthogonalised_keeps_directions_and_evens_sizes(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for matrix, way in zip(matrices, orthogonalised(matrices), strict=True):
        left, sizes, right = torch.linalg.svd(matrix, full_matrices=False)
        evened = left.T @ way @ right.T
        assert (evened - evened.diagonal().diag()).abs().max() < 1e-4, "another basis"
        kept = evened.diagonal()[sizes > 0.05 * sizes.max()]
        assert kept.min() > 0.6 and kept.max() < 1.3


def test_orthogonalised_of_nothing_is_nothing():
    assert torch.equal(orthogonalised(torch.zeros(1, 4, 4)), torch.zeros(1, 4, 4))


def test_the_other_steps_are_adamw():
    start = torch.randn(5, 3)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.01, "weight_decay": 0.1}
    pair = [
        (ours, Muon([{"params": [ours], **settings}], betas=(0.9, 0.99))),
        (theirs, torch.optim.AdamW([theirs], betas=(0.9, 0.99), **settings)),
    ]
    for step in range(20):
        for p, optimizer in pair:
            p.grad = torch.sin(p.detach() * (step + 1))
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_a_weight_that_has_no_gradient_at_times_steps_as_in_adamw():
    """Each weight's own number of steps corrects its means, whichever weight of the group comes first."""
    starts = [torch.randn(5, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    ours, theirs = ([torch.nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    settings = {"lr": 0.01, "weight_decay": 0.1}
    pair = [
        (ours, Muon([{"params": ours, **settings}], betas=(0.9, 0.99))),
        (theirs, torch.optim.AdamW(theirs, betas=(0.9, 0.99), **settings)),
    ]
    for step in range(12):
        for weights, optimizer in pair:
            for i, p in enumerate(weights):
                p.grad = torch.sin(p.detach() * (step + 1)) if step % (i + 1) == i else None
            optimizer.step()
    for p, q in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, q)


def test_a_matrix_is_learned_and_the_state_comes_back():
    torch.manual_seed(0)
    wanted, inputs = torch.randn(6, 4), torch.randn(64, 4)

    def run(steps, p, optimizer):
        for _ in range(steps):
            optimizer.zero_grad()
            (inputs @ p.T - inputs @ wanted.T).square().mean().backward()
            optimizer.step()
        return p.detach().clone()

    def fresh():
        p = torch.nn.Parameter(torch.zeros(6, 4))
        return p, Muon([{"params": [p], "lr": 0.05, "orthogonal": True}], betas=(0.9, 0.99))

    p, optimizer = fresh()
    whole = run(100, p, optimizer)
    assert (whole - wanted).abs().mean() < 0.1
    p, optimizer = fresh()
    run(40, p, optimizer)
    q, resumed = fresh()
    q.data.copy_(p.data)
    resumed.load_state_dict(optimizer.state_dict())
    assert torch.equal(run(60, q, resumed), whole)
