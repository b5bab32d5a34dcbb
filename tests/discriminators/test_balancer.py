"""The balancer: shares of the gradient by the weights, whatever the losses' scales."""

import pytest
import torch

from cymatic.discriminators import balancer as module
from cymatic.discriminators.balancer import Balancer, BalancerConfig
from cymatic.errors import Error


def made(seed=0):
    return torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def pull(balancer, losses, y):
    return torch.autograd.grad(balancer(losses, y), y)[0]


def test_the_gradient_is_shared_by_weight_and_not_by_scale():
    y, toward = made(), torch.zeros(3, 1, 8)
    toward[0], across = 1.0, torch.zeros(3, 1, 8)
    across[1] = 1.0
    losses = {"a": 1e-6 * (y * toward).sum(), "b": 1e6 * (y * across).sum()}
    found = pull(Balancer(BalancerConfig(weights={"a": 3, "b": 1})), losses, y)
    torch.testing.assert_close(found, 0.75 * toward / toward.norm() + 0.25 * across / across.norm())


def test_the_norms_are_running_means_by_the_papers_formula():
    balancer = Balancer(BalancerConfig(weights={"a": 2.0, "b": 1.0}, decay=0.9, norm=5.0))
    sums, seen = {"a": 0.0, "b": 0.0}, {"a": 0.0, "b": 0.0}
    for step in range(5):
        y = made(step)
        losses = {"a": y.square().mean(), "b": (step + 1) * (y - 1).abs().sum()}
        if step == 2:
            del losses["b"]
        gradients = {name: torch.autograd.grad(loss, y, retain_graph=True)[0] for name, loss in losses.items()}
        weights = {"a": 2.0, "b": 1.0}
        expected = torch.zeros_like(y)
        for name, gradient in gradients.items():
            sums[name] = 0.9 * sums[name] + gradient.norm().item()
            seen[name] = 0.9 * seen[name] + 1
            expected += 5 * weights[name] / sum(weights[n] for n in losses) * gradient * seen[name] / sums[name]
        torch.testing.assert_close(pull(balancer, losses, y), expected, rtol=1e-4, atol=1e-6)


def test_its_value_is_the_weighted_sum_and_its_gradient_goes_on_below():
    weight = torch.tensor(2.0, requires_grad=True)
    y = weight * made().detach()
    total = Balancer(BalancerConfig(weights={"a": 3.0}))({"a": y.square().sum()}, y)
    assert total.item() == pytest.approx(3 * y.square().sum().item(), rel=1e-5)
    total.backward()
    # The gradient at y is y / |y|, and y = weight * x.
    assert weight.grad.item() == pytest.approx(y.norm().item() / 2, rel=1e-5)


def test_processes_together_have_the_norm_of_their_whole_batch(monkeypatch):
    y = made()
    whole = torch.cat([made(), made()]).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(whole.square().mean(), whole)
    monkeypatch.setattr(module, "total", lambda x: 2 * x)
    monkeypatch.setattr(module, "processes", lambda: 2)
    two = Balancer(BalancerConfig(weights={"a": 1.0}, decay=0.0))
    two({"a": y.square().mean()}, y)
    torch.testing.assert_close(two.norms[0], gradient.norm())


@pytest.mark.parametrize("factor", [0.0, float("nan"), float("inf")])
def test_a_loss_without_a_sane_gradient_pulls_nowhere(factor):
    y, balancer = made(), Balancer(BalancerConfig(weights={"a": 1.0, "b": 1.0}))
    found = pull(balancer, {"a": y.sum(), "b": factor * y.sum()}, y)
    assert found.norm().item() == pytest.approx(0.5) and balancer.norms.isfinite().all()


def test_saved_in_the_middle_it_goes_on_as_it_would_have():
    config = BalancerConfig(weights={"a": 1.0}, decay=0.5)
    whole, first, second = (Balancer(config) for _ in range(3))
    for balancer in (whole, first):
        balancer({"a": (y := made()).square().sum()}, y)
    second.load_state_dict(first.state_dict())
    y = made(1)
    assert torch.equal(pull(second, {"a": y.abs().sum()}, y), pull(whole, {"a": y.abs().sum()}, y))


def test_a_loss_that_does_not_come_from_the_output_passes_on_its_weight_times_its_gradient():
    inner = made(1)
    y, balancer = 2 * inner, Balancer(BalancerConfig(weights={"a": 1.0, "inside": 3.0, "b": 1.0}))
    losses = {"a": y.sum(), "inside": 100 * inner.square().mean(), "b": 5 * y.sum()}
    total = balancer(losses, y)
    assert total.item() == pytest.approx(
        sum(w * losses[n].item() for n, w in balancer.config.weights.items()), rel=1e-5
    )
    own = 3 * torch.autograd.grad(losses["inside"], inner, retain_graph=True)[0]
    # Both others pull the same way, each with half of a gradient of norm 1 at y = 2 * inner.
    torch.testing.assert_close(torch.autograd.grad(total, inner, retain_graph=True)[0], own + 2 / y.numel() ** 0.5)
    assert not balancer.norms[1]
    alone = torch.autograd.grad(balancer({"inside": losses["inside"]}, y), inner, retain_graph=True)[0]
    torch.testing.assert_close(alone, own)


def test_bad_weights_are_refused():
    with pytest.raises(Error, match='"mels" has no weight; did you mean "mel"'):
        Balancer(BalancerConfig(weights={"mel": 1.0}))({"mels": (y := made()).sum()}, y)
    for weights in ({"a": -1.0, "b": 2.0}, {"a": 0.0}):
        with pytest.raises(Error, match="none below 0, and one above"):
            Balancer(BalancerConfig(weights=weights))
