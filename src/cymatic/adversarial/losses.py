"""What discriminators teach and learn: hinge losses and feature matching, as functions of what they said."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cymatic.adversarial.discriminators import Judged


def discriminator_loss(real: Sequence[Judged], fake: Sequence[Judged]) -> Tensor:
    """Hinge (Lim and Ye, 2017, arXiv 1705.02894), mean over judges: `max(0, 1 - D(real)) + max(0, 1 + D(fake))`."""
    terms = [(1 - r).relu().mean() + (1 + f).relu().mean() for (r, _), (f, _) in zip(real, fake, strict=True)]
    return torch.stack(terms).mean()


def generator_loss(fake: Sequence[Judged]) -> Tensor:
    """Hinge's other side, mean over judges: `max(0, 1 - D(fake))`, which stops pushing where a judge is convinced."""
    return torch.stack([(1 - scores).relu().mean() for scores, _ in fake]).mean()


def feature_loss(real: Sequence[Judged], fake: Sequence[Judged]) -> Tensor:
    """Mean over judges and layers of `|real - fake| / mean |real|` (Larsen et al., 2015, arXiv 1512.09300)."""
    terms = [
        (r.detach() - f).abs().mean() / r.detach().abs().mean().clamp_min(1e-6)
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return torch.stack(terms).mean()
