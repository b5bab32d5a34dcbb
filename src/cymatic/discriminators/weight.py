"""How hard a discriminator may push: no harder than the reconstruction does, not before a given step, and slowly at
first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.nn.processes import processes, total


def adaptive_weight(
    reconstruction: Float[Tensor, ""],
    adversarial: Float[Tensor, ""],
    last: Tensor,
    *,
    weight: float = 0.8,
    least: float = 0.0,
    most: float = 1e4,
) -> Float[Tensor, ""]:
    """`clamp(|grad L_rec| / (|grad g| + 1e-4), least, most) * weight` (Esser et al., 2021, arXiv 2012.09841).

    The gradients are those of both losses at the decoder's `last` weights, and of all processes together. Both losses
    keep their graphs; see `settled` for one that is then small.
    """
    of_rec, of_adv = (
        total(torch.autograd.grad(loss, last, retain_graph=True)[0]) / processes()
        for loss in (reconstruction, adversarial)
    )
    return (of_rec.norm() / (of_adv.norm() + 1e-4)).clamp(least, most).detach() * weight


def settled(loss: Callable[[Tensor], Tensor], made: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """`loss(made)`, with the way from `made` to the loss gone and its gradient in its place.

    Value and gradient are the same, but the discriminators are walked through once, however often gradients are asked
    for afterwards (twice with an adaptive weight), and the memory of that walk is free before the decoder's begins.
    """
    here = made.detach().requires_grad_()
    value = loss(here)
    (gradient,) = torch.autograd.grad(value, here)
    return value.detach() + ((made - made.detach()) * gradient).sum()


def ramp(step: int, start: int, warmup: int) -> float:
    """The factor of what discriminators teach at `step`, the number of updates done before it: a line from 0 to 1.

    0 for the first `start` steps. The one after them, with `step == start`, has `1 / warmup`, and from `step == start +
    warmup - 1` on it is 1. A discriminator that knows nothing yet should not pull at full strength.
    """
    if step < start:
        return 0.0
    return min(1.0, (step - start + 1) / max(1, warmup))
