"""What discriminators say, and whether it still means anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

DiscriminatorOutput = tuple[Tensor, list[Tensor]]  # scores, features


@torch.no_grad()
def score_statistics(real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Float[Tensor, "3"]:
    """One discriminator on one batch: the mean of its scores for real ones, that for made ones, and how much scores
    differ among each kind (the mean of both variances)."""
    r, f = real[0].detach(), fake[0].detach()
    return torch.stack([r.mean(), f.mean(), (r.var(correction=0) + f.var(correction=0)) / 2])


def collapse(
    statistics: Sequence[Float[Tensor, "3"]], *, least: float = 1e-2, apart: float = 5e-2
) -> Literal["constant", "blind"] | None:
    """Whether a discriminator teaches nothing, by its statistics over several batches; for a log, not for a decision.

    `constant`: all its scores, over places, items and batches, differ by less than `least` (standard deviation), so
    it says the same of everything. `blind`: its scores differ, but those for real ones lie above those for made ones by
    less than `apart` of that standard deviation on average, so it says nothing of what is real.
    """
    seen = torch.stack(list(statistics)).double().cpu()
    spread = (seen[:, 2].mean() + seen[:, :2].var(correction=0)).sqrt()
    if spread < least:
        return "constant"
    return "blind" if (seen[:, 0] - seen[:, 1]).mean() < apart * spread else None
