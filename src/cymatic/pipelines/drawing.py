"""Today's pipelines as `evaluation` asks for them (see `evaluation.evaluable`).

This is a seam: once one `Generator` has `draw`, `loss`, `reconstructions`, `codec` and `target` of its own, and the
pipeline of a codec the last three, all of this module can go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.codecs.latent import Latent
from cymatic.cond import Cond
from cymatic.data.mels import LOUDNESS, Batch, Clip, collate, mel_of, prepare
from cymatic.encoders.features import FeatureEncoder
from cymatic.errors import Error
from cymatic.hub.wave_codecs import WaveCodec
from cymatic.media.sound import Sound
from cymatic.pipelines.codes_to_sound import CodesToSound
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.pipelines.text_to_sound import TextToSound
from cymatic.pipelines.wave_codes_to_sound import WaveCodesToSound
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.mel import MelSpec

STEPS = 6  # of a sampler over mels, where time is short

Mels = list[Float[Tensor, "mels _"]]


def evaluable(
    model: TextToSound | CodesToSound | WaveCodesToSound | SoundCodec,
) -> MelModel | MelCodesModel | WaveCodesModel | CodecModel:
    """What an evaluation asks, of a pipeline."""
    if isinstance(model, SoundCodec):
        return CodecModel(model)
    if isinstance(model, WaveCodesToSound):
        return WaveCodesModel(model)
    return MelCodesModel(model) if isinstance(model, CodesToSound) else MelModel(model)


class _Same:
    """What all models of sounds share."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = model.name
        self.sha256: str = model.sha256
        self.rate: int = model.rate
        self.captions: tuple[str, ...] = getattr(model, "captions", ())
        self.mel: MelSpec | None = getattr(model, "mel", None)


class _Makes(_Same):
    """What all but codecs share."""

    @property
    def guidance(self) -> float:
        """As the model samples by default."""
        return float(self.model.defaults.guidance)

    def __call__(self, prompt: str, *, seed: int, n: int) -> list[Sound]:
        """n sounds, of one channel."""
        return [sound.mono() for sound in self.model(prompt, seed=seed, n=n)]


class MelModel(_Makes):
    """A flow over mels."""

    def target(self, sound: Sound) -> Float[Tensor, "mels frames"]:
        """The mel of a sound."""
        return mel_of(prepare(sound, self.model.mel), self.model.mel)

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        """Through the vocoder."""
        return {"vocoder": self.model.revocode(sound)}

    @torch.no_grad()
    def draw(self, prompts: Sequence[str], seeds: Sequence[int], guidance: float | None = None) -> Mels:
        """A mel for each prompt and seed, in 6 steps at most."""
        how = self.model.defaults
        mel, frames = self.model.prior.sample(
            self.model.text(list(prompts)),
            seeds,
            guidance=self.guidance if guidance is None else guidance,
            interval=how.guidance_interval,
            steps=min(how.steps, STEPS),
            sampler=how.sampler,
        )
        return _cut(mel, frames)

    def loss(self, mels: Sequence[Float[Tensor, "mels _"]], captions: Sequence[str], seed: int) -> float:
        """The mean loss of flow matching."""
        batch, generator = _batch(mels, captions), torch.Generator().manual_seed(seed)
        prior, cond = self.model.prior, self.model.text(batch.captions)
        device = prior.mean.device
        return float(prior.loss(batch.mel.to(device), batch.frames.to(device), cond, generator)["flow"])


class MelCodesModel(_Makes):
    """A prior over the codes of mels."""

    def target(self, sound: Sound) -> Float[Tensor, "mels frames"]:
        """The mel of a sound."""
        return mel_of(prepare(sound, self.model.mel), self.model.mel)

    @cached_property
    def codec(self) -> _MelCodec:
        """Its codec."""
        return _MelCodec(self.model.codec)

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        """Through the vocoder alone, and through codec and vocoder."""
        prepared = prepare(sound, self.model.mel)
        with torch.inference_mode():
            mel = mel_of(prepared, self.model.mel)[None].to(self.model.codec.mean.device)
            waveform = self.model.vocoder(mel)[0].cpu()
        alone = Sound(waveform[:, : len(prepared)].numpy(), self.rate)
        return {"vocoder": alone, "codec and vocoder": self.model.revocode(sound)}

    @torch.no_grad()
    def draw(self, prompts: Sequence[str], seeds: Sequence[int], guidance: float | None = None) -> Mels:
        """A mel for each prompt and seed."""
        how, codec = self.model.defaults, self.model.codec
        codes, columns = self.model.prior.sample(
            self._cond(prompts),
            seeds,
            guidance=self.guidance if guidance is None else guidance,
            temperature=how.temperature,
            top_k=how.top_k,
            top_p=how.top_p,
        )
        frames = columns * codec.config.cell[1]
        return _cut(codec.decode_codes(codes, frames), frames)

    def loss(self, mels: Sequence[Float[Tensor, "mels _"]], captions: Sequence[str], seed: int) -> float:
        """The mean negative log-likelihood of a code, in nats."""
        batch, generator = _batch(mels, captions), torch.Generator().manual_seed(seed)
        codec, device = self.model.codec, self.model.codec.mean.device
        latent = codec.encode(batch.mel.to(device), batch.frames.to(device))
        columns = torch.tensor([codec.columns(n) for n in batch.frames.tolist()], device=device)
        terms = self.model.prior.loss(latent.codes, columns, self._cond(batch.captions), generator)
        return float(terms["nll"])

    def nll(self, sound: Sound, prompt: str) -> tuple[float, int] | None:
        """See `CodesToSound.nll`."""
        found: tuple[float, int] | None = self.model.nll(sound, prompt)
        return found

    def posterior(self, sound: Sound, prompt: str) -> tuple[Tensor, Tensor] | None:
        """See `CodesToSound.posterior`."""
        found: tuple[Tensor, Tensor] | None = self.model.posterior(sound, prompt)
        return found

    def _cond(self, prompts: Sequence[str]) -> Cond:
        if isinstance(self.model.condition, FeatureEncoder):
            raise Error(f"{self.name} is asked by features, and captions are asked for here")
        cond: Cond = self.model.condition(list(prompts))
        return cond


class WaveCodesModel(_Makes):
    """A prior over the codes of waveforms."""

    def target(self, sound: Sound) -> Float[Tensor, "channels samples"]:
        """The waveform of a sound, at the codec's rate and channels."""
        return _waveform(sound, self.model.wave_codec)

    @cached_property
    def codec(self) -> _WaveCodec:
        """Its codec, as far as its prior knows the codes."""
        return _WaveCodec(self.model.wave_codec, self.model.prior.config.rows)

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        """Through the codec."""
        with torch.inference_mode():
            codes = self.codec.encode(self.target(sound)[None]).codes
        assert codes is not None
        return {"codec": self.model.sound(codes[0]).mono()}


class CodecModel(_Same):
    """A codec of waveforms alone."""

    def target(self, sound: Sound) -> Float[Tensor, "channels samples"]:
        """The waveform of a sound, at the codec's rate and channels."""
        return _waveform(sound, self.model.codec)

    @cached_property
    def codec(self) -> _WaveCodec:
        """Its codec, with as many levels as it uses by default."""
        return _WaveCodec(self.model.codec, self.model.levels(None))

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        """Through the codec, at the rate that it spends by default."""
        levelled = sound.at_loudness(LOUDNESS)
        return {"codec": self.model.decode(self.model.encode(levelled)).mono()}


@dataclass(frozen=True)
class _MelCodec:
    codec: Any

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.codec.size,)

    def encode(self, mel: Float[Tensor, "1 mels frames"]) -> Latent:
        latent: Latent = self.codec.encode(mel.to(self.codec.mean.device))
        return latent

    def decode(self, latent: Latent) -> Float[Tensor, "1 mels frames"]:
        mel: Tensor = self.codec.decode(latent)
        return mel

    def distance(self, made: Tensor, wanted: Tensor) -> Tensor:
        return (made - wanted).abs().mean()


@dataclass(frozen=True)
class _WaveCodec:
    codec: WaveCodec
    levels: int

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(self.codec.sizes[: self.levels])

    def encode(self, wave: Float[Tensor, "1 channels samples"]) -> Latent:
        latent = self.codec.encode(wave.to(next(self.codec.parameters()).device), levels=self.levels)
        return latent

    def decode(self, latent: Latent) -> Float[Tensor, "1 channels samples"]:
        return self.codec.decode(latent)

    def distance(self, made: Tensor, wanted: Tensor) -> Tensor:
        made, wanted = (wave.reshape(-1, 1, wave.shape[-1]) for wave in (made, wanted))
        return multi_scale_mel_distance(made, wanted, self.codec.config.rate)


def _waveform(sound: Sound, codec: WaveCodec) -> Float[Tensor, "channels samples"]:
    wave = torch.from_numpy(sound.mono().resample(codec.config.rate).at_loudness(LOUDNESS).samples)
    return wave.expand(codec.config.channels, -1)


def _batch(mels: Sequence[Float[Tensor, "mels _"]], captions: Sequence[str]) -> Batch:
    return collate([Clip(caption, mel) for caption, mel in zip(captions, mels, strict=True)])


def _cut(mels: Float[Tensor, "batch mels frames"], frames: Tensor) -> Mels:
    return [mel[:, :n].cpu() for mel, n in zip(mels, frames.tolist(), strict=True)]
