"""Several losses of one output, each with its share of the gradient, however large it is."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from cymatic.config import Config, nearest
from cymatic.errors import Error
from cymatic.nn.processes import processes, total


class BalancerConfig(Config):
    """`weights`: the share of each loss by its name. `decay`: of the running norms. `norm`: of the gradient's sum, if
    all pull the same way."""

    weights: dict[str, float] = Field(min_length=1)
    decay: float = Field(default=0.999, ge=0, lt=1)
    norm: float = Field(default=1.0, gt=0)


class Balancer(nn.Module):
    """EnCodec's (Défossez et al., 2022, arXiv 2210.13438, section 3.4): weights say what part of the gradient at the
    output y comes from which loss, whatever its scale.

    With `g_i = dl_i / dy`, and `n_i` the running mean of their norms, corrected for its start as Adam's is, the
    gradient is `R sum_i w_i / (sum_j w_j) g_i / n_i`. The sums run over the losses that a step has. The norms are those
    of the gradients of all processes together, and lie in buffers, so a run goes on where it stopped.
    """

    norms: Tensor
    shares: Tensor

    def __init__(self, config: BalancerConfig) -> None:
        super().__init__()
        if min(config.weights.values()) < 0 or not any(config.weights.values()):
            raise Error(f"the weights of the losses are {config.weights}; give none below 0, and one above")
        self.config = config
        self.register_buffer("norms", torch.zeros(len(config.weights)))
        self.register_buffer("shares", torch.zeros(len(config.weights)))

    def forward(self, losses: Mapping[str, Float[Tensor, ""]], made: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """A number whose gradient at `made` is the balanced one; its value is the sum of `weight * loss`.

        Each loss is walked back to `made` and no further. One whose gradient is not finite passes none on. One that
        doesn't come from `made`, as one of a decoder's inner layers, has no gradient there that could be balanced: it
        passes on that of `weight * loss`, and the shares are those of the others.
        Raises Error for a loss without a weight.
        """
        weights = self.config.weights
        for name in losses:
            if name not in weights:
                raise Error(f'the loss "{name}" has no weight; {nearest(name, weights)}')
        found = {
            name: torch.autograd.grad(loss, made, retain_graph=True, allow_unused=True)[0]
            for name, loss in losses.items()
        }
        pull, value = torch.zeros_like(made), made.new_zeros(())
        for name, loss in losses.items():
            value = value + weights[name] * (loss if found[name] is None else loss.detach())
        gradients = {name: gradient for name, gradient in found.items() if gradient is not None}
        if not gradients:
            return value
        whole = sum(weights[name] for name in gradients) or 1.0
        squares = torch.stack([gradient.square().sum() for gradient in gradients.values()])
        norms = (total(squares).sqrt() / processes()).to(self.norms)
        for (name, gradient), norm in zip(gradients.items(), norms, strict=True):
            place = list(weights).index(name)
            if not norm.isfinite():
                continue
            decay = self.config.decay
            self.norms[place] = decay * self.norms[place] + (1 - decay) * norm
            self.shares[place] = decay * self.shares[place] + (1 - decay)
            usual = self.norms[place] / self.shares[place]
            if usual > 0:
                pull += self.config.norm * weights[name] / whole / usual * gradient
        return value + ((made - made.detach()) * pull).sum()
