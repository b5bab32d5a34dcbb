"""Snake: an activation that is periodic and grows, for signals that are periodic.

Ziyin, Hartwig and Ueda (2020, arXiv 2006.08195): `x + sin(a x)^2 / a`, here with an `a` of each channel's own that is
learned, as the Descript Audio Codec has it (Kumar et al., 2023, arXiv 2306.06546).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Snake(nn.Module):
    """`x + sin(a x)^2 / a`; at first `a` is 1 in every channel.

    What is learned is the logarithm of `a`, so that it never crosses zero.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.log_a = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Float[Tensor, "batch channels n"]) -> Float[Tensor, "batch channels n"]:
        a = self.log_a.exp()
        return torch.addcdiv(x, (a * x).sin().square(), a)
