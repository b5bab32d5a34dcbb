"""What all vocoders share: the mel that they read, and that each is an autoencoder whose first half is that mel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.config import Config
from cymatic.errors import Error
from cymatic.latent import Latent, Reconstruction
from cymatic.media.wave_spec import WaveSpec
from cymatic.nn.autoencoder import Autoencoder
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.mel import PRESETS, MelSpec, NamedMel, log_mel


class MelVocoderConfig(Config):
    """mel: what the vocoder reads, or the name of a preset."""

    mel: NamedMel = PRESETS["sound-24k"]

    @property
    def reads(self) -> MelSpec:
        """What it is given."""
        return self.mel

    @property
    def gives(self) -> WaveSpec:
        """What it makes."""
        return WaveSpec(rate=self.mel.rate)

    @property
    def names_its_spec(self) -> bool:
        """Whether the mel was given, and is not the default."""
        return "mel" in self.model_fields_set

    def reading(self, spec: MelSpec) -> Self:
        """The same for another mel. Raises ModelError where it does not fit."""
        return self.parse({**dict(self), "mel": spec}, "the vocoder")


class MelVocoder(Autoencoder):
    """Mel `[batch, mels, frames]` -> waveform `[batch, 1, frames * hop]` (`forward`), with the verbs of an autoencoder
    over waveforms: what lies in the middle is the mel, and there are no codes."""

    config: MelVocoderConfig
    steps_trained: Tensor | int
    layout: ClassVar[Literal["levels", "grid"]] = "levels"
    is_model: ClassVar[bool] = False

    @property
    def cell(self) -> int:
        """Samples of a frame."""
        return self.config.mel.hop

    def columns(self, length: int) -> int:
        """Frames of the mel of `length` samples."""
        return self.config.mel.frames(length)

    def length(self, columns: int) -> int:
        """Samples that `columns` frames hold."""
        return columns * self.cell

    def analyse(self, wave: Float[Tensor, "batch 1 samples"]) -> Float[Tensor, "batch mels frames"]:
        """The mels of waveforms at `config.mel.rate`."""
        return log_mel(wave, self.config.mel)

    def reconstruct(
        self,
        wave: Float[Tensor, "batch 1 samples"],
        generator: torch.Generator | None = None,
        shard: BatchShard | None = None,
    ) -> Reconstruction:
        """A step of training; nothing in it is random."""
        mel = self.analyse(wave)
        return Reconstruction(wave, self(mel)[..., : wave.shape[-1]], mel, None)

    @torch.no_grad()
    def encode(self, wave: Float[Tensor, "batch 1 samples"], lengths: Int[Tensor, " batch"] | None = None) -> Latent:
        """The mels, at silence beyond an item's own frames. `lengths` are the items' own, in samples.

        Raises Error for a length that `wave` does not have.
        """
        lengths = torch.full((len(wave),), wave.shape[-1]) if lengths is None else lengths.cpu()
        if not 1 <= int(lengths.min()) <= int(lengths.max()) <= wave.shape[-1]:
            raise Error(
                f"lengths of {lengths.tolist()} samples were given for waveforms of {wave.shape[-1]}; give 1 to all"
            )
        spec = self.config.mel
        mel = wave.new_full((len(wave), spec.mels, spec.frames(int(lengths.max()))), spec.silence)
        for length in lengths.unique().tolist():
            items = lengths == length
            mel[items, :, : spec.frames(length)] = self.analyse(wave[items, :, :length])
        return Latent(mel, None, lengths.to(wave.device), "levels")

    @torch.no_grad()
    def decode(self, latent: Latent) -> Float[Tensor, "batch 1 samples"]:
        """Waveforms as long as the longest item; beyond an item's own length lies silence.

        Raises ModelError where the vocoder was never trained, and Error for lengths that the frames don't hold.
        """
        mel, lengths = latent.z, latent.lengths.cpu()
        if mel.dim() != 3 or mel.shape[1] != self.config.mel.mels:
            raise Error(f"{list(mel.shape)} was given; this vocoder reads mels [batch, {self.config.mel.mels}, frames]")
        held = self.length(mel.shape[-1])
        if not 1 <= int(lengths.min()) <= int(lengths.max()) <= held:
            raise Error(f"{lengths.tolist()} samples were asked for, and {mel.shape[-1]} frames hold 1 to {held}")
        wave = mel.new_zeros(len(mel), 1, int(lengths.max()))
        for length in lengths.unique().tolist():
            items = lengths == length
            wave[items, :, :length] = self(mel[items, :, : self.columns(length)])[..., :length]
        return wave

    def distance(
        self, made: Float[Tensor, "batch 1 samples"], wanted: Float[Tensor, "batch 1 samples"]
    ) -> Float[Tensor, ""]:
        """The multi-scale mel distance of two waveforms (see `signal.distances`)."""
        return multi_scale_mel_distance(made, wanted, self.config.mel.rate)

    def fit_statistics(self, targets: Sequence[Float[Tensor, "1 _"]]) -> None:
        """Does nothing: the networks see mels as they are."""

    def matrices(self) -> list[nn.Parameter]:
        """The weights that Muon's steps are for: none, as vocoders train better with AdamW's."""
        return []
