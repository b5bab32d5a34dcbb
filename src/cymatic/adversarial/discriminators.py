"""Discriminators of waveforms: one looks at a complex spectrogram, one at every n-th sample.

Both give a map of scores and the features on the way to it. No batch statistics anywhere: an item's score does not
depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

Judged = tuple[Tensor, list[Tensor]]  # scores, features


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over real and imaginary part of an STFT, as pictures of time and frequency.

    After EnCodec's multi-scale STFT discriminator (Défossez et al., 2022, arXiv 2210.13438): strides along frequency,
    growing dilation along time. Magnitudes are raised to 0.3 first, so that quiet partials count as ears count them.
    """

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        sizes = ((2, width, 2, 1), (width, width, 2, 1), (width, 2 * width, 2, 2), (2 * width, 2 * width, 2, 4))
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 3), stride=(stride, 1), dilation=(1, dilation), padding=(2, dilation)))
            for i, o, stride, dilation in sizes
        )
        self.last = weight_norm(nn.Conv2d(2 * width, 1, 3, padding=1))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> Judged:
        window = torch.hann_window(self.window, device=waveform.device)
        spectrum = torch.stft(
            waveform[:, 0], self.window, self.window // 4, window=window, center=True, return_complex=True
        )
        x = torch.view_as_real(spectrum).permute(0, 3, 1, 2) / self.window**0.5
        x = x * x.square().sum(1, keepdim=True).add(1e-6) ** -0.35
        features = []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.1)
            features.append(x)
        return self.last(x), features


class PeriodDiscriminator(nn.Module):
    """Convolutions along every `period`-th sample (HiFi-GAN: Kong et al., 2020, arXiv 2010.05646)."""

    def __init__(self, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = (1, width, 2 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 1), stride=(3, 1), padding=(2, 0))) for i, o in pairwise(widths)
        )
        self.last = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> Judged:
        x = pad(waveform, (0, -waveform.shape[-1] % self.period)).unflatten(-1, (-1, self.period))
        features = []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.1)
            features.append(x)
        return self.last(x), features


class Discriminators(nn.Module):
    """Several judges side by side: one spectrogram a window length, one comb a period."""

    def __init__(
        self,
        *,
        windows: Sequence[int] = (1024, 512, 256),
        periods: Sequence[int] = (2, 3, 5, 7),
        width: int = 16,
    ) -> None:
        super().__init__()
        self.judges = nn.ModuleList(
            [SpectrogramDiscriminator(window, width) for window in windows]
            + [PeriodDiscriminator(period, width) for period in periods]
        )

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> list[Judged]:
        return [judge(waveform) for judge in self.judges]
