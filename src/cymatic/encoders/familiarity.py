"""How familiar a prompt is to a model: which of its words are like nothing in the captions trained on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from cymatic.encoders.text import normalise, token_ids, token_table
from cymatic.errors import PromptError

# Measured on wordllama's table: spelling variants and close kin of a word ("7" for "seven", "puppy" for "dog", "said"
# for "says") lie above this cosine, other words of its class ("eleven", "mary") below.
KIN = 0.45
# Rows of articles and prepositions are shorter than this; such words mean little alone, so they are never reported.
SALIENT = 3.0


class Familiarity:
    """Compares prompts with known captions by wordllama's frozen embeddings, word by word."""

    def __init__(self, captions: Sequence[str]) -> None:
        self._given = captions

    @cached_property
    def captions(self) -> list[str]:
        """The captions that can be prompts."""
        return [caption for caption in self._given if _readable(caption)]

    @cached_property
    def _known(self) -> Float[np.ndarray, "words dim"]:
        words = {word for caption in self.captions for word in normalise(caption).split()}
        return _unit(np.stack([_embed(word) for word in sorted(words)]))

    def unknown_words(self, prompt: str) -> list[str]:
        """The prompt's words whose best cosine with any known word is under 0.45. Raises PromptError as `normalise`.

        Words that mean little alone are left out, unless not one word of the prompt is known.
        """
        if not self.captions:
            return []
        words = normalise(prompt).split()
        vectors = [_embed(word) for word in words]
        strange = [(self._known @ _unit(vector)).max() < KIN for vector in vectors]
        if all(strange):
            return words
        salient = [np.linalg.norm(vector) >= SALIENT for vector in vectors]
        return [word for word, odd, says in zip(words, strange, salient, strict=True) if odd and says]

    def nearest(self, prompt: str, count: int = 3) -> list[str]:
        """The known captions whose mean embedding lies nearest to the prompt's, nearest first."""
        captions = _unit(np.stack([_embed(caption) for caption in self.captions]))
        order = np.argsort(-(captions @ _unit(_embed(prompt))), kind="stable")
        return [self.captions[i] for i in order[:count]]

    def note(self, prompt: str) -> str | None:
        """One sentence where the prompt holds unknown words, else None."""
        unknown = self.unknown_words(prompt)
        if not unknown:
            return None
        words = dict.fromkeys(unknown)
        listed = ", ".join(f'"{word}"' for word in words) + (" is" if len(words) == 1 else " are")
        return (
            f"{listed} unlike anything this model was trained on, so expect something else; nearest captions: "
            f"{', '.join(self.nearest(prompt))}"
        )


def telling(captions: Sequence[str], most: int) -> list[str]:
    """At most `most` captions that say what a model knows: all of them, or of too many first those with a word that
    none before them has, in their order."""
    if len(captions) <= most:
        return list(captions)
    known: set[str] = set()
    chosen: list[str] = []
    for caption in captions:
        if new := set(caption.lower().split()) - known:
            known |= new
            chosen.append(caption)
    taken = set(chosen)
    chosen += [caption for caption in captions if caption not in taken]
    return chosen[:most]


def _readable(caption: str) -> bool:
    try:
        return bool(token_ids(caption))
    except PromptError:
        return False


def _embed(text: str) -> Float[np.ndarray, " dim"]:
    return token_table()[token_ids(text)].astype(np.float32).mean(0)


def _unit(vectors: Float[np.ndarray, "*n dim"]) -> Float[np.ndarray, "*n dim"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
