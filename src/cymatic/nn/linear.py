"""A linear layer by oneDNN, where PyTorch would ask MKL.

Both come with PyTorch. MKL keeps to AVX2 on processors that aren't Intel's, and oneDNN uses what is there: on an AMD
EPYC with AVX-512 the products of these networks take half the time, forward and backward. PyTorch reaches oneDNN from
a plain float32 layer through an operator that its compiler emits, so where that operator is missing, or something else
is asked for (another device or type, autocast, a graph to compile), the layer is torch's own.
`torch.backends.mkldnn.flags(enabled=False)` turns it off.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

HERE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
PACKS = HERE and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
BAGS = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")  # what FBGEMM has bags for


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


def matrices_of(module: nn.Module) -> list[nn.Parameter]:
    """The weights of all linear layers inside `module`, in their order: what orthogonal steps are for."""
    return [cast(nn.Parameter, layer.weight) for layer in module.modules() if isinstance(layer, nn.Linear)]


class PackedLinear:
    """A layer without gradients for at most `rows` rows at a time, as when a sequence is sampled.

    Such a product takes as long as its weights take to come out of memory, so they are copied once into the order in
    which they are read best. One row by 1 MB of weights takes 85 us on an AMD EPYC as `torch.nn.Linear` does it, 50 us
    in oneDNN's own order, where a call costs 12 us and eight rows hardly more than one, and 33 us as an embedding bag:
    one row's product is the sum of the weights' columns, each times a number, which is what bags of embeddings are
    made for, and FBGEMM, which does it, reads memory as fast as it can be read.
    """

    ROWS = 16  # what oneDNN chooses its order for; with it 1 to 16 rows were as quick as with an order of their own
    SMALL = 2**17  # weights; with fewer of them torch's own product is as quick as oneDNN's

    @torch.no_grad()
    def __init__(
        self,
        weight: Float[Tensor, "outside inside"],
        bias: Float[Tensor, " outside"] | None = None,
        *,
        rows: int = ROWS,
    ) -> None:
        self.bias = bias
        here = _suits(weight, weight)
        self.bag = here and rows == 1 and BAGS
        self.onednn = here and not self.bag and PACKS and weight.numel() >= self.SMALL
        if self.onednn:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), self.ROWS)
            return
        self.weight = weight.detach().T.contiguous()
        self.all = torch.arange(len(self.weight), dtype=torch.int32, device=weight.device)
        self.first = torch.zeros(1, dtype=torch.int32, device=weight.device)

    def __call__(self, x: Float[Tensor, "rows inside"]) -> Float[Tensor, "rows outside"]:
        """`x W^T + b`."""
        if self.onednn:
            return _product(x, self.weight, self.bias)
        if self.bag:
            y = torch.embedding_bag(self.weight, self.all, self.first, False, 0, False, x.view(-1))[0]
            return y if self.bias is None else y.add_(self.bias)
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
