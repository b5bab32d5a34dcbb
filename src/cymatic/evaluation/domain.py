"""In which form clips are compared: values as users meet them, or targets as a prior is trained on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from cymatic.errors import Error, Note
from cymatic.evaluation.corpus import OnClip, silently
from cymatic.evaluation.evaluable import Draws, Generates
from cymatic.evaluation.intervals import Estimate
from cymatic.evaluation.outlines import mel_outline, mel_statistics

Losses = dict[str, Estimate]
Vector = Float[np.ndarray, " dim"]


@dataclass(frozen=True)
class Domain:
    """A form of clips, and how two of them are compared.

    name: what a report calls outlines, such as "mel"; noun, nouns: what messages call a clip and several. outline: clip
    -> a vector of one size, for neighbours and diversity. targets: whether clips are targets (see `evaluable`), else
    values. features: clip -> the vectors that a probe reads, by default the outline. losses: originals, what came of
    them -> what was lost, by measure. restored: clip -> a value of the medium, to be shown; None where that takes more
    than the clip. missing: measures that could be there, and why they are not.
    """

    name: str
    outline: Callable[[Any], Vector]
    targets: bool = False
    features: Callable[[Any], Sequence[Vector]] | None = None
    losses: Callable[[Sequence[Any], Sequence[Any]], Losses] | None = None
    restored: Callable[[Any], Any] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    noun: str = "clip"
    nouns: str = "clips"

    def outlines(self, clips: Sequence[Any]) -> Float[np.ndarray, "clips dim"]:
        """The outlines of one clip or more, in float32."""
        return np.stack([self.outline(clip) for clip in clips]).astype(np.float32)

    def read(self, clip: Any) -> Sequence[Vector]:
        """What a probe reads of a clip."""
        return [self.outline(clip)] if self.features is None else self.features(clip)

    def can_make(self, model: Any) -> bool:
        """Whether `model` makes clips of this form."""
        return isinstance(model, Draws if self.targets else Generates)

    def make(
        self,
        model: Any,
        prompts: Sequence[str],
        seeds: Sequence[int],
        guidance: float | None = None,
        on_clip: OnClip = silently,
    ) -> list[Any]:
        """A clip for each prompt and seed. Raises Error where targets are not finite, and as the model does."""
        if not self.targets:
            return _values(model, prompts, seeds, on_clip)
        made = model.draw(prompts, seeds, guidance)
        if not all(one.isfinite().all() for one in made):
            raise Error("it makes NaN or infinity instead of clips")
        return list(made)

    def target(self, model: Any, clip: Any) -> Tensor:
        """What the model's codec and prior read of a clip."""
        found: Tensor = clip if self.targets else model.target(clip)
        return found


MELS = Domain("mel", mel_outline, targets=True, features=lambda mel: (mel_outline(mel), mel_statistics(mel)))


def _values(model: Generates, prompts: Sequence[str], seeds: Sequence[int], on_clip: OnClip) -> list[Any]:
    """Values; takes of one prompt with seeds in a row come from one call."""
    made: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # that a caption is new to the model would be said of each
        while (start := len(made)) < len(prompts):
            on_clip(start, len(prompts))
            end = start + 1
            while end < len(prompts) and prompts[end] == prompts[start] and seeds[end] == seeds[end - 1] + 1:
                end += 1
            made += model(prompts[start], seed=seeds[start], n=end - start)
    return made
