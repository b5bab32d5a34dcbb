"""A mel spectrogram -> a grid of codes -> a mel: a VQ-GAN whose picture is a sound.

Iashin and Rahtu (2021, arXiv 2110.08791) after Esser et al. (2021, arXiv 2012.09841).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from cymatic.batch_shard import BatchShard
from cymatic.codecs.grid import GridCodec, PlaceQuantizerConfig
from cymatic.errors import Error
from cymatic.latent import Latent, Reconstruction
from cymatic.nn.pyramid import PyramidShape
from cymatic.nn.trained import refuse_untrained
from cymatic.signal.mel import PRESETS, MelSpec, NamedMel


class SpectrogramShape(PyramidShape):
    """The size of the network; its pictures are as high as a mel has rows and as wide as it has frames."""


def specvqgan() -> SpectrogramShape:
    """The size of SpecVQGAN's and MelSpec_GPT_VQVAE's published weights: one code for 16 mels by 16 frames."""
    return SpectrogramShape(width=128, multiples=(1, 1, 2, 2, 4), blocks=2, attention=(4,), latent=256)


class SpectrogramCodecConfig(SpectrogramShape):
    """A size, the mel that it is for (or the name of a preset), and a quantizer that gives one code for each place."""

    kind: Literal["spectrogram"] = "spectrogram"
    mel: NamedMel = PRESETS["sound-24k"]
    quantizer: PlaceQuantizerConfig

    @property
    def reads(self) -> MelSpec:
        """What it encodes."""
        return self.mel

    @property
    def gives(self) -> MelSpec:
        """What it decodes to."""
        return self.mel

    @property
    def names_its_spec(self) -> bool:
        """Whether the mel was given, and is not the default."""
        return "mel" in self.model_fields_set

    def reading(self, spec: MelSpec) -> SpectrogramCodecConfig:
        """The same for another mel."""
        return SpectrogramCodecConfig(**{**dict(self), "mel": spec})


class SpectrogramCodec(GridCodec):
    """mel `[batch, mels, frames]` -> codes `[batch, rows, columns]` -> mel, of any length.

    Rows and frames are padded to whole cells with the mel's silence, and the padding is cut off again. The norms and
    the attention of the network see it, as they see the whole mel, so items of different lengths never share a batch
    inside `encode` and `decode`: that is why a batch equals its items. A training batch (`forward`) has one length:
    crop its items.

    Mean and spread of the mels trained on and the number of steps are saved with the weights. A codec of 0 steps
    refuses to work outside of training.
    """

    config_class: ClassVar[type[SpectrogramCodecConfig]] = SpectrogramCodecConfig
    mean: Tensor
    std: Tensor

    def __init__(self, config: SpectrogramCodecConfig) -> None:
        super().__init__(config, channels=1)
        self.register_buffer("mean", torch.zeros(config.mel.mels, 1))
        self.register_buffer("std", torch.ones(config.mel.mels, 1))

    @property
    def rows(self) -> int:
        """Codes in a column."""
        return -(-self.config.mel.mels // self.config.cell[0])

    @torch.no_grad()
    def fit_statistics(self, targets: Sequence[Float[Tensor, "mels _"]]) -> None:
        """Takes over mean and spread of the mels to train on."""
        frames = torch.cat(list(targets), dim=1)
        self.mean.copy_(frames.mean(1, keepdim=True))
        self.std.copy_(frames.std(1, keepdim=True).clamp_min(1e-2))

    def distance(
        self, made: Float[Tensor, "batch mels frames"], wanted: Float[Tensor, "batch mels frames"]
    ) -> Float[Tensor, ""]:
        """The mean absolute difference of two mels, in their own unit."""
        return (made - wanted).abs().mean()

    def forward(
        self,
        mel: Float[Tensor, "batch mels frames"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> Reconstruction:
        """A step of training on items of one length; both mels of the result are in units of `(mel - mean) / std`.

        `lengths` tells the quantizer which columns hold sound, so that the rest counts in none of its losses and
        statistics; the network sees all columns. `generator` and `shard` are the quantizer's.
        """
        mask = None
        if lengths is not None:
            start = torch.arange(self.columns(mel.shape[-1]), device=mel.device) * self.config.cell[1]
            mask = (start < lengths[:, None])[:, None].expand(-1, self.rows, -1)
        picture = self._picture(mel)
        latent = self.to_codes(self.encoder(picture))
        quantized = self._quantizer()(latent, generator, mask, shard)
        quantized = quantized._replace(codes=self._as_grid(quantized.codes))
        made = self.decoder(self.from_codes(quantized.z))
        rows, length = mel.shape[1:]
        return Reconstruction(picture[:, 0, :rows, :length], made[:, 0, :rows, :length], latent, quantized)

    reconstruct = forward  # as vocoders call it, whose `forward` reads mels

    @torch.no_grad()
    def encode(self, mel: Float[Tensor, "batch mels frames"], lengths: Int[Tensor, " batch"] | None = None) -> Latent:
        """Codes and their vectors; both are 0 beyond an item's own columns.

        `lengths` are the items' own, in frames; all of `mel` without them. Raises ModelError where the codec was never
        trained, and Error for a length that `mel` does not have.
        """
        refuse_untrained(self, allow=self.training)
        if lengths is None:
            lengths = torch.full((len(mel),), mel.shape[-1])
        if mel.shape[0] and not 1 <= int(lengths.min()) <= int(lengths.max()) <= mel.shape[-1]:
            raise Error(
                f"lengths of {lengths.tolist()} frames were given for mels of {mel.shape[-1]}; give 1 to all of them"
            )
        lengths = lengths.to(mel.device)
        columns = self.columns(mel.shape[-1])
        codes = torch.zeros(len(mel), self.rows, columns, dtype=torch.int64, device=mel.device)
        z = mel.new_zeros(len(mel), self.config.quantizer.dim, self.rows, columns)
        for length in lengths.unique().tolist():
            items = lengths == length
            found = self.nearest_codes(self.to_codes(self.encoder(self._picture(mel[items, :, :length]))))
            codes[items, :, : found.shape[-1]] = found
            z[items, ..., : found.shape[-1]] = self.lookup(found)
        return Latent(z, codes, lengths, "grid")

    def decode(self, latent: Latent) -> Float[Tensor, "batch mels frames"]:
        """Mels as long as the longest item; beyond an item's own length lies silence.

        Raises ModelError where the codec was never trained, and Error for a latent of another layout or size.
        """
        refuse_untrained(self, allow=self.training)
        z, frames = latent.z, latent.lengths.to(latent.z.device)
        longest, dim = int(frames.max()), self.config.quantizer.dim
        fits = latent.layout == "grid" and z.dim() == 4 and z.shape[1:3] == (dim, self.rows)
        if not fits or z.shape[3] < self.columns(longest) or frames.min() < 1:
            raise Error(
                f'a latent "{latent.layout}" of {list(z.shape)} for {longest} frames was given; this codec reads a '
                f'"grid" of {dim} numbers, {self.rows} rows and {self.columns(longest)} columns'
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

    def _picture(self, mel: Float[Tensor, "batch mels frames"]) -> Float[Tensor, "batch 1 h w"]:
        """The mel in the network's units, filled up to whole cells with silence."""
        high, wide = self.config.cell
        more_rows, more_frames = -mel.shape[1] % high, -mel.shape[2] % wide
        mel = pad(mel, (0, more_frames, 0, more_rows), value=self.config.mel.silence)
        # Rows that no mel has lie on the scale of the last one that it has.
        mean, std = (torch.cat([x, x[-1:].expand(more_rows, 1)]) for x in (self.mean, self.std))
        return ((mel - mean) / std)[:, None]
