"""Discriminators that look at a spectrogram, as a picture of its real and imaginary parts."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import weight_norm

from cymatic.config import Config
from cymatic.discriminators.output import DiscriminatorOutput

# In, out (in multiples of the width), stride along frequency, dilation along time, of kernels of 5 x 3.
LAYERS = ((1, 1, 2, 1), (1, 1, 2, 1), (1, 2, 2, 2), (2, 2, 2, 4))


class SpectrogramDiscriminatorConfig(Config):
    """`window`: samples of the STFT, whose hop is a quarter of it. `width`: channels of the first layer."""

    kind: Literal["spectrogram"] = "spectrogram"
    window: int = Field(ge=16, le=16_384, multiple_of=4)
    width: int = Field(default=16, ge=1, le=1024)

    @property
    def longest_window(self) -> int:
        """Samples of what it needs to look at once."""
        return self.window


def spectrum(waveform: Float[Tensor, "batch 1 samples"], window: int) -> Float[Tensor, "batch 2 bins frames"]:
    """Real and imaginary parts. Magnitudes are raised to 0.3, so that quiet partials count as ears count them."""
    hann = torch.hann_window(window, device=waveform.device)
    found = torch.stft(waveform[:, 0], window, window // 4, window=hann, center=True, return_complex=True)
    x = torch.view_as_real(found).permute(0, 3, 1, 2) / window**0.5
    return x * x.square().sum(1, keepdim=True).add(1e-6) ** -0.35


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over real and imaginary part of an STFT, as pictures of time and frequency.

    After EnCodec's multi-scale STFT discriminator (Défossez et al., 2022, arXiv 2210.13438): strides along frequency,
    growing dilation along time.
    """

    def __init__(self, config: SpectrogramDiscriminatorConfig) -> None:
        super().__init__()
        self.window, width = config.window, config.width
        sizes = [(2 if i == 0 else a * width, b * width, s, d) for i, (a, b, s, d) in enumerate(LAYERS)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(i, o, (5, 3), stride=(stride, 1), dilation=(1, dilation), padding=(2, dilation)))
            for i, o, stride, dilation in sizes
        )
        self.last = weight_norm(nn.Conv2d(sizes[-1][1], 1, 3, padding=1))

    def forward(self, waveform: Float[Tensor, "batch 1 samples"]) -> DiscriminatorOutput:
        x = spectrum(waveform, self.window)
        features = []
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.1)
            features.append(x)
        return self.last(x), features
