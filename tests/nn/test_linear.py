"""The layer by oneDNN against torch's own, in values and gradients."""

import pytest
import torch
from torch.nn import functional

from cymatic.nn import linear as module
from cymatic.nn.linear import Linear, PackedLinear, gelu_linear, linear


def parts(shape: tuple[int, ...], bias: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(*shape, 24), (10, 24)] + ([(10,)] if bias else [])
    return [torch.randn(*s, generator=generator, requires_grad=True) for s in shapes]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(), (5,), (3, 17), (2, 3, 4)])
def test_values_and_gradients_are_those_of_torch(shape, bias):
    x, *weights = parts(shape, bias)
    ours, theirs = linear(x, *weights), functional.linear(x, *weights)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    toward = torch.randn(theirs.shape, generator=torch.Generator().manual_seed(1))
    for a, b in zip(*(torch.autograd.grad(y, (x, *weights), toward) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_memory_in_another_order_changes_nothing():
    x, weight, bias = (p.detach() for p in parts((4, 9), True))
    turned = x.transpose(0, 1)
    torch.testing.assert_close(linear(turned, weight, bias), functional.linear(turned, weight, bias), atol=1e-5, rtol=0)


def test_gelu_is_the_same_with_and_without_a_gradient():
    layer, x = Linear(24, 10), parts((3, 17), False)[0]
    with torch.no_grad():
        torch.testing.assert_close(gelu_linear(x, layer), functional.gelu(layer(x), approximate="tanh"))
    torch.testing.assert_close(gelu_linear(x, layer), functional.gelu(layer(x), approximate="tanh"))


@torch.no_grad()
def test_leaves_to_torch_what_it_is_not_for(monkeypatch):
    def refuse(*_):
        raise AssertionError("this product is not for oneDNN")

    monkeypatch.setattr(module, "_product", refuse)
    layer, x = Linear(4, 3), torch.randn(2, 4)
    assert layer.double()(x.double()).dtype == torch.float64
    assert layer.float()(torch.zeros(0, 4)).shape == (0, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=True):
        assert not module._suits(x, layer.weight)
    with torch.backends.mkldnn.flags(enabled=False):
        assert layer(x).shape == (2, 3)


@pytest.mark.parametrize("way", ["oneDNN", "bag", "plain", "small"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 3, 40])
@torch.no_grad()
def test_weights_in_another_order_change_nothing(monkeypatch, rows, bias, way):
    monkeypatch.setattr(PackedLinear, "SMALL", 10**6 if way == "small" else 0)
    monkeypatch.setattr(module, "BAGS", way == "bag" and module.BAGS)
    if way == "plain":
        monkeypatch.setattr(module, "HERE", False)
    x, *weights = (p.detach() for p in parts((rows,), bias))
    layer = PackedLinear(*weights, rows=rows)
    assert layer.bag == (rows == 1 and module.BAGS and module.HERE)
    assert layer.onednn == (module.PACKS and module.HERE and not layer.bag and way != "small")
    plain, other = functional.linear(x, *weights), torch.randn(rows, 10)
    torch.testing.assert_close(layer(x), plain, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.gelu(x), functional.gelu(plain), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.plus(x, other), plain + other, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_gelu_may_be_exact():
    layer, x = Linear(24, 10), parts((3, 17), False)[0]
    torch.testing.assert_close(gelu_linear(x, layer, "none"), functional.gelu(layer(x)), atol=1e-6, rtol=1e-5)
