"""Words -> codes -> mel -> sound, and what else codes are good for: to go on from a sound, to vary it, to blend two."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, overload

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.cond import Cond
from cymatic.data.mels import mel_of, prepare
from cymatic.encoders.classes import ClassEncoder
from cymatic.encoders.familiarity import Familiarity
from cymatic.encoders.features import FeatureEncoder
from cymatic.encoders.text import TextEncoder
from cymatic.errors import Error, ModelError, Note
from cymatic.hub.parts import fingerprint, load_part
from cymatic.hub.pipeline_file import PARTS_OF_CODES, CodesFile, read_pipeline
from cymatic.media.sound import Sound
from cymatic.pipelines.finish import AT_ONCE, check_count, check_seconds, check_settings, finished, voiced
from cymatic.priors.gpt import GPTPrior
from cymatic.priors.gpt_vae import GPTVAE
from cymatic.signal.mel import MelSpec
from cymatic.vocoders import VOCODERS, Vocoder

Prompt = str | Float[np.ndarray, "frames features"]  # words or a class, or what a video's frames show
Encoder = TextEncoder | ClassEncoder | FeatureEncoder
ENCODERS: tuple[type[Encoder], ...] = (TextEncoder, ClassEncoder, FeatureEncoder)
CODE_PRIORS: tuple[type[GPTPrior] | type[GPTVAE], ...] = (GPTPrior, GPTVAE)
IMPORTANCE = 32  # draws of a latent for a likelihood; ten times as many would give a bound that is a little tighter


class CodesToSound:
    """A model of four parts: encoder of the condition, prior over codes, spectrogram codec, vocoder.

    Built from parts, or from a folder by `cymatic.load`. Raises ModelError for parts that don't fit each other.
    """

    settings: ClassVar[tuple[str, ...]] = ("guidance", "temperature", "top_k", "top_p")  # of sampling

    def __init__(
        self,
        condition: TextEncoder | ClassEncoder | FeatureEncoder,
        prior: GPTPrior | GPTVAE,
        codec: SpectrogramCodec,
        vocoder: Vocoder,
        defaults: CodesFile,
        *,
        name: str = "unnamed",
        sha256: str = "",
    ) -> None:
        if codec.config.mel != vocoder.config.mel:
            raise ModelError(
                f"{name}: its codec and its vocoder speak of different mels; take parts with the same MelSpec"
            )
        shape = prior.config.decoder if isinstance(prior, GPTVAE) else prior.config
        if condition.config.dim != shape.cond_dim:
            raise ModelError(
                f"{name}: its condition has tokens of {condition.config.dim} numbers and its prior reads "
                f"{shape.cond_dim}; take parts that were trained together"
            )
        size = codec.size
        if (shape.codes, shape.rows) != (size, codec.rows):
            raise ModelError(
                f"{name}: its codec has {size} codes in columns of {codec.rows}, and its prior speaks of "
                f"{shape.codes} in columns of {shape.rows}; take parts that were trained together"
            )
        self.condition, self.prior, self.shape = condition.eval(), prior.eval(), shape
        self.codec, self.vocoder = codec.eval(), vocoder.eval()
        self.defaults, self.name, self.sha256 = defaults, name, sha256
        self.familiarity = Familiarity(defaults.captions)

    @classmethod
    def from_folder(cls, folder: Path, *, device: str = "cpu", name: str | None = None) -> CodesToSound:
        """Raises ModelError where a part is missing, damaged or of the wrong kind."""
        file = read_pipeline(folder, CodesFile)
        places = file.places(folder, PARTS_OF_CODES)
        return cls(
            load_part(places["condition"], ENCODERS).to(device),
            load_part(places["prior"], CODE_PRIORS).to(device),
            load_part(places["codec"], (SpectrogramCodec,)).to(device),
            load_part(places["vocoder"], VOCODERS).to(device),
            file,
            name=name or folder.name,
            sha256=fingerprint(list(places.values())),
        )

    @property
    def rate(self) -> int:
        """Samples a second of what this model makes."""
        return self.codec.config.mel.rate

    @property
    def mel(self) -> MelSpec:
        """What lies between its codec and its vocoder."""
        return self.codec.config.mel

    @property
    def captions(self) -> tuple[str, ...]:
        """Those it was trained on."""
        return self.defaults.captions

    @property
    def longest(self) -> float:
        """The longest sound that may be asked for, in seconds: the longest trained on."""
        return self.codec.config.mel.seconds(self.shape.longest * self.codec.config.cell[1])

    @overload
    def __call__(
        self, prompt: Prompt, *, seed: int = ..., n: None = ..., guidance: float | None = ...,
        temperature: float | None = ..., top_k: int | None = ..., top_p: float | None = ..., greedy: bool = ...,
        seconds: float | None = ..., allow_untrained: bool = ...,
    ) -> Sound: ...  # fmt: skip

    @overload
    def __call__(
        self, prompt: Prompt, *, n: int, seed: int = ..., guidance: float | None = ..., temperature: float | None = ...,
        top_k: int | None = ..., top_p: float | None = ..., greedy: bool = ..., seconds: float | None = ...,
        allow_untrained: bool = ...,
    ) -> list[Sound]: ...  # fmt: skip

    def __call__(
        self,
        prompt: Prompt,
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

        guidance: how strongly the prompt is followed (1: as learned). temperature, top_k, top_p: how boldly codes are
        drawn; greedy: always the likeliest. seconds: the length, otherwise the model chooses one. Warns (`Note`) where
        words of the prompt are unlike anything trained on. Raises PromptError for a prompt that can't be read, Error
        for a setting out of range, ModelError for a model that is untrained or makes no finite sound.
        """
        count = 1 if n is None else n
        check_count(seed, count)
        columns = None if seconds is None else self._columns(seconds)
        self._doubt(prompt)
        codes: list[Tensor] = []
        with torch.inference_mode():
            cond = self._cond(prompt)
            for first in range(0, count, AT_ONCE):
                seeds = range(seed + first, seed + min(count, first + AT_ONCE))
                wanted = None if columns is None else torch.full((len(seeds),), columns)
                codes += self._sample(
                    _times(cond, len(seeds)), seeds, guidance, temperature, top_k, top_p, greedy,
                    columns=wanted, allow_untrained=allow_untrained,
                )  # fmt: skip
        sounds = self._sounds(codes)
        if seconds is not None:
            sounds = [sound.cut(0, seconds) for sound in sounds]
        info = {"prompt": _said(prompt), "model": self.name, "sha256": self.sha256}
        done = finished(sounds, seed, info)
        return done[0] if n is None else done

    def extend(
        self,
        sound: Sound,
        *,
        prompt: Prompt | None = None,
        keep: float | None = None,
        seconds: float | None = None,
        seed: int = 0,
        n: int = 1,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        greedy: bool = False,
    ) -> list[Sound]:
        """`n` sounds that begin as `sound` does and go on as the prior would.

        keep: how many seconds of it are kept (otherwise half). seconds: the whole length (otherwise the model ends when
        it likes). prompt: what is to be heard; without one, guidance is off. Raises Error where nothing would be left
        to keep or to add.
        """
        check_count(seed, n)
        self._doubt(prompt)
        codes, _ = self.codes_of(sound)
        spec, whole = self.codec.config.mel, codes.shape[-1]
        column = spec.seconds(self.codec.config.cell[1])
        most = min(whole, self.shape.longest - 1)
        # Not rounded yet, as it may be NaN or infinite.
        wanted = max(1, whole // 2) if keep is None else keep * spec.rate / (spec.hop * self.codec.config.cell[1])
        if not (math.isfinite(wanted) and 1 <= round(wanted) <= most):
            raise Error(
                f"{wanted * column:.4g} s are to be kept; this model goes on from {column:.2f} to {most * column:.2f} "
                "s of that sound; give --keep in that range"
            )
        kept = round(wanted)
        columns = None if seconds is None else self._columns(seconds)
        if columns is not None and columns <= kept:
            raise Error(f"{seconds:g} s were asked for, no more than is kept; give more seconds, or keep less")
        with torch.inference_mode():
            cond = _times(self._cond(prompt), n)
            made = self._sample(
                cond, range(seed, seed + n), 1.0 if prompt is None else guidance, temperature, top_k, top_p, greedy,
                start=codes[:, :kept].expand(n, -1, -1),
                columns=None if columns is None else torch.full((n,), columns),
            )  # fmt: skip
        info = {
            "extends": f"{spec.seconds(kept * self.codec.config.cell[1]):.2f} s",
            "prompt": _said(prompt),
            "model": self.name,
        }
        return finished(self._sounds(made), seed, {**info, "sha256": self.sha256})

    def blend(self, first: Sound, second: Sound, *, steps: int = 5, prompt: Prompt | None = None) -> list[Sound]:
        """`steps` sounds from one to the other, evenly spaced in the latent of a GPT-VAE.

        Raises ModelError where the prior has no latent, Error for fewer than 2 steps.
        """
        prior = self._latent_prior("blend")
        if not 2 <= steps <= 1000:
            raise Error(f"{steps} steps were asked for; give a number from 2 to 1000")
        with torch.inference_mode():
            a, b = (self.codes_of(sound)[0] for sound in (first, second))
            codes, columns = prior.blend(a, b, steps, cond=self._cond(prompt), **self._usual(prompt))
        info = {"blend": steps, "prompt": _said(prompt), "model": self.name, "sha256": self.sha256}
        return finished(self._sounds(_cut(codes, columns)), 0, info)

    def vary(
        self, sound: Sound, *, n: int = 4, amount: float = 0.5, seed: int = 0, prompt: Prompt | None = None
    ) -> list[Sound]:
        """`n` sounds near `sound` in the latent of a GPT-VAE; `amount`: 0 stays there, 1 forgets it.

        Raises ModelError where the prior has no latent.
        """
        prior = self._latent_prior("vary")
        check_count(seed, n)
        with torch.inference_mode():
            codes, columns = prior.vary(
                self.codes_of(sound)[0], n, amount, cond=self._cond(prompt), seed=seed, **self._usual(prompt)
            )
        info = {"varies": amount, "prompt": _said(prompt), "model": self.name, "sha256": self.sha256}
        return finished(self._sounds(_cut(codes, columns)), seed, info)

    def codes_of(self, sound: Sound) -> tuple[Int[Tensor, "rows columns"], int]:
        """The codes of a recording, and its length in frames."""
        spec = self.codec.config.mel
        mel = mel_of(prepare(sound, spec), spec)
        with torch.inference_mode():
            latent = self.codec.encode(mel[None].to(self.codec.mean.device))
        assert latent.codes is not None
        return latent.codes[0], mel.shape[1]

    def revocode(self, sound: Sound) -> Sound:
        """A recording through this model's codec and vocoder: what a perfect prior would give."""
        codes, frames = self.codes_of(sound)
        with torch.inference_mode():
            mel = self.codec.decode_codes(codes[None], torch.tensor([frames]))
        (made,) = voiced(self.vocoder, mel, [frames], self.rate, self.name)
        return made

    def nll(self, sound: Sound, prompt: Prompt) -> tuple[float, int] | None:
        """The negative log-likelihood of a recording's codes under the prompt, in nats, and how many codes it has.

        Its end counts, too; of a GPT-VAE it is the bound that IMPORTANCE draws of the latent give. None for a recording
        longer than any that the prior was trained on.
        """
        codes, _ = self.codes_of(sound)
        if codes.shape[1] > self.shape.longest:
            return None
        columns = torch.tensor([codes.shape[1]], device=codes.device)
        cond, generator = self._cond(prompt), torch.Generator().manual_seed(0)
        with torch.inference_mode():
            if isinstance(self.prior, GPTVAE):
                bound = self.prior.importance_weighted_nll(codes[None], columns, cond, generator, draws=IMPORTANCE)
                return bound.item(), codes.numel()
            terms = self.prior.loss(codes[None], columns, cond, generator)
        return terms["nll"].item() * codes.numel(), codes.numel()

    def posterior(self, sound: Sound, prompt: Prompt) -> tuple[Tensor, Tensor] | None:
        """Mean and log variance `[1, latent]` of what a GPT-VAE sees in a recording. None of a prior without a latent,
        and for a recording longer than any that it was trained on."""
        if not isinstance(self.prior, GPTVAE):
            return None
        codes, _ = self.codes_of(sound)
        if codes.shape[1] > self.shape.longest:
            return None
        with torch.inference_mode():
            columns = torch.tensor([codes.shape[1]], device=codes.device)
            return self.prior.encode(codes[None], columns, self._cond(prompt))

    def attention(self, sound: Sound, prompt: Prompt | None = None) -> list[Float[np.ndarray, "heads n n"]]:
        """How much each code of a recording looks at each before it, and at the condition, which comes first: a map
        for each head of each block (`media.plot.attention_sheet` draws them). Raises ModelError for a GPT-VAE, whose
        codes look at a latent, too."""
        if not isinstance(self.prior, GPTPrior):
            raise ModelError(f"{self.name} has a GPT-VAE; maps of attention are drawn of a GPT")
        codes = self.codes_of(sound)[0][:, : self.shape.longest]
        with torch.inference_mode():
            maps = self.prior.attention_maps(codes[None], self._cond(prompt))
        return [one[0].cpu().numpy() for one in maps]

    def _sample(
        self,
        cond: Cond | None,
        seeds: Sequence[int],
        guidance: float | None,
        temperature: float | None,
        top_k: int | None,
        top_p: float | None,
        greedy: bool,
        *,
        columns: Tensor | None = None,
        start: Tensor | None = None,
        allow_untrained: bool = False,
    ) -> list[Int[Tensor, "rows _"]]:
        how = self.defaults.or_usual(guidance, temperature, top_k, top_p)
        check_settings(**how)
        codes, lengths = self.prior.sample(
            cond, seeds, lengths=columns, start=start, greedy=greedy, allow_untrained=allow_untrained, **how
        )
        return _cut(codes, lengths)

    def _usual(self, prompt: Prompt | None) -> dict[str, Any]:
        return self.defaults.or_usual(1.0 if prompt is None else None, None, None, None)

    def _sounds(self, codes: Sequence[Int[Tensor, "rows _"]]) -> list[Sound]:
        sounds = []
        for one in codes:
            frames = one.shape[1] * self.codec.config.cell[1]
            with torch.inference_mode():
                mel = self.codec.decode_codes(one[None], torch.tensor([frames]))
            sounds += voiced(self.vocoder, mel, [frames], self.rate, self.name)
        return sounds

    def _cond(self, prompt: Prompt | None) -> Cond | None:
        """Raises Error for a prompt of another kind than the model was trained with."""
        if prompt is None:
            return None
        seen = not isinstance(prompt, str)
        if seen != isinstance(self.condition, FeatureEncoder):
            raise Error(
                f"{self.name} hears from {'words' if seen else 'features of a video'}; give those instead of "
                f"{'features' if seen else 'words'}"
            )
        return self.condition([torch.as_tensor(prompt, dtype=torch.float32) if seen else prompt])

    def _columns(self, seconds: float) -> int:
        check_seconds(seconds, self.longest)
        return self.codec.columns(self.codec.config.mel.frames(round(seconds * self.rate)))

    def _latent_prior(self, verb: str) -> GPTVAE:
        if not isinstance(self.prior, GPTVAE):
            raise ModelError(
                f"{self.name} can't {verb}, for its prior ({self.prior.config.kind}) has no latent; train one with "
                "--set prior.kind=gpt-vae"
            )
        return self.prior

    def _doubt(self, prompt: Prompt | None) -> None:
        if isinstance(prompt, str) and (doubt := self.familiarity.doubt(prompt)):
            warnings.warn(doubt, Note, stacklevel=3)


def _cut(codes: Int[Tensor, "batch rows columns"], columns: Int[Tensor, " batch"]) -> list[Int[Tensor, "rows _"]]:
    return [one[:, :n] for one, n in zip(codes, columns.tolist(), strict=True)]


def _said(prompt: Prompt | None) -> str:
    if isinstance(prompt, str) or prompt is None:
        return prompt or ""
    return f"features of {len(prompt)} frames"


def _times(cond: Cond | None, times: int) -> Cond | None:
    return None if cond is None else cond.repeat(times)
