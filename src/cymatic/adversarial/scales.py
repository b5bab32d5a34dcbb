"""MelGAN's judges of waveforms, each at half the rate of the one before, and what they teach.

Kumar et al., 2019, arXiv 1910.06711, sections 2.2 and 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from cymatic.adversarial.discriminators import Judged

SLOPE = 0.2  # of each leaky rectifier
STRIDE = 4
MOST_CHANNELS = 1024
CHANNELS_PER_GROUP = 4


class ScaleDiscriminator(nn.Module):
    """Convolutions along a waveform: 15 taps, then `depth` grouped ones of 41 taps that each keep every fourth place,
    then 5 taps and 3."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv1d(1, width, 15))
        layers = []
        for _ in range(depth):
            wider = min(STRIDE * width, MOST_CHANNELS)
            taps, groups = 10 * STRIDE + 1, max(1, width // CHANNELS_PER_GROUP)
            layers.append(nn.Conv1d(width, wider, taps, STRIDE, padding=taps // 2, groups=groups))
            width = wider
        wider = min(2 * width, MOST_CHANNELS)
        layers.append(nn.Conv1d(width, wider, 5, padding=2))
        self.layers = nn.ModuleList(map(weight_norm, layers))
        self.last = weight_norm(nn.Conv1d(wider, 1, 3, padding=1))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> Judged:
        x = leaky_relu(self.first(pad(waveform, (7, 7), mode="reflect")), SLOPE)
        features = [x]
        for layer in self.layers:
            x = leaky_relu(layer(x), SLOPE)
            features.append(x)
        return self.last(x), features


class ScaleDiscriminators(nn.Module):
    """`scales` judges; each but the first hears means of four samples, two apart, of what the one before hears.

    A waveform has at least `8 * 2 ** (scales - 1)` samples.
    """

    def __init__(self, *, width: int = 16, depth: int = 4, scales: int = 3) -> None:
        super().__init__()
        self.judges = nn.ModuleList(ScaleDiscriminator(width, depth) for _ in range(scales))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> list[Judged]:
        judged = []
        for judge in self.judges:
            judged.append(judge(waveform))
            waveform = avg_pool1d(waveform, 4, stride=2, padding=1, count_include_pad=False)
        return judged


def persuasion_loss(fake: Sequence[Judged]) -> Tensor:
    """The generator's side of the hinge: `-D(fake)`, summed over the scales. It never stops pushing."""
    return -torch.stack([scores.mean() for scores, _ in fake]).sum()


def matching_loss(real: Sequence[Judged], fake: Sequence[Judged]) -> Tensor:
    """`4 / (n + 1) / scales * mean |real - fake|`, summed over layers and scales; n strided layers in each judge.

    Each has n + 2 layers with features: the one of 15 taps, the strided ones and the one of 5.
    """
    terms = [
        4 / (len(reals) - 1) * (r.detach() - f).abs().mean()
        for (_, reals), (_, fakes) in zip(real, fake, strict=True)
        for r, f in zip(reals, fakes, strict=True)
    ]
    return torch.stack(terms).sum() / len(real)
