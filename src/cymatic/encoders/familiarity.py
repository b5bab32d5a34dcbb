"""How familiar a prompt is to a model: which of its words are like nothing in the captions trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
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
        return list(self._caption_ids)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the captions."""
        return frozenset(word for caption in self._given for word in _words(caption))

    @cached_property
    def _caption_ids(self) -> dict[str, list[int]]:
        return _readable(self._given)

    @cached_property
    def _known(self) -> Float[np.ndarray, "words dim"]:
        return _unit(_means(_readable(sorted(self.words)).values()))

    def unknown_words(self, prompt: str) -> list[str]:
        """The prompt's words whose best cosine with any known word is under 0.45. Raises PromptError as `normalise`.

        Words that mean little alone are left out, unless not one word of the prompt is known.
        """
        words = normalise(prompt).split()
        # The words of most prompts are known, and then no vectors are looked at.
        if not self.words or self.words.issuperset(words):
            return []
        vectors = _means(map(token_ids, words))
        strange = (_unit(vectors) @ self._known.T).max(1) < KIN
        if strange.all():
            return words
        salient = [np.linalg.norm(vector) >= SALIENT for vector in vectors]
        return [word for word, odd, says in zip(words, strange, salient, strict=True) if odd and says]

    def nearest(self, prompt: str, count: int = 3) -> list[str]:
        """The known captions whose mean embedding lies nearest to the prompt's, nearest first."""
        if not self.captions:
            return []
        vectors = _unit(_means(self._caption_ids.values()))
        order = np.argsort(-(vectors @ _unit(_means([token_ids(prompt)]))[0]), kind="stable")
        return [self.captions[i] for i in order[:count]]

    def note(self, prompt: str) -> str | None:
        """One sentence where the prompt holds unknown words, else None."""
        unknown = self.unknown_words(prompt)
        if not unknown:
            return None
        words = dict.fromkeys(unknown)
        listed = ", ".join(f'"{word}"' for word in words) + (" is" if len(words) == 1 else " are")
        nearest = ", ".join(self.nearest(prompt))
        return f"{listed} unlike anything this model was trained on, so expect something else" + (
            f"; nearest captions: {nearest}" if nearest else ""
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


def _readable(texts: Iterable[str]) -> dict[str, list[int]]:
    """Those of the texts that can be prompts, with their tokens."""
    found = {}
    for text in texts:
        with suppress(PromptError):
            found[text] = token_ids(text)
    return found


def _words(caption: str) -> list[str]:
    try:
        return normalise(caption).split()
    except PromptError:
        return []


def _means(texts: Iterable[Sequence[int]]) -> Float[np.ndarray, "texts dim"]:
    """The mean embedding of each text, given as tokens."""
    ids = list(texts)
    if not ids:
        return np.zeros((0, token_table().shape[1]), np.float32)
    rows = token_table()[np.concatenate(ids)].astype(np.float32)
    starts = np.cumsum([0, *map(len, ids[:-1])])
    return np.add.reduceat(rows, starts, axis=0) / np.array([[len(row)] for row in ids], np.float32)


def _unit(vectors: Float[np.ndarray, "*n dim"]) -> Float[np.ndarray, "*n dim"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
