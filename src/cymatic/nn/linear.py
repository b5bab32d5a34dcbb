"""A linear layer by oneDNN, where PyTorch would ask MKL.

Both come with PyTorch. MKL keeps to AVX2 on processors that aren't Intel's, and oneDNN uses what is there: on an AMD
EPYC with AVX-512 the products of these networks take half the time, forward and backward. PyTorch reaches oneDNN from
a plain float32 layer through an operator that its compiler emits, so where that operator is missing, or something else
is asked for (another device or type, autocast, a graph to compile), the layer is torch's own.
`torch.backends.mkldnn.flags(enabled=False)` turns it off.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

HERE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


class Linear(nn.Linear):
    """`x W^T + b`, in weights and results torch's layer up to rounding."""

    def forward(self, x: Float[Tensor, "*batch inside"]) -> Float[Tensor, "*batch outside"]:
        return linear(x, self.weight, self.bias)


def linear(
    x: Float[Tensor, "*batch inside"],
    weight: Float[Tensor, "outside inside"],
    bias: Float[Tensor, " outside"] | None = None,
) -> Float[Tensor, "*batch outside"]:
    """`x W^T + b`."""
    if not _suits(x, weight):
        return functional.linear(x, weight, bias)
    if torch.is_grad_enabled():
        return _Product.apply(x, weight, bias)
    return _product(x, weight, bias)


def gelu_linear(
    x: Float[Tensor, "*batch inside"], layer: nn.Linear, approximate: Literal["tanh", "none"] = "tanh"
) -> Float[Tensor, "*batch outside"]:
    """`gelu(layer(x))` by tanh, or exactly with `none`; in one pass over the memory where no gradient is asked for."""
    if torch.is_grad_enabled() or not _suits(x, layer.weight):
        return functional.gelu(layer(x), approximate=approximate)
    return _product(x, layer.weight, layer.bias, "gelu", approximate)


class PackedLinear:
    """A layer without gradients for few rows at a time, as when a sequence is sampled.

    Such a product takes as long as its weights take to come out of memory, so they are copied once into the order in
    which they are read. For oneDNN's kernels, one row by 1 MB of weights takes 50 us that way on an AMD EPYC, 75 us as
    they lie, and eight rows 80 us. A call costs 12 us more than torch's own, which does as well with small ones.
    """

    ROWS = 16  # what oneDNN chooses its order for; with it 1 to 16 rows were as quick as with an order of their own
    SMALL = 2**17  # weights

    @torch.no_grad()
    def __init__(self, weight: Float[Tensor, "outside inside"], bias: Float[Tensor, " outside"] | None = None) -> None:
        self.bias = bias
        self.onednn = _suits(weight, weight) and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        if self.onednn and weight.numel() >= self.SMALL:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), self.ROWS)
        else:
            self.onednn, self.weight = False, weight.detach().T.contiguous()

    def __call__(self, x: Float[Tensor, "rows inside"]) -> Float[Tensor, "rows outside"]:
        """`x W^T + b`."""
        if self.onednn:
            return _product(x, self.weight, self.bias)
        return torch.mm(x, self.weight) if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def gelu(self, x: Float[Tensor, "rows inside"]) -> Float[Tensor, "rows outside"]:
        """The exact GELU of it."""
        if self.onednn:
            return _product(x, self.weight, self.bias, "gelu", "none")
        return functional.gelu(self(x))

    def plus(self, x: Float[Tensor, "rows inside"], other: Float[Tensor, "rows outside"]) -> Tensor:
        """It and `other`."""
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.weight, self.bias, "add")
        return self(x).add_(other)


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        HERE
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == weight.device.type == "cpu"
        and x.numel() > 0
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, after: str = "none", kind: str = "") -> Tensor:
    return torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, after, [], kind)


class _Product(torch.autograd.Function):
    """The operator has no gradient of its own: for `y = x W^T + b` they are `g W`, `g^T x` and the sum of `g`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rows, g = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _product(g, weight.T, None).view_as(x) if of_x else None,
            _product(g.T, rows.T, None) if of_weight else None,
            g.sum(0) if of_bias else None,
        )
