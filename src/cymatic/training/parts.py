"""A batch in the memory of a part of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def in_parts(terms: Callable[[int], dict[str, Tensor]], count: int, module: nn.Module) -> dict[str, Tensor]:
    """The means of what `terms(0)` to `terms(count - 1)` give, with the gradient that the mean "loss" has for
    `module`'s parameters.

    Each part is walked through forwards and at once backwards, so that no two of them are in memory together.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    gradients: list[Tensor | None] = [None] * len(parameters)
    sums: dict[str, Tensor] = {}
    for part in range(count):
        found = terms(part)
        if torch.is_grad_enabled():
            for i, g in enumerate(torch.autograd.grad(found["loss"] / count, parameters, allow_unused=True)):
                own = gradients[i]
                gradients[i] = g if own is None else own if g is None else own.add_(g)
        for name, value in found.items():
            sums[name] = sums.get(name, value.new_zeros(())) + value.detach() / count
    for p, g in zip(parameters, gradients, strict=True):
        if g is not None:
            sums["loss"] = sums["loss"] + ((p - p.detach()) * g).sum()
    return sums
