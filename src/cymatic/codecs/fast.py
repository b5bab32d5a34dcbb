"""The fast family: an STFT in front, ConvNeXt blocks at the frame rate, an inverse STFT behind; all of it causal.

The decoder is Vocos' (Siuzdak, 2023, arXiv 2306.00814) made causal, the encoder its mirror image. Nothing runs at the
rate of the samples but the two transforms, which is why it is many times faster than a stack of strided convolutions.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import conv2d

from cymatic.config import Config
from cymatic.nn.linear import Linear, gelu_linear
from cymatic.nn.past import Past, before, over
from cymatic.signal.stft import overlap_add

KERNEL = 7  # frames that a block looks at
MOST_MAGNITUDE = 100.0  # of a bin, as in `vocoders/vocos.py`


class FastShape(Config):
    """`hop`: samples of a frame; `split`: transforms a frame; `overlap`: how many of their windows cover a sample.

    `encoder` and `decoder`: blocks at the rate of the transforms and at that of the frames, in their order on the way.
    """

    kind: Literal["fast"] = "fast"
    hop: int = Field(default=480, gt=0, le=65_536)
    split: int = Field(default=2, ge=1, le=16)
    overlap: int = Field(default=4, ge=3, le=16)
    width: int = Field(default=256, gt=0, le=4096)
    widening: int = Field(default=2, gt=0, le=8)
    encoder: tuple[int, int] = (1, 2)
    decoder: tuple[int, int] = (2, 3)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hop % self.split or self.hop // self.split * self.overlap % 2:
            raise ValueError(f"a frame of {self.hop} samples can't be split into {self.split} transforms")
        if min(*self.encoder, *self.decoder) < 0:
            raise ValueError("a number of blocks is below 0")
        return self


class CausalMix(nn.Module):
    """A ConvNeXt block (Liu et al., 2022, arXiv 2201.03545) that looks back.

    `x + gain * narrow(gelu(widen(norm(near(x)))))`: each channel looks at this frame and the six before it on its own,
    then each frame mixes its channels.
    """

    def __init__(self, width: int, hidden: int, gain: float) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, KERNEL, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = Linear(width, hidden)
        self.narrow = Linear(hidden, width)
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(
        self, x: Float[Tensor, "batch frames width"], past: Past | None = None
    ) -> Float[Tensor, "batch frames width"]:
        seen = before(past, self, x, KERNEL - 1, dim=1)
        # As a picture one pixel high whose channels lie side by side, which needs no transpose in memory.
        near = conv2d(seen.mT[:, :, None], self.near.weight[:, :, None], self.near.bias, groups=x.shape[-1])
        return torch.addcmul(x, self.gain, self.narrow(gelu_linear(self.norm(near[:, :, 0].mT), self.widen)))


class FastEncoder(nn.Module):
    """Waveform `[batch, channels, frames * hop]` -> latent `[batch, dim, frames]`.

    Each transform sees `overlap` hops up to the frame's own last sample. It gives the logarithm of each bin's
    magnitude, and real and imaginary part, made as small as ears hear them: divided by the magnitude to the power of
    0.7.
    """

    def __init__(self, shape: FastShape, channels: int, dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.step = shape.hop // shape.split
        self.window = shape.overlap * self.step
        width, (fine, coarse) = shape.width, shape.encoder
        self.read = Linear(3 * channels * (self.window // 2 + 1), width)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        hidden, gain = shape.widening * width, 1 / max(1, fine + coarse)
        self.fine = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(fine))
        self.join = Linear(shape.split * width, width)
        self.coarse = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(coarse))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.write = Linear(width, dim)

    def forward(
        self, wave: Float[Tensor, "batch channels samples"], past: Past | None = None
    ) -> Float[Tensor, "batch dim frames"]:
        seen = before(past, self, wave, self.window - self.step)
        pieces = seen.unfold(-1, self.window, self.step) * torch.hann_window(self.window, device=wave.device)
        parts = torch.view_as_real(torch.fft.rfft(pieces))  # [batch, channels, transforms, bins, 2]
        energy = parts.square().sum(-1).add(1e-10)
        features = torch.cat([energy.log() / 8, (parts * energy[..., None] ** -0.35).flatten(-2)], -1)
        x = self.first_norm(self.read(features.transpose(1, 2).flatten(2)))
        for block in self.fine:
            x = block(x, past)
        x = self.join(x.unflatten(1, (-1, self.shape.split)).flatten(2))
        for block in self.coarse:
            x = block(x, past)
        return self.write(self.last_norm(x)).mT


class FastDecoder(nn.Module):
    """Latent `[batch, dim, frames]` -> waveform `[batch, channels, frames * hop]`, late by a window less its hop.

    Each transform's magnitude and phase come from the network, `exp(m) * (cos p + i sin p)`; a sample is done when the
    last window that covers it is there.
    """

    def __init__(self, shape: FastShape, channels: int, dim: int) -> None:
        super().__init__()
        self.shape, self.channels = shape, channels
        self.step = shape.hop // shape.split
        self.window = shape.overlap * self.step
        width, (coarse, fine) = shape.width, shape.decoder
        self.read = Linear(dim, width)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        hidden, gain = shape.widening * width, 1 / max(1, fine + coarse)
        self.coarse = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(coarse))
        self.part = Linear(width, shape.split * width)
        self.fine = nn.ModuleList(CausalMix(width, hidden, gain) for _ in range(fine))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.write = Linear(width, 2 * channels * (self.window // 2 + 1))

    def forward(
        self, z: Float[Tensor, "batch dim frames"], past: Past | None = None
    ) -> Float[Tensor, "batch channels samples"]:
        x = self.first_norm(self.read(z.mT))
        for block in self.coarse:
            x = block(x, past)
        x = self.part(x).unflatten(2, (self.shape.split, -1)).flatten(1, 2)
        for block in self.fine:
            x = block(x, past)
        written = self.write(self.last_norm(x)).unflatten(2, (self.channels, -1)).transpose(1, 2).flatten(0, 1)
        magnitude, phase = written.chunk(2, dim=-1)
        spectrum = torch.polar(magnitude.exp().clamp(max=MOST_MAGNITUDE), phase)
        window = torch.hann_window(self.window, device=z.device)
        # Hann windows squared, `overlap` of them a window, add up to 3/8 of that many everywhere.
        pieces = torch.fft.irfft(spectrum, n=self.window) * (window * (8 / 3 / self.shape.overlap))
        wave = overlap_add(pieces, self.step).unflatten(0, (-1, self.channels))
        return over(past, self, wave, self.window - self.step)


class FastNet(nn.Module):
    """Both halves. `delay`: samples by which what `decoder` gives lags behind what `encoder` got."""

    streamable = True

    def __init__(self, shape: FastShape, channels: int, dim: int) -> None:
        super().__init__()
        self.hop = shape.hop
        self.delay = shape.hop // shape.split * (shape.overlap - 1)
        self.encoder = FastEncoder(shape, channels, dim)
        self.decoder = FastDecoder(shape, channels, dim)
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.trunc_normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)
