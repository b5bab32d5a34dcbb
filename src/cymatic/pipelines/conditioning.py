"""What a prior is conditioned on: what its encoder gives, and a vector of a space of aligned encoders where it has one.

Such a prior reads the tokens of its own encoder of words, and a vector by aligned encoders of words, pictures, ...
Whatever lies in the space can draw, as by the decoder of DALL-E 2, which reads vectors of CLIP (Ramesh et al., 2022,
arXiv 2204.06125).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cymatic.cond import Cond, Padded, padded
from cymatic.errors import Error, ModelError
from cymatic.media import MEDIA, medium_of
from cymatic.media.medium import Medium
from cymatic.pipelines.asked import Prompt, described
from cymatic.pipelines.embed import Embedder

By = str  # `tokens` or `vector`: one of what a condition has, without the other


def check_space(space: Embedder, encoder: Any, medium: Medium[Any], name: str) -> None:
    """Raises Error for a space that has no encoder of words or of `medium`, or whose vectors are of another width than
    the tokens of the encoder with this config, and beside an encoder that reads no words. name: of the model."""
    if encoder.reads is not None:
        raise ModelError(
            f"{name} has a space, which goes with an encoder of words, and its encoder reads "
            f"{MEDIA[encoder.reads.medium].nouns}; leave one of the two out"
        )
    for one in (None, medium.name):
        space.role_of(one)
    if space.dim != encoder.dim:
        raise ModelError(
            f"the vectors of {space.name} are {space.dim} wide and the tokens of the encoder of {name} {encoder.dim}; "
            f"set encoder.dim to {space.dim}, or give another space"
        )


def conditioned(encoder: Any, space: Embedder | None, inputs: list[str] | Padded) -> Cond:
    """The condition of what `encoder` reads; of words, where there is a space, with their vector in it, which learns
    nothing."""
    cond: Cond = encoder(inputs)
    if space is None:
        return cond
    with torch.no_grad():
        return replace(cond, vector=space.vectors(space.role_of(None), inputs).float().to(cond.device))


def condition_of(name: str, encoder: Any, space: Embedder | None, prompts: Sequence[Prompt]) -> Cond:
    """The condition of prompts of one kind: words, or what the encoder reads (a path: of its file); or what else lies
    in the space, whose condition is a vector alone. Raises Error for others. name: of the model."""
    spec = encoder.config.reads
    words = [isinstance(prompt, str) for prompt in prompts]
    reads = None if spec is None else MEDIA[spec.medium]
    if space is not None and not any(words):
        return Cond(vector=space.embed(prompts).to(_device(encoder)))
    for prompt, is_words in zip(prompts, words, strict=True):
        if is_words != (reads is None) or (isinstance(prompt, Path) and medium_of(prompt) is not reads):
            wanted = "words" if reads is None else reads.nouns
            raise Error(f"{name} is conditioned on {wanted}; give these instead of {described(prompt)!r:.60}")
    if reads is None:
        return conditioned(encoder, space, list(prompts))
    values = [reads.read(one) if isinstance(one, Path) else one for one in prompts]
    targets = [one if isinstance(one, Tensor) else reads.prepare(one, spec) for one in values]  # a tensor is prepared
    return conditioned(encoder, space, padded([one.float() for one in targets]))


def only(name: str, cond: Cond, by: By | None) -> Cond:
    """The tokens or the vector of a condition, without the other; None: both. Raises Error where it lacks that one."""
    if by is None:
        return cond
    if by not in ("tokens", "vector"):
        raise Error(f"by is {by!r:.40}; give tokens or vector, or leave it out for both")
    found = replace(cond, tokens=None, mask=None) if by == "vector" and cond.vector is not None else None
    if by == "tokens" and cond.tokens is not None:
        found = replace(cond, vector=None)
    if found is None:
        raise Error(f"what {name} is asked with has no {by}; leave by out, or ask with words")
    return found


def _device(encoder: Any) -> torch.device:
    device: torch.device = next(encoder.parameters()).device
    return device
