"""Muon for the matrices inside a network, AdamW for all else, as one optimiser with one state."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cymatic.training.settings import TrainingSettings

# Jordan et al. (2024): of a quintic whose five rounds take every singular value in 0..1 to about 1, the steepest at 0.
QUINTIC = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
Pairs = list[tuple[Tensor, Tensor]]  # weights and their gradients


def orthogonalised(matrices: Float[Tensor, "n rows columns"]) -> Float[Tensor, "n rows columns"]:
    """Each matrix with its singular values taken near 1 (0.7 to 1.2), by Newton-Schulz rounds `a X + (b A + c A²) X`,
    with `A = X X'`: products only, so it is quick on any device.

    All rounds are polynomials of the first `A`, which commute. So they act on that small square matrix, and their
    product meets `X` once, at the end: half of the work for a matrix of four times as many columns as rows.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    gram = x @ x.mT
    product = factor = _quintic(gram)
    for _ in range(ROUNDS - 1):
        gram = factor @ gram @ factor
        factor = _quintic(gram)
        product = factor @ product
    x = product @ x
    return x.mT if tall else x


def _quintic(gram: Float[Tensor, "n rows rows"]) -> Float[Tensor, "n rows rows"]:
    """`a + b A + c A²`."""
    a, b, c = QUINTIC
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=1, dim2=2).add_(a)
    return factor


class Muon(torch.optim.Optimizer):
    """Steps of equal size in every direction of a matrix (Jordan et al., 2024, "Muon: an optimizer for the hidden
    layers of neural networks"); groups without `orthogonal=True` take AdamW's steps (arXiv 1711.05101).

    A group's `side` says who is clipped with whom, see `clip_each_side`.

    An orthogonal step is `lr * sqrt(max(1, rows / columns)) * orthogonalised(Nesterov momentum)`. Matrices of one shape
    are orthogonalised together.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, betas: tuple[float, float], momentum: float = 0.95) -> None:
        defaults = {
            "lr": 0.0, "betas": betas, "momentum": momentum, "eps": 1e-8, "weight_decay": 0.0, "orthogonal": False,
            "side": "model",
        }  # fmt: skip
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # a closure is never given
        for group in self.param_groups:
            some = [(p, p.grad) for p in group["params"] if p.grad is not None]
            for p, _ in some:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            if group["orthogonal"]:
                self._step_orthogonal(some, group)
            elif some:
                self._step_adam(some, group)

    def _step_orthogonal(self, some: Pairs, group: dict[str, Any]) -> None:
        shapes: dict[torch.Size, Pairs] = {}
        for p, gradient in some:
            state = self.state[p]
            if not state:
                state["momentum"] = torch.zeros_like(p)
            state["momentum"].lerp_(gradient, 1 - group["momentum"])
            shapes.setdefault(p.shape, []).append((p, gradient.lerp(state["momentum"], group["momentum"])))
        for shape, pairs in shapes.items():
            # A convolution is a matrix, too: from all that its kernel sees to what it says.
            ways = orthogonalised(torch.stack([g.flatten(1) for _, g in pairs]))
            size = group["lr"] * max(1, ways.shape[1] / ways.shape[2]) ** 0.5
            for (p, _), way in zip(pairs, ways, strict=True):
                p.add_(way.view(shape), alpha=-size)

    def _step_adam(self, some: Pairs, group: dict[str, Any]) -> None:
        """One step for all; those of one age together, since a weight that had no gradient at times is younger."""
        ages: dict[float, Pairs] = {}
        for p, gradient in some:
            state = self.state[p]
            if not state:
                state.update(step=torch.zeros(()), mean=torch.zeros_like(p), square=torch.zeros_like(p))
            state["step"] += 1
            ages.setdefault(state["step"].item(), []).append((p, gradient))
        for count, pairs in ages.items():
            self._step_adam_at(count, pairs, group)

    def _step_adam_at(self, count: float, pairs: Pairs, group: dict[str, Any]) -> None:
        near, far = group["betas"]
        weights, gradients = [p for p, _ in pairs], [gradient for _, gradient in pairs]
        means, squares = ([self.state[p][name] for p in weights] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - near)
        torch._foreach_mul_(squares, far)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - far)
        below = torch._foreach_sqrt(squares)
        torch._foreach_div_(below, (1 - far**count) ** 0.5)
        torch._foreach_add_(below, group["eps"])
        torch._foreach_addcdiv_(weights, means, below, -group["lr"] / (1 - near**count))


def clip_each_side(optimizer: torch.optim.Optimizer, most: float) -> Float[Tensor, ""]:
    """Scales the gradients of each side to a norm of `most` at most, all groups of one `side` by one factor.

    So what discriminators get does not shorten the steps of what they judge, nor the other way round. Gives the norm of
    all gradients before, which is not finite where one of them isn't.
    """
    sides: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        sides.setdefault(group["side"], []).extend(p for p in group["params"] if p.grad is not None)
    # Of a side without gradients torch gives a norm on the CPU, wherever the others are.
    return torch.stack([torch.nn.utils.clip_grad_norm_(side, most) for side in sides.values() if side]).norm()


def groups_of(
    module: nn.Module, settings: TrainingSettings, matrices: Sequence[nn.Parameter], side: str = "model"
) -> list[dict[str, Any]]:
    """`matrices` for Muon's steps, the rest of `module` for AdamW's; biases, norms and single vectors do not decay."""
    chosen = {id(p) for p in matrices}
    rest = [p for p in module.parameters() if p.requires_grad and id(p) not in chosen]
    decay, rate = settings.weight_decay, settings.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": list(matrices), "rate": settings.matrix_rate, "weight_decay": decay, "orthogonal": True},
        {"params": [p for p in rest if p.dim() > 1], "rate": rate, "weight_decay": decay},
        {"params": [p for p in rest if p.dim() <= 1], "rate": rate},
    ]
    return [{**group, "side": side} for group in groups if group["params"]]
