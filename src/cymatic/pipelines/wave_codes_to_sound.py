"""Words -> codes of a waveform codec -> sound: a model without a mel and without a vocoder."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import ClassVar, overload

import torch
from jaxtyping import Int
from torch import Tensor

from cymatic.encoders.familiarity import Familiarity
from cymatic.encoders.text import TextEncoder
from cymatic.errors import ModelError, Note
from cymatic.hub.parts import fingerprint, load_part
from cymatic.hub.pipeline_file import CodecGPTFile, read_pipeline
from cymatic.hub.wave_codecs import WaveCodec, load_wave_codec
from cymatic.media.sound import Sound
from cymatic.pipelines.finish import AT_ONCE, check_count, check_seconds, check_settings, finished
from cymatic.priors.gpt import GPTPrior

PARTS = ("condition", "prior", "codec")


class WaveCodesToSound:
    """A model of three parts: text encoder, GPT over codes, waveform codec.

    The GPT's rows are the codec's first levels, so a frame's codes follow each other. Built from parts, or from a
    folder by `cymatic.load`. Raises ModelError for parts that don't fit each other.
    """

    settings: ClassVar[tuple[str, ...]] = ("guidance", "temperature", "top_k", "top_p")  # of sampling

    def __init__(
        self,
        condition: TextEncoder,
        prior: GPTPrior,
        codec: WaveCodec,
        defaults: CodecGPTFile,
        *,
        name: str = "unnamed",
        sha256: str = "",
    ) -> None:
        shape = prior.config
        if condition.config.dim != shape.cond_dim:
            raise ModelError(
                f"{name}: its condition has tokens of {condition.config.dim} numbers and its prior reads "
                f"{shape.cond_dim}; take parts that were trained together"
            )
        sizes = codec.sizes[: shape.rows]
        if sizes != tuple(map(shape.size, range(shape.rows))):
            raise ModelError(
                f"{name}: its codec has {codec.levels} levels of up to {max(codec.sizes)} codes, and its prior speaks "
                f"of {shape.rows} of up to {shape.codes}; take parts that were trained together"
            )
        self.condition, self.prior, self.wave_codec = condition.eval(), prior.eval(), codec.eval()
        self.defaults, self.name, self.sha256 = defaults, name, sha256
        self.familiarity = Familiarity(defaults.captions)

    @classmethod
    def from_folder(cls, folder: Path, *, device: str = "cpu", name: str | None = None) -> WaveCodesToSound:
        """Raises ModelError where a part is missing, damaged or of the wrong kind."""
        file = read_pipeline(folder, CodecGPTFile)
        places = file.places(folder, PARTS)
        return cls(
            load_part(places["condition"], (TextEncoder,)).to(device),
            load_part(places["prior"], (GPTPrior,)).to(device),
            load_wave_codec(places["codec"]).to(device),
            file,
            name=name or folder.name,
            sha256=fingerprint(list(places.values())),
        )

    @property
    def rate(self) -> int:
        """Samples a second of what this model makes."""
        return self.wave_codec.config.rate

    @property
    def captions(self) -> tuple[str, ...]:
        """Those it was trained on."""
        return self.defaults.captions

    @property
    def longest(self) -> float:
        """The longest sound that may be asked for, in seconds: the longest trained on."""
        return self._samples(self.prior.config.longest) / self.rate

    @overload
    def __call__(
        self, prompt: str, *, seed: int = ..., n: None = ..., guidance: float | None = ...,
        temperature: float | None = ..., top_k: int | None = ..., top_p: float | None = ..., greedy: bool = ...,
        seconds: float | None = ..., allow_untrained: bool = ...,
    ) -> Sound: ...  # fmt: skip

    @overload
    def __call__(
        self, prompt: str, *, n: int, seed: int = ..., guidance: float | None = ..., temperature: float | None = ...,
        top_k: int | None = ..., top_p: float | None = ..., greedy: bool = ..., seconds: float | None = ...,
        allow_untrained: bool = ...,
    ) -> list[Sound]: ...  # fmt: skip

    def __call__(
        self,
        prompt: str,
        *,
        seed: int = 0,
        n: int | None = None,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool = False,
        seconds: float | None = None,
        allow_untrained: bool = False,
    ) -> Sound | list[Sound]:
        """The sound of `prompt`; with `n`, a list of n sounds with seeds seed, seed + 1, ...

        As `CodesToSound`: what the settings mean, and what is raised and warned of.
        """
        count = 1 if n is None else n
        check_count(seed, count)
        how = self.defaults.or_usual(guidance, temperature, top_k, top_p)
        check_settings(**how)
        columns = None if seconds is None else self._columns(seconds)
        if doubt := self.familiarity.doubt(prompt):
            warnings.warn(doubt, Note, stacklevel=2)
        sounds: list[Sound] = []
        with torch.inference_mode():
            cond = self.condition([prompt])
            for first in range(0, count, AT_ONCE):
                seeds = range(seed + first, seed + min(count, first + AT_ONCE))
                codes, lengths = self.prior.sample(
                    cond.repeat(len(seeds)),
                    seeds,
                    lengths=None if columns is None else torch.full((len(seeds),), columns),
                    greedy=greedy,
                    allow_untrained=allow_untrained,
                    **how,
                )
                sounds += [self.sound(one[:, :end]) for one, end in zip(codes, lengths.tolist(), strict=True)]
        if seconds is not None:
            sounds = [sound.cut(0, seconds) for sound in sounds]
        done = finished(sounds, seed, {"prompt": prompt, "model": self.name, "sha256": self.sha256})
        return done[0] if n is None else done

    def sound(self, codes: Int[Tensor, "levels frames"]) -> Sound:
        """What codes stand for. Raises ModelError where that is no finite sound."""
        fewest = self.wave_codec.columns(1)
        if codes.shape[1] < fewest:  # the decoder's delay is longer than these frames
            codes = torch.cat([codes, codes[:, -1:].expand(-1, fewest - codes.shape[1])], dim=1)
        wave = self.wave_codec.decode_codes(codes[None])[0].cpu()
        if not wave.isfinite().all():
            raise ModelError(f"{self.name} made NaN or infinity instead of sound; lower the guidance or mend the model")
        return Sound(wave.numpy(), self.rate)

    def _samples(self, frames: int) -> int:
        return self.wave_codec.length(frames)

    def _columns(self, seconds: float) -> int:
        check_seconds(seconds, self.longest)
        return self.wave_codec.columns(round(seconds * self.rate))
