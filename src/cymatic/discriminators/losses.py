"""What discriminators teach and learn, as functions of what they said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from cymatic.discriminators.output import DiscriminatorOutput

Rule = Literal["hinge", "squares"]


def discriminator_loss(
    real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput], rule: Rule = "hinge"
) -> Tensor:
    """Mean over discriminators of what tells real from made.

    `hinge` (Lim and Ye, 2017, arXiv 1705.02894): `max(0, 1 - D(real)) + max(0, 1 + D(fake))`.
    `squares` (Mao et al., 2017, arXiv 1611.04076): `(1 - D(real))^2 + D(fake)^2`.
    """
    pairs = [(r, f) for (r, _), (f, _) in zip(real, fake, strict=True)]
    if rule == "squares":
        return torch.stack([(1 - r).square().mean() + f.square().mean() for r, f in pairs]).mean()
    return torch.stack([(1 - r).relu().mean() + (1 + f).relu().mean() for r, f in pairs]).mean()


def generator_loss(fake: Sequence[DiscriminatorOutput], rule: Rule = "hinge") -> Tensor:
    """The other side, mean over discriminators: `max(0, 1 - D(fake))`, which stops pushing where a discriminator is
    convinced, or `(1 - D(fake))^2`."""
    short = [1 - scores for scores, _ in fake]
    return torch.stack([(x.square() if rule == "squares" else x.relu()).mean() for x in short]).mean()


def persuasion_loss(fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """The hinge's other side as MelGAN has it: `-D(fake)`, summed over discriminators. It never stops pushing."""
    return -torch.stack([scores.mean() for scores, _ in fake]).sum()


def repulsion_loss(
    real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput], weight: float = 1e-3
) -> Tensor:
    """`weight / mean |D(real) - D(fake) + 1e-3|`, summed over discriminators: keeps them from saying the same of
    everything.

    From Lumen (audio_generation, 2023). Scores are compared place by place, so both sounds are as long. It is added to
    the discriminators' loss, and matters only where a discriminator has almost collapsed: at a gap of 1 it is `weight`.
    """
    gaps = [(r - f + 1e-3).abs().mean() for (r, _), (f, _) in zip(real, fake, strict=True)]
    return weight * torch.stack(gaps).reciprocal().sum()


def feature_loss(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean over discriminators and layers of `|real - fake| / mean |real|` (Larsen et al., 2015, arXiv 1512.09300)."""
    terms = [
        (r.detach() - f).abs().mean() / r.detach().abs().mean().clamp_min(1e-6)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return torch.stack(terms).mean()


def matching_loss(real: Sequence[DiscriminatorOutput], fake: Sequence[DiscriminatorOutput]) -> Tensor:
    """MelGAN's: `4 / (n + 1) / discriminators * mean |real - fake|`, summed over layers and discriminators; n strided
    layers in each.

    Each has n + 2 layers with features: the one of 15 taps, the strided ones and the one of 5 (Kumar et al., 2019,
    arXiv 1910.06711).
    """
    terms = [
        4 / (len(reals) - 1) * (r.detach() - f).abs().mean()
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return torch.stack(terms).sum() / len(real)
