"""A term that keeps all numbers of a latent in use."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LEAST = 1e-3  # variance; with less than this a direction counts as one that has it


def whiteness_loss(z: Float[Tensor, "batch dim frames"]) -> Float[Tensor, ""]:
    """`(tr C - log det C - dim) / (2 dim)` of the covariance C over all frames of a batch, in nats a number.

    That is the divergence of a Gaussian of this covariance from the unit one; its gradient is largest along narrow
    directions. Without it a few numbers of a codec's latent outgrow the others, and the norm after a decoder's first
    layer suppresses the rest: of 32 numbers, eight held 99.99 % of the variance after 3,000 steps and later, so that
    all but three levels of codes carried nothing.
    """
    frames = z.mT.flatten(0, 1)
    centred = frames - frames.mean(0)
    covariance = centred.T @ centred / len(frames)
    dim = len(covariance)
    covariance = covariance + LEAST * torch.eye(dim, device=z.device)
    return (covariance.trace() - torch.linalg.slogdet(covariance).logabsdet - dim) / (2 * dim)
