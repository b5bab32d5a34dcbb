"""Words -> sound: text encoder, prior over mels, vocoder."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, overload

import torch

from cymatic.cond import Cond
from cymatic.data.mels import mel_of, prepare
from cymatic.encoders.familiarity import Familiarity
from cymatic.encoders.text import TextEncoder
from cymatic.errors import ModelError, Note
from cymatic.hub.parts import fingerprint, load_part
from cymatic.hub.pipeline_file import PipelineFile, read_pipeline
from cymatic.media.sound import Sound
from cymatic.pipelines.finish import AT_ONCE, check_count, check_seconds, check_settings, finished, voiced
from cymatic.priors.flow import FlowPrior
from cymatic.signal.mel import MelSpec
from cymatic.vocoders import VOCODERS, Vocoder

LONGEST = 600  # seconds that a clip trained on may last; a prior that claims more is damaged


class TextToSound:
    """A model of three parts that agree on one MelSpec.

    Built from parts, or from a folder by `cymatic.load`. Raises ModelError for parts that don't fit each other.
    """

    settings: ClassVar[tuple[str, ...]] = ("guidance", "steps")  # of sampling

    def __init__(
        self,
        text: TextEncoder,
        prior: FlowPrior,
        vocoder: Vocoder,
        defaults: PipelineFile,
        *,
        name: str = "unnamed",
        sha256: str = "",
    ) -> None:
        if prior.config.mel != vocoder.config.mel:
            raise ModelError(
                f"{name}: its prior and its vocoder speak of different mels; take parts with the same MelSpec"
            )
        if text.config.dim != prior.config.cond_dim:
            raise ModelError(
                f"{name}: its text encoder gives tokens of {text.config.dim} numbers and its prior reads "
                f"{prior.config.cond_dim}; take parts that were trained together"
            )
        most = prior.config.mel.frames(LONGEST * prior.config.mel.rate)
        if not (1 if prior.steps_trained else 0) <= prior.longest <= most:
            raise ModelError(f"{name}: its prior claims to make {prior.longest} frames; copy or train the model again")
        self.text, self.prior, self.vocoder = text.eval(), prior.eval(), vocoder.eval()
        self.defaults, self.name, self.sha256 = defaults, name, sha256
        self.familiarity = Familiarity(defaults.captions)

    @classmethod
    def from_folder(cls, folder: Path, *, device: str = "cpu", name: str | None = None) -> TextToSound:
        """Raises ModelError where a part is missing, damaged or of the wrong kind."""
        file = read_pipeline(folder, PipelineFile)
        places = file.places(folder, ("text", "prior", "vocoder"))
        return cls(
            load_part(places["text"], (TextEncoder,)).to(device),
            load_part(places["prior"], (FlowPrior,)).to(device),
            cast(Vocoder, load_part(places["vocoder"], VOCODERS)).to(device),
            file,
            name=name or folder.name,
            sha256=fingerprint(list(places.values())),
        )

    @property
    def rate(self) -> int:
        """Samples a second of what this model makes."""
        return self.mel.rate

    @property
    def mel(self) -> MelSpec:
        """The mel between its prior and its vocoder."""
        return self.prior.config.mel

    @property
    def captions(self) -> tuple[str, ...]:
        """Those it was trained on; none where nobody knows."""
        return self.defaults.captions

    @property
    def longest(self) -> float:
        """The longest sound that may be asked for, in seconds: twice the longest trained on."""
        return 2 * self.prior.config.mel.seconds(int(self.prior.longest))

    @overload
    def __call__(
        self, prompt: str, *, seed: int = ..., n: None = ..., guidance: float | None = ..., steps: int | None = ...,
        seconds: float | None = ..., allow_untrained: bool = ...,
    ) -> Sound: ...  # fmt: skip

    @overload
    def __call__(
        self, prompt: str, *, n: int, seed: int = ..., guidance: float | None = ..., steps: int | None = ...,
        seconds: float | None = ..., allow_untrained: bool = ...,
    ) -> list[Sound]: ...  # fmt: skip

    def __call__(
        self,
        prompt: str,
        *,
        seed: int = 0,
        n: int | None = None,
        guidance: float | None = None,
        steps: int | None = None,
        seconds: float | None = None,
        allow_untrained: bool = False,
    ) -> Sound | list[Sound]:
        """The sound of `prompt`; with `n`, a list of n sounds with seeds seed, seed + 1, ...

        guidance: how strongly the prompt is followed (1: as learned). steps: of the sampler. seconds: the length,
        otherwise the model chooses one. Warns (`Note`) where words of the prompt are unlike anything trained on.
        Raises PromptError for a prompt that can't be read, Error for a setting out of range, ModelError for a model
        that is untrained or makes no finite sound.
        """
        count = 1 if n is None else n
        guidance = self.defaults.guidance if guidance is None else guidance
        steps = self.defaults.steps if steps is None else steps
        check_count(seed, count)
        check_settings(guidance=guidance, steps=steps)
        frames = None if seconds is None else self._frames(seconds)
        if doubt := self.familiarity.doubt(prompt):
            warnings.warn(doubt, Note, stacklevel=2)
        sounds: list[Sound] = []
        with torch.inference_mode():
            cond = self.text([prompt])
            for start in range(0, count, AT_ONCE):
                seeds = range(seed + start, seed + min(count, start + AT_ONCE))
                sounds += self._sample(cond, seeds, frames, guidance, steps, allow_untrained)
        if seconds is not None:
            sounds = [sound.cut(0, seconds) for sound in sounds]
        info = {"prompt": prompt, "model": self.name, "sha256": self.sha256, "guidance": guidance, "steps": steps}
        sounds = finished(sounds, seed, info)
        return sounds[0] if n is None else sounds

    def revocode(self, sound: Sound) -> Sound:
        """A recording through this model's mel and vocoder: what a perfect prior would give."""
        spec = self.prior.config.mel
        prepared = prepare(sound, spec)
        with torch.inference_mode():
            waveform = self.vocoder(mel_of(prepared, spec)[None].to(self.prior.mean.device))
        return Sound(waveform[0, :, : len(prepared)].cpu().numpy(), spec.rate)

    def _sample(
        self, cond: Cond, seeds: Sequence[int], frames: int | None, guidance: float, steps: int, allow_untrained: bool
    ) -> list[Sound]:
        mel, lengths = self.prior.sample(
            cond.repeat(len(seeds)),
            seeds,
            lengths=None if frames is None else torch.full((len(seeds),), frames),
            guidance=guidance,
            guidance_interval=self.defaults.guidance_interval,
            steps=steps,
            sampler=self.defaults.sampler,
            allow_untrained=allow_untrained,
        )
        return voiced(self.vocoder, mel, lengths.tolist(), self.rate, self.name)

    def _frames(self, seconds: float) -> int:
        check_seconds(seconds, self.longest)
        return self.prior.config.mel.frames(round(seconds * self.rate))
