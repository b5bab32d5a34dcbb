"""A batch in the memory of a part of it: of losses that are means over items, and of losses over all pairs of items."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def cached(
    encode: Callable[[int], dict[str, Tensor]],
    count: int,
    loss: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
    module: nn.Module,
) -> dict[str, Tensor]:
    """`loss` of the vectors of a whole batch, with its gradient, where only a part of it is encoded at once.

    The vectors of all items are computed without a graph, the loss of all gives the gradient of each vector, and each
    part is encoded once more and walked through backwards from there (Gao et al., 2021, arXiv 2101.06983, "GradCache").
    It costs one more pass forwards. `encode(0)` to `encode(count - 1)` give the vectors of every `count`th item from
    that place on, by role, and have to give the same both times.
    """
    with torch.no_grad():
        found = [encode(number) for number in range(count)]
    vectors: dict[str, Tensor] = {}
    for role in found[0]:
        total = sum(len(one[role]) for one in found)
        vectors[role] = found[0][role].new_empty(total, *found[0][role].shape[1:])
        for number, one in enumerate(found):
            vectors[role][number::count] = one[role]
        vectors[role].requires_grad_(torch.is_grad_enabled())
    terms = loss(vectors)
    if not torch.is_grad_enabled():
        return terms
    gradients = torch.autograd.grad(terms["loss"], list(vectors.values()), retain_graph=True)
    by_role = dict(zip(vectors, gradients, strict=True))

    def pulled(number: int) -> dict[str, Tensor]:
        """What has, for the weights, the gradient of the loss through these items' vectors."""
        own = encode(number)
        pull = torch.stack([(own[role] * by_role[role][number::count]).sum() for role in own]).sum()
        return {"loss": count * pull}

    carried = accumulated(pulled, count, module)["loss"]
    return {**terms, "loss": terms["loss"] + carried - carried.detach()}
