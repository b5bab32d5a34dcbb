"""A batch in the memory of a part of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def accumulated(terms: Callable[[int], dict[str, Tensor]], count: int, module: nn.Module) -> dict[str, Tensor]:
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
            own = torch.autograd.grad(found["loss"] / count, parameters, allow_unused=True)
            for i, (sum_of, more) in enumerate(zip(gradients, own, strict=True)):
                gradients[i] = more if sum_of is None else sum_of if more is None else sum_of.add_(more)
        for name, value in found.items():
            sums[name] = sums.get(name, value.new_zeros(())) + value.detach() / count
    for p, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            sums["loss"] = sums["loss"] + ((p - p.detach()) * gradient).sum()
    return sums
