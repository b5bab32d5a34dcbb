"""A vocoder that never upsamples: ConvNeXt blocks at the mel's frame rate, an inverse STFT, and a few corrections.

Vocos (Siuzdak, 2023, arXiv 2306.00814): the network writes magnitude and phase of each frame, and the inverse STFT does
the rest, so that its cost is that of a small network at some hundred frames a second. What comes out has not quite the
mel that went in, since frames overlap and disagree. The mel is known, so the rest of the error can be heard and undone:
each correction analyses the waveform and multiplies its bins by what its mels lack. It is trained through them.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from jaxtyping import Complex, Float
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from cymatic.config import Config
from cymatic.nn.linear import Linear, gelu_linear, linear
from cymatic.nn.trained import refuse_untrained
from cymatic.signal.mel import filterbank, from_magnitude, to_log
from cymatic.signal.stft import Transform
from cymatic.vocoders.mel_vocoder import MelVocoder, MelVocoderConfig

MOST_CORRECTED = 3.0  # natural log, 26 dB: the most by which one correction turns a bin up or down
MOST_MAGNITUDE = 100.0  # of a bin; a full-scale sine has about n_fft / 4 = 256, and -23 LUFS lies far below


class VocosShape(Config):
    """The size of the network; `widening`: how much wider the inside of a block is; `corrections`: how many follow."""

    width: int = Field(default=256, gt=0, le=4096)
    depth: int = Field(default=6, gt=0, le=64)
    widening: int = Field(default=3, gt=0, le=8)
    corrections: int = Field(default=6, ge=0, le=32)
    kind: Literal["vocos"] = "vocos"


class VocosConfig(MelVocoderConfig, VocosShape):
    """A size, and the mels that the network reads."""


class Mix(nn.Module):
    """A ConvNeXt block (Liu et al., 2022, arXiv 2201.03545): `x + gain * narrow(gelu(widen(norm(depthwise(x)))))`.

    Each channel looks at 7 frames on its own, then each frame mixes its channels.
    """

    def __init__(self, width: int, hidden: int, gain: float) -> None:
        super().__init__()
        self.near = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = Linear(width, hidden)
        self.narrow = Linear(hidden, width)
        self.gain = nn.Parameter(torch.full((width,), gain))

    def forward(self, x: Float[Tensor, "batch frames width"]) -> Float[Tensor, "batch frames width"]:
        # As a picture one pixel high whose channels lie side by side, which needs no transpose in memory.
        weight, channels = self.near.weight[:, :, None], x.shape[-1]
        near = conv2d(x.mT[:, :, None], weight, self.near.bias, padding=(0, 3), groups=channels)[:, :, 0].mT
        return torch.addcmul(x, self.gain, self.narrow(gelu_linear(self.norm(near), self.widen)))


class Vocos(MelVocoder):
    """Log mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` at `config.mel.rate`.

    Raises ModelError where it was never trained.
    """

    config_class: ClassVar[type[VocosConfig]] = VocosConfig
    kept_half: ClassVar[bool] = True
    config: VocosConfig
    steps_trained: Tensor

    def __init__(self, config: VocosConfig) -> None:
        super().__init__()
        self.config = config
        width, bins = config.width, config.mel.n_fft // 2 + 1
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.read = Linear(7 * config.mel.mels, width)
        self.first_norm = nn.LayerNorm(width, eps=1e-6)
        self.blocks = nn.ModuleList(Mix(width, config.widening * width, 1 / config.depth) for _ in range(config.depth))
        self.last_norm = nn.LayerNorm(width, eps=1e-6)
        self.write = Linear(width, 2 * bins)
        self.strengths = nn.Parameter(torch.full((config.corrections,), 1.3))
        for name, p in self.named_parameters():
            if p.dim() > 1:
                nn.init.trunc_normal_(p, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 samples"]:
        refuse_untrained(self, allow=self.training)
        spec = self.config.mel
        # Frames come before bins in all that follows, as the transforms leave them in memory.
        filters = torch.from_numpy(filterbank(spec)).to(mel)
        shares = filters.T / filters.sum(0).clamp_min(1e-9)[:, None]  # of each mel in each bin
        transform = Transform(spec, mel.shape[-1], mel)
        wanted, waveform = to_log(mel, spec).mT, transform.inverse(self.spectrum(mel))
        with torch.autocast(mel.device.type, enabled=False):  # bf16 has too few digits to correct with
            for strength in self.strengths:
                # Real and imaginary parts apart: torch's complex abs and product with a real are four times slower. In
                # place where the gradient allows it, as fresh memory costs as much as the arithmetic.
                parts = torch.view_as_real(transform.forward(waveform))
                magnitude = parts[..., 0].square().add_(parts[..., 1].square()).add_(1e-14).sqrt_()
                lacking = wanted - to_log(from_magnitude(linear(magnitude, filters), spec), spec)
                gain = linear((strength * lacking).clamp(-MOST_CORRECTED, MOST_CORRECTED), shares)
                waveform = transform.inverse(torch.view_as_complex(parts * gain.exp()[..., None]))
        return waveform

    def spectrum(self, mel: Float[Tensor, "batch mels frames"]) -> Complex[Tensor, "batch frames bins"]:
        """`exp(m) * (cos p + i sin p)` for the network's m and p; the phase needs no unwrapping that way."""
        spec = self.config.mel
        # Beyond both ends lies silence, as for the mel itself.
        frames = to_log(pad(mel, (3, 3), value=spec.silence), spec).transpose(1, 2)
        near = frames.unfold(1, 7, 1).flatten(2)
        x = self.first_norm(self.read(near / 4 + 1))  # log mels lie between -11.5 and 5
        for block in self.blocks:
            x = block(x)
        magnitude, phase = self.write(self.last_norm(x)).float().chunk(2, dim=2)
        return torch.polar(magnitude.exp().clamp(max=MOST_MAGNITUDE), phase)
