"""What the stages of a decoder should already sound like."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, mse_loss

LUMENS = (0.25, 0.5, 1.0, 1.25, 0.01, 2.99)  # from the coarsest stage on


def channel_average_distance(
    stages: Sequence[Float[Tensor, "batch _ _"]],
    waveform: Float[Tensor, "batch 1 samples"],
    weights: Sequence[float] = LUMENS,
) -> Float[Tensor, ""]:
    """`sum_s w_s mean (mean over channels of h_s - x_s)^2`, `x_s` the waveform drawn out to the length of `h_s`.

    From Lumen's history (audio_generation, 2023): the mean channel of each stage of a decoder, from coarse to fine, is
    led to be the sound at that stage's rate.
    """
    terms = []
    for stage, weight in zip(stages, weights, strict=True):
        mean = stage.mean(1, keepdim=True)
        wanted = interpolate(waveform, size=mean.shape[-1], mode="linear", align_corners=False)
        terms.append(weight * mse_loss(mean, wanted))
    return torch.stack(terms).sum()
