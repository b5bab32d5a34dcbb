"""What a variational autoencoder's loss and measures are made of, as plain functions.

The posterior of each item is a normal of mean mu and variance sigma² in each dimension, the prior a standard normal
(Kingma and Welling, 2013, arXiv 1312.6114).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

ACTIVE = 0.01  # the variance of a dimension's means from which on it is called active


def divergence(mean: Float[Tensor, "batch dim"], log_var: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
    """KL to the standard normal in nats, `(mu² + sigma² - log sigma² - 1) / 2` in each dimension."""
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1)


def free_bits(kl: Float[Tensor, "batch dim"], mode: int, target: float) -> Float[Tensor, ""]:
    """The batch's mean KL of which what lies below `target` nats is free (Kingma et al., 2016, arXiv 1606.04934).

    As masks, so that what is free has no gradient (Li et al., 2019, arXiv 1909.00868): mode 0, nothing is free; 1, the
    whole KL of an item that is at most the target; 2, that of an item's dimension which is at most target / dim; 3, the
    whole batch's while its mean is at most the target.
    """
    whole = kl.sum(1)
    if mode == 0:
        return whole.mean()
    if mode == 1:
        return (whole * (whole > target)).mean()
    if mode == 2:
        return (kl * (kl > target / kl.shape[1])).sum(1).mean()
    return whole.mean() * (whole.mean() > target)


def ramp(step: int, start: float, warm_up: int) -> float:
    """The KL's weight: from `start` to 1 in `warm_up` steps, `min(1, start + (1 - start) step / warm_up)`."""
    return min(1.0, start + (1 - start) * step / warm_up) if warm_up > 0 else 1.0


def drawn(
    mean: Float[Tensor, "batch dim"], log_var: Float[Tensor, "batch dim"], noise: Float[Tensor, "batch dim"]
) -> Float[Tensor, "batch dim"]:
    """`mu + sigma * noise`."""
    return mean + (0.5 * log_var).exp() * noise


def log_density(
    z: Float[Tensor, "*_ dim"], mean: Float[Tensor, "*_ dim"], log_var: Float[Tensor, "*_ dim"]
) -> Float[Tensor, "*_"]:
    """`log N(z; mu, sigma²)` in nats."""
    return -0.5 * ((z - mean).square() / log_var.exp() + log_var + math.log(2 * math.pi)).sum(-1)


def mutual_information(
    mean: Float[Tensor, "items dim"], log_var: Float[Tensor, "items dim"], generator: torch.Generator
) -> float:
    """`I(x; z) = E[log q(z | x) - log q(z)]` in nats, with the mean of the items' posteriors as `q(z)`.

    The estimate of Hoffman and Johnson (2016) with one draw for each item: between 0, where z says nothing of x, and
    the log of the number of items, which it never exceeds. Both terms are taken at the same draws (He et al., 2019,
    arXiv 1901.05534, take the entropy of `q(z | x)` as it is known), so that what a draw has by chance cancels.
    """
    z = drawn(mean, log_var, torch.randn(mean.shape, generator=generator).to(mean))
    among = torch.stack([log_density(one, mean, log_var) for one in z])
    return float((among.diagonal() - among.logsumexp(1)).mean() + math.log(len(z)))


def active_units(mean: Float[Tensor, "items dim"]) -> int:
    """How many dimensions' means vary over the items, by 0.01 at least (Burda et al., 2015, arXiv 1509.00519)."""
    return int((mean.var(0) >= ACTIVE).sum())
