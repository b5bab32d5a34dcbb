"""Words, or a sound as a word -> pictures by a Stable Diffusion that others trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.errors import Error, ModelError
from cymatic.hub.readers.stable_diffusion import read_stable_diffusion
from cymatic.hub.stable_diffusion import StableDiffusion
from cymatic.media.picture import PICTURE, Picture, PictureSpec
from cymatic.pipelines.asked import Prompt, check_count, described
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.ranking import Ranking
from cymatic.pipelines.sound_word import SoundWord, check_fit
from cymatic.priors.progress import OnStep
from cymatic.scalars import Number
from cymatic.version import __version__

AT_ONCE = 4  # pictures drawn side by side: more would cost much memory and save little time
STEPS, GUIDANCE = 50, 7.5


class PictureDiffusion:
    """Prompts -> pictures by a Stable Diffusion; with a `word`, sounds as well, each as the one word that it makes of
    them (AudioToken). The same prompt and seed give the same picture. Raises ModelError for parts that don't fit.
    """

    medium, captions, has_ranker = PICTURE, (), False
    settings = ("guidance", "steps")

    def __init__(
        self, diffusion: StableDiffusion, word: SoundWord | None = None, *, name: str = "stable-diffusion"
    ) -> None:
        self.diffusion, self.word, self.name = diffusion.eval(), word, name
        self.stamp = {"model": name}
        if word is not None:
            check_fit(word.encoder, word.embedder, diffusion.width)
            self.stamp |= {"token": word.name} | ({"token_sha256": word.sha256} if word.sha256 else {})
        self.gives = PictureSpec(size=max(diffusion.size))

    @classmethod
    def from_folder(
        cls, folder: Path, *, word: SoundWord | None = None, device: str = "cpu", name: str | None = None
    ) -> PictureDiffusion:
        """Of a folder of diffusers'. Raises ModelError as `read_stable_diffusion`."""
        return cls(read_stable_diffusion(folder).to(device), word, name=name or folder.name)

    def condition(self, prompt: Prompt, *, template: str | None = None) -> Float[Tensor, "1 positions dim"]:
        """What the UNet reads of words, or of a sound inside a prompt. Raises PromptError for words that can't be read,
        Error for a sound where it has no word for it."""
        if isinstance(prompt, str):
            if template is not None:
                raise Error("a template is for a sound, and words were given; leave it out")
            return self.diffusion.text_states([prompt])
        if self.word is None:
            raise Error(
                f"{self.name} reads words and no {described(prompt)!r:.60}; give words, or a model that makes a word "
                "of a sound (--token)"
            )
        return self.diffusion.text_states([template or self.word.template], self.word.words([prompt]))

    def __call__(
        self,
        prompt: Prompt,
        *,
        seed: SupportsIndex = 0,
        n: SupportsIndex | None = None,
        keep: SupportsIndex | None = None,
        ranker: Embedder | None = None,
        template: str | None = None,
        negative: str = "",
        steps: SupportsIndex = STEPS,
        guidance: Number = GUIDANCE,
        size: int | tuple[int, int] | None = None,
        on_step: OnStep | None = None,
    ) -> Any:
        """A `Picture` of what is said or heard; with `n`, a list of n with seeds seed, seed + 1, ...

        keep: of the n the best so many by `ranker`, best first. template: a prompt of its own around a sound's word;
        negative: what guidance leads away from. steps, guidance, size: as `StableDiffusion.draw`. on_step: called
        between steps with how many are done and how many there are; what it raises ends the work. Raises PromptError
        for a prompt that can't be read, Error for a sound or a setting out of range, ModelError where numbers that are
        not finite are made.
        """
        count, seed = check_count(seed, 1 if n is None else n)
        drawn = self.diffusion
        ranking = None
        if keep is not None:
            if ranker is None:
                raise ModelError(f"{self.name} has no ranker of its own; give one: ranker=cymatic.load(MODEL)")
            given = None if isinstance(prompt, str) else "audio"
            ranking = Ranking.of(keep, None if n is None else count, ranker, prompt, given, PICTURE)
        how: dict[str, Any] = {"steps": drawn.check_steps(steps), "guidance": drawn.check_guidance(guidance)}
        size = drawn.sides(size)
        made: list[Picture] = []
        with torch.inference_mode():
            states, unconditional = self.condition(prompt, template=template), drawn.text_states([negative])
            info = {"prompt": described(prompt), **self.stamp, **how}
            if not isinstance(prompt, str) and self.word is not None:
                info["template"] = template or self.word.template
            info |= {"negative": negative} if negative else {}
            for begin in range(0, count, AT_ONCE):
                seeds = range(seed + begin, seed + min(count, begin + AT_ONCE))
                pictures = drawn.draw(
                    states.expand(len(seeds), -1, -1),
                    unconditional,
                    seeds,
                    **how,
                    size=size,
                    on_step=_of_all(on_step, begin // AT_ONCE, -(-count // AT_ONCE)),
                )
                made += [_picture(one, {**info, "seed": at}) for one, at in zip(pictures, seeds, strict=True)]
        if ranking is not None:
            return ranking.best(made, prompt)
        return made[0] if n is None else made


def _picture(made: Float[Tensor, "3 height width"], info: Mapping[str, Any]) -> Picture:
    """Raises ModelError for NaN or infinity."""
    if not made.isfinite().all():
        raise ModelError("the model made NaN or infinity instead of a picture; lower the guidance or mend the model")
    return Picture(made.permute(1, 2, 0).float().cpu().numpy(), {**info, "cymatic": __version__})


def _of_all(on_step: OnStep | None, batch: int, batches: int) -> OnStep | None:
    """`on_step` of one of several batches, which counts the steps of all."""
    if on_step is None:
        return None
    return lambda done, steps: on_step(batch * steps + done, batches * steps)
