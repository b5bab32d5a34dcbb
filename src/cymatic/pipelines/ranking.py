"""The best of several that were made, by encoders that were aligned: draw n, keep k."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cymatic.errors import Error
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.media.medium import Medium
from cymatic.pipelines.asked import Prompt, described
from cymatic.pipelines.embed import Embedder, best_first


@dataclass(frozen=True)
class Ranking:
    """How the best `keep` are chosen: by `ranker`, which reads the prompt as `given` and what is made as `role`.
    vector: of the prompt in the ranker's space, where that is known already.

    As CLIP chose DALL-E's pictures (Ramesh et al., 2021, arXiv 2102.12092): the score of one is its similarity with the
    prompt, the cosine of their vectors.
    """

    keep: int
    ranker: Embedder
    given: str
    role: str
    vector: Tensor | None = None

    @classmethod
    def of(
        cls, keep: Any, count: int | None, ranker: Embedder, prompt: Prompt, given: str | None, medium: Medium[Any],
        *, vector: Tensor | None = None,
    ) -> Ranking:  # fmt: skip
        """given: the medium of the prompt; None: words. Raises Error for a number that can't be kept of `count`, a
        prompt that is prepared already, and a ranker without an encoder of the prompt or of what is made."""
        try:
            most, keep = count or 0, operator.index(keep)
        except TypeError:
            raise Error(f"keep is {keep!r:.40}; give a whole number") from None
        if not 1 <= keep <= most:
            of = "only one is made" if count is None else f"{count} are made"
            raise Error(f"{keep} were to be kept and {of}; give n, and a keep from 1 to n")
        if isinstance(prompt, Tensor) and vector is None:
            raise Error(f"{described(prompt)} can't be read by a ranker; give what they were prepared from instead")
        return cls(keep, ranker, ranker.role_of(given), ranker.role_of(medium.name), vector)

    def best(self, made: Sequence[Any], prompt: Prompt) -> list[Any]:
        """The best of `made`, best first, each with its `score` in its info; of equal ones the earlier."""
        scores = [round(score, 6) for score in self.scores(made, prompt)]  # equal pictures differ by rounding alone
        for one, score in zip(made, scores, strict=True):
            one.info["score"] = score
        return [made[i] for i in best_first(scores)[: self.keep]]

    def scores(self, made: Sequence[Any], prompt: Prompt) -> list[float]:
        """How similar each is to the prompt, from -1 to 1."""
        asked = self.ranker.embed([prompt], self.given)[0] if self.vector is None else self.vector
        similar: list[float] = (self.ranker.embed(made, self.role) @ asked).tolist()
        return similar


def load_ranker(folder: Path, *, device: str = "cpu") -> Embedder:
    """The aligned encoders in `folder`. Raises ModelError where there are none."""
    return Embedder.from_folder(folder, read_pipeline(folder), device=device)
