"""MelGAN: transposed convolutions from frames to samples, residual blocks of growing dilation between them.

Kumar et al., 2019, arXiv 1910.06711. It computes at the rate of the samples, so it takes many times the arithmetic of
`vocos`; it is here for weights that exist (SpecVQGAN's among them), for any mel whose hop is the product of its ratios.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pad
from torch.nn.utils.parametrizations import weight_norm

from cymatic.config import Config
from cymatic.nn.trained import refuse_untrained
from cymatic.signal.mel import PRESETS, MelSpec
from cymatic.vocoders.mel_vocoder import MelVocoder, MelVocoderConfig

SLOPE = 0.2  # of each leaky rectifier
EDGE = 3  # frames or samples that the first and the last convolution reflect at each end


class MelGANShape(Config):
    """The size of the network.

    `width`: channels at the rate of the frames; each upsampling halves them. `blocks`: residual blocks after each,
    whose dilations are 1, 3, 9, ... `ratios`: by how much each upsampling multiplies the rate; their product is the
    mel's hop.
    """

    width: int = Field(default=512, gt=0, le=8192)
    blocks: int = Field(default=3, ge=1, le=5)
    ratios: tuple[int, ...] = Field(default=(8, 8, 2, 2), min_length=1, max_length=8)
    kind: Literal["melgan"] = "melgan"

    @model_validator(mode="after")
    def _whole(self) -> MelGANShape:
        if min(self.ratios) < 2 or max(self.ratios) > 64:
            raise ValueError(f"ratios are {self.ratios}; give whole numbers from 2 to 64")
        if self.width % 2 ** len(self.ratios):
            raise ValueError(
                f"width {self.width} can't be halved {len(self.ratios)} times, once a ratio; give a multiple of "
                f"{2 ** len(self.ratios)}"
            )
        return self

    @property
    def min_frames(self) -> int:
        """The fewest frames with which no layer would be padded by more than its own length."""
        rates = [math.prod(self.ratios[: i + 1]) for i in range(len(self.ratios))]
        needs = [-(-(3 ** (self.blocks - 1) + 1) // rate) for rate in rates]
        return max(EDGE + 1, -(-(EDGE + 1) // rates[-1]), *needs)


class MelGANConfig(MelVocoderConfig, MelGANShape):
    """A size, and the mels that the network reads."""

    @model_validator(mode="after")
    def _fits(self) -> MelGANConfig:
        if math.prod(self.ratios) != self.mel.hop:
            raise ValueError(
                f"ratios {self.ratios} multiply to {math.prod(self.ratios)} and the mel's hop is {self.mel.hop}; "
                "give ratios whose product is the hop"
            )
        return self


def melgan(mel: MelSpec = PRESETS["specvqgan-22k"]) -> MelGANConfig:
    """The published size, 4.27 million weights, for a mel of hop 256."""
    return MelGANConfig(mel=mel)


class DilatedBlock(nn.Module):
    """`shortcut(x) + pointwise(lrelu(dilated(lrelu(x))))`, with three taps `dilation` apart."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.reflected = dilation
        self.dilated = weight_norm(nn.Conv1d(width, width, 3, dilation=dilation))
        self.pointwise = weight_norm(nn.Conv1d(width, width, 1))
        self.shortcut = weight_norm(nn.Conv1d(width, width, 1))

    def forward(self, x: Float[Tensor, "batch width samples"]) -> Float[Tensor, "batch width samples"]:
        near = pad(leaky_relu(x, SLOPE), (self.reflected, self.reflected), mode="reflect")
        return self.shortcut(x) + self.pointwise(leaky_relu(self.dilated(near), SLOPE))


class Upsampling(nn.Module):
    """A transposed convolution to `ratio` times the rate and half the channels, then the residual blocks."""

    def __init__(self, width: int, ratio: int, blocks: int) -> None:
        super().__init__()
        odd = ratio % 2
        self.raised = weight_norm(
            nn.ConvTranspose1d(width, width // 2, 2 * ratio, ratio, padding=ratio // 2 + odd, output_padding=odd)
        )
        self.blocks = nn.ModuleList(DilatedBlock(width // 2, 3**j) for j in range(blocks))

    def forward(self, x: Float[Tensor, "batch width frames"]) -> Float[Tensor, "batch half samples"]:
        x = self.raised(leaky_relu(x, SLOPE))
        for block in self.blocks:
            x = block(x)
        return x


class MelGAN(MelVocoder):
    """Mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` at `config.mel.rate`, in -1..1.

    A mel of fewer than `config.min_frames` frames is extended with silence, and the result cut. Weights are normalised
    (Salimans and Kingma, 2016, arXiv 1602.07868). Raises ModelError where it was never trained.
    """

    config_class: ClassVar[type[MelGANConfig]] = MelGANConfig
    config: MelGANConfig
    steps_trained: Tensor

    def __init__(self, config: MelGANConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.read = weight_norm(nn.Conv1d(config.mel.mels, config.width, 2 * EDGE + 1))
        self.upsamplings = nn.ModuleList(
            Upsampling(config.width >> i, ratio, config.blocks) for i, ratio in enumerate(config.ratios)
        )
        self.write = weight_norm(nn.Conv1d(config.width >> len(config.ratios), 1, 2 * EDGE + 1))

    def forward(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 samples"]:
        refuse_untrained(self, allow=self.training)
        config, frames = self.config, mel.shape[-1]
        mel = pad(mel, (0, max(0, config.min_frames - frames)), value=config.mel.silence)
        x = self.read(pad(mel, (EDGE, EDGE), mode="reflect"))
        for upsampling in self.upsamplings:
            x = upsampling(x)
        x = self.write(pad(leaky_relu(x, SLOPE), (EDGE, EDGE), mode="reflect"))
        return x.float().tanh()[..., : frames * config.mel.hop]
