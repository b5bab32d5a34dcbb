"""A mel spectrogram -> a grid of codes -> a mel: a VQ-GAN whose picture is a sound.

Iashin and Rahtu (2021, arXiv 2110.08791) after Esser et al. (2021, arXiv 2012.09841).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import pad

from cymatic.batch_shard import BatchShard
from cymatic.codecs.latent import Latent
from cymatic.errors import Error, ModelError
from cymatic.nn.pyramid import Down, PyramidShape, Up
from cymatic.quantizers.quantized import Quantized
from cymatic.quantizers.vector import VectorQuantizer, VectorQuantizerConfig
from cymatic.signal.mel import MelSpec


class SpectrogramShape(PyramidShape):
    """The size of the network; its pictures are as high as a mel has rows and as wide as it has frames."""


def specvqgan() -> SpectrogramShape:
    """The size of SpecVQGAN's and MelSpec_GPT_VQVAE's published weights: one code for 16 mels by 16 frames."""
    return SpectrogramShape(width=128, multiples=(1, 1, 2, 2, 4), blocks=2, attention=(4,), latent=256)


class SpectrogramCodecConfig(SpectrogramShape):
    """A size, the mel it speaks of, and its quantizer."""

    kind: Literal["spectrogram"] = "spectrogram"
    mel: MelSpec
    quantizer: VectorQuantizerConfig


class Reconstruction(NamedTuple):
    """Two mels in the network's units, `(mel - mean) / std`, and what lies between them."""

    wanted: Float[Tensor, "batch mels frames"]
    made: Float[Tensor, "batch mels frames"]
    quantized: Quantized


class SpectrogramCodec(nn.Module):
    """mel `[batch, mels, frames]` -> codes `[batch, rows, columns]` -> mel, of any length.

    Rows and frames are filled up to whole cells with the mel's silence, and what was filled up is cut off again. The
    norms and the attention of the network see it, though, as they see the whole sound: so items of different lengths
    never share a batch inside `encode` and `decode`, which is why a batch equals its items. A training batch
    (`forward`) is one picture high and wide: crop its items to one length.

    The statistics of the mels trained on and the steps trained travel with the weights; a codec of 0 steps refuses to
    work outside of training.
    """

    config_class: ClassVar[type[SpectrogramCodecConfig]] = SpectrogramCodecConfig
    mean: Tensor
    std: Tensor
    steps_trained: Tensor

    def __init__(self, config: SpectrogramCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.mel.mels, 1))
        self.register_buffer("std", torch.ones(config.mel.mels, 1))
        self.register_buffer("steps_trained", torch.zeros((), dtype=torch.int64))
        self.encoder = Down(config, channels=1)
        self.to_codes = nn.Conv2d(config.latent, config.quantizer.dim, 1)
        self.quantizer = VectorQuantizer(config.quantizer)
        self.from_codes = nn.Conv2d(config.quantizer.dim, config.latent, 1)
        self.decoder = Up(config, channels=1)

    @property
    def rows(self) -> int:
        """Codes in a column."""
        return -(-self.config.mel.mels // self.config.cell[0])

    @property
    def size(self) -> int:
        """Codes in the codebook."""
        return self.config.quantizer.size

    def columns(self, frames: int) -> int:
        """Columns that cover `frames` frames."""
        return -(-frames // self.config.cell[1])

    @property
    def last(self) -> nn.Parameter:
        """The decoder's last weights, at which the adaptive weight compares gradients."""
        return self.decoder.last

    @torch.no_grad()
    def fit_statistics(self, mels: Sequence[Float[Tensor, "mels _"]]) -> None:
        """Takes over mean and spread of the mels to train on."""
        frames = torch.cat(list(mels), dim=1)
        self.mean.copy_(frames.mean(1, keepdim=True))
        self.std.copy_(frames.std(1, keepdim=True).clamp_min(1e-2))

    def forward(
        self,
        mel: Float[Tensor, "batch mels frames"],
        generator: torch.Generator | None = None,
        frames: Int[Tensor, " batch"] | None = None,
        shard: BatchShard | None = None,
    ) -> Reconstruction:
        """A step of training: all items as one picture high and wide.

        `frames` tells the quantizer which columns hold sound, so that the rest counts in none of its losses and
        statistics; the network sees them all. `generator` and `share` are the quantizer's.
        """
        mask = None
        if frames is not None:
            start = torch.arange(self.columns(mel.shape[-1]), device=mel.device) * self.config.cell[1]
            mask = (start < frames[:, None])[:, None].expand(-1, self.rows, -1)
        picture = self._picture(mel)
        quantized = self.quantizer(self.to_codes(self.encoder(picture)), generator, mask, shard)
        made = self.decoder(self.from_codes(quantized.z))
        rows, length = mel.shape[1:]
        return Reconstruction(picture[:, 0, :rows, :length], made[:, 0, :rows, :length], quantized)

    @torch.no_grad()
    def encode(self, mel: Float[Tensor, "batch mels frames"], frames: Int[Tensor, " batch"] | None = None) -> Latent:
        """Codes and their vectors; both are 0 beyond an item's own columns.

        `frames` are the items' lengths, all of `mel` without them. Raises ModelError where the codec was never trained,
        and Error for a length that `mel` does not have.
        """
        self._ready()
        if frames is None:
            frames = torch.full((len(mel),), mel.shape[-1])
        if mel.shape[0] and not 1 <= int(frames.min()) <= int(frames.max()) <= mel.shape[-1]:
            raise Error(
                f"lengths of {frames.tolist()} frames were given for mels of {mel.shape[-1]}; give 1 to all of them"
            )
        frames = frames.to(mel.device)
        columns = self.columns(mel.shape[-1])
        codes = torch.zeros(len(mel), self.rows, columns, dtype=torch.int64, device=mel.device)
        z = mel.new_zeros(len(mel), self.config.quantizer.dim, self.rows, columns)
        for length in frames.unique().tolist():
            items = frames == length
            found = self.quantizer.encode(self.to_codes(self.encoder(self._picture(mel[items, :, :length]))))
            codes[items, :, : found.shape[-1]] = found
            z[items, ..., : found.shape[-1]] = self.quantizer.lookup(found)
        return Latent(z, codes, frames, "grid")

    def decode(self, latent: Latent) -> Float[Tensor, "batch mels frames"]:
        """Mels as long as the longest item; beyond an item's own length lies silence.

        Raises ModelError where the codec was never trained, and Error for a latent of another layout or size.
        """
        self._ready()
        z, frames = latent.z, latent.lengths.to(latent.z.device)
        longest = int(frames.max())
        if latent.layout != "grid" or z.shape[2] != self.rows or z.shape[3] < self.columns(longest) or frames.min() < 1:
            raise Error(
                f'a latent "{latent.layout}" of {list(z.shape)} for {longest} frames was given; this codec reads a '
                f'"grid" of {self.rows} rows and {self.columns(longest)} columns'
            )
        spec = self.config.mel
        mel = z.new_full((len(z), spec.mels, longest), spec.silence)
        for length in frames.unique().tolist():
            items = frames == length
            # However the vectors lie in memory, the result is the same bit for bit.
            made = self.decoder(self.from_codes(z[items, ..., : self.columns(length)].contiguous()))
            made = made[:, 0, : spec.mels, :length] * self.std + self.mean
            mel[items, :, :length] = made.clamp_min(spec.silence)
        return mel

    def decode_codes(
        self, codes: Int[Tensor, "batch rows columns"], frames: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch mels frames"]:
        """The mels of `frames` frames that the codes stand for. Raises Error for codes beyond the codebook."""
        return self.decode(Latent(self.quantizer.lookup(codes), codes, frames, "grid"))

    def _picture(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 h w"]:
        """The mel in the network's units, filled up to whole cells with silence."""
        high, wide = self.config.cell
        more_rows, more_frames = -mel.shape[1] % high, -mel.shape[2] % wide
        mel = pad(mel, (0, more_frames, 0, more_rows), value=self.config.mel.silence)
        # Rows that no mel has lie on the scale of the last one that it has.
        mean, std = (torch.cat([x, x[-1:].expand(more_rows, 1)]) for x in (self.mean, self.std))
        return ((mel - mean) / std)[:, None]

    def _ready(self) -> None:
        if not (self.training or self.steps_trained):
            raise ModelError("this codec was never trained (0 steps), so it can only make noise; train it first")
