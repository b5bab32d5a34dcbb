"""Sounds -> condition: a small transformer over the frames of a log mel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from cymatic.cond import Cond, Padded
from cymatic.config import Config
from cymatic.encoders.examples import Conditioned
from cymatic.errors import Error
from cymatic.nn.encoder_block import EncoderBlock, attentive_mean
from cymatic.nn.linear import Linear
from cymatic.nn.rotary import rotary_tables
from cymatic.signal.mel import PRESETS, MelSpec, NamedMel, to_log

STRIDE = 4  # frames of a token: two convolutions of stride 2


class SoundConfig(Config):
    """mel: what it reads, or the name of a preset; width, depth, heads: of the transformer; dim: width of a token."""

    kind: Literal["sound"] = "sound"
    mel: NamedMel = PRESETS["sound-24k"]
    width: int = Field(default=192, gt=0, le=4096)
    depth: int = Field(default=4, ge=1, le=64)
    heads: int = Field(default=4, gt=0, le=64)
    dim: int = Field(default=192, gt=0, le=8192)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"a width of {self.width} can't be split into {self.heads} heads of an even width")
        return self

    @property
    def reads(self) -> MelSpec:
        """What it encodes."""
        return self.mel

    def fitted(self, examples: Sequence[Conditioned], role: str = "caption") -> SoundConfig:
        """Itself: the data decide nothing."""
        return self


class SoundEncoder(nn.Module):
    """Mels `[batch, mels, frames]` -> `Cond(tokens [batch, ceil(frames / 4), dim], mask, vector [batch, dim])`.

    Two strided convolutions, then a transformer with rotary positions, as in Whisper's encoder (Radford et al., 2022,
    arXiv 2212.04356). The vector is the tokens' mean by learned weights (attentive pooling), projected, at unit norm.
    What lies beyond an item's own frames changes nothing.
    """

    config_class: ClassVar[type[SoundConfig]] = SoundConfig

    def __init__(self, config: SoundConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.conv1 = nn.Conv1d(config.mel.mels, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.project = Linear(width, config.dim)
        self.weigh = Linear(width, 1, bias=False)
        self.summary = Linear(width, config.dim)

    def knows(self, caption: str) -> bool:
        """Every caption can be asked about."""
        return True

    def forward(self, batch: Padded) -> Cond:
        """Raises Error for mels of another height, and for items without a frame."""
        device, spec = self.conv1.weight.device, self.config.mel
        mel, lengths = batch.values.to(device), batch.lengths.to(device)
        if mel.dim() != 3 or mel.shape[1] != spec.mels:
            raise Error(
                f"mels of the shape {list(mel.shape)} were given; this encoder reads [batch, {spec.mels}, frames]"
            )
        if int(lengths.min()) < 1 or int(lengths.max()) > mel.shape[-1]:
            raise Error(f"lengths of {lengths.tolist()} frames were given for mels of {mel.shape[-1]}; give 1 to all")
        x = to_log(mel, spec) / 4 + 1  # log mels lie between -11.5 and 5
        x, mask = _within(x, lengths)
        for conv in (self.conv1, self.conv2):
            lengths = (lengths + 1) // 2
            x, mask = _within(gelu(conv(x)), lengths)
        tokens = x.mT
        rotary = rotary_tables(torch.arange(tokens.shape[1], device=device), self.config.width // self.config.heads)
        for block in self.blocks:
            tokens = block(tokens, rotary, mask)
        tokens = self.norm(tokens)
        vector = normalize(self.summary(attentive_mean(tokens, self.weigh(tokens)[..., 0], mask)), dim=-1)
        return Cond(self.project(tokens) * mask[..., None], mask, vector)


def _within(
    x: Float[Tensor, "batch width n"], lengths: Tensor
) -> tuple[Float[Tensor, "batch width n"], Bool[Tensor, "batch n"]]:
    """`x` with zeros beyond each length, and where it holds something: what a convolution sees of an item alone."""
    mask = torch.arange(x.shape[-1], device=x.device) < lengths[:, None]
    return x * mask[:, None], mask
