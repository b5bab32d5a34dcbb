"""Values of any medium under an evaluation, compared by the outlines that the medium gives."""

from __future__ import annotations

from typing import Any

from cymatic.data.cache import Cache
from cymatic.data.facts import facts_of, say_trouble
from cymatic.data.folder import Item
from cymatic.data.packs import Sources
from cymatic.data.settings import Pack
from cymatic.evaluation.corpus import Corpus, OnClip, read_corpus, silently
from cymatic.evaluation.domain import Domain
from cymatic.media.medium import Medium
from cymatic.signal.spec import Spec


def read_values(sources: Sources, medium: Medium[Any], *, seed: int = 0, on_clip: OnClip = silently) -> Corpus:
    """`read_corpus` of files of `medium`; what is blank is left out."""
    cache = Cache()

    def read(item: Item, pack: Pack) -> Any:
        path = item.path(medium.name)
        facts, value = facts_of(item, cache, role=medium.name, medium=medium)
        if facts.empty:
            return f"{path} is empty"
        return medium.read(path) if value is None else value

    corpus = read_corpus(sources, read, seed=seed, on_clip=on_clip)
    say_trouble(cache)
    return corpus


def values_of(medium: Medium[Any]) -> Domain:
    """Values of `medium`, compared by their outlines."""
    return Domain("outline", medium.outline, restored=lambda value: value, noun=medium.noun, nouns=medium.nouns)


def targets_of(medium: Medium[Any], spec: Spec) -> Domain:
    """Targets that are values of `medium` once they are restored, compared by the outlines of these."""

    def restored(target: Any) -> Any:
        return medium.restore(target, spec, {})

    return Domain(
        "outline", lambda target: medium.outline(restored(target)), targets=True, restored=restored,
        noun=medium.noun, nouns=medium.nouns,
    )  # fmt: skip
