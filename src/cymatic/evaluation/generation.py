"""What a model is asked for, and what it makes of that."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from cymatic.errors import Error
from cymatic.evaluation.captions import by_caption, readable
from cymatic.evaluation.corpus import Clips, Corpus, OnClip, silently
from cymatic.evaluation.domain import Domain
from cymatic.evaluation.evaluable import Named

MOST = 10_000  # clips
TAKES = 2  # of each caption, as long as there are enough clips for that: one alone tells no diversity
AT_ONCE = 8  # clips made side by side where time is short


def check_count(n: int) -> None:
    """Raises Error for a number of clips that can't be generated."""
    if not 1 <= n <= MOST:
        raise Error(f"{n} clips were asked for; give a number from 1 to {MOST}, with --n 100, say")


def check_corpus(model: Named, corpus: Corpus) -> list[str]:
    """The captions that may be asked for, of those the clips have. Raises Error where the model knows none of them."""
    there = sorted(set(corpus.train.captions))
    known = _spelling(model)
    usable = [caption for caption in there if readable(caption) in known] if known else there
    if not usable:
        where = ", ".join(corpus.names)
        raise Error(
            f'{model.name} knows none of the {len(there)} captions of {where} (such as "{there[0]}"; it knows '
            f'"{min(known)}" and {len(known) - 1} more); give the folder that it was trained on, with --data'
        )
    return usable


def plan(
    captions: Sequence[str], rank: Callable[[str], Any], n: int, seed: int, *, takes: int = TAKES
) -> dict[str, int]:
    """How often each caption is asked for: evenly, `takes` of each at least; where there are more captions than that
    allows, those of the lowest `rank`, drawn by the seed among equals."""
    chance = np.random.default_rng(seed)
    order = sorted((captions[i] for i in chance.permutation(len(captions))), key=rank)
    chosen = sorted(order[: max(1, n // takes)])
    return {caption: n // len(chosen) + (i < n % len(chosen)) for i, caption in enumerate(chosen)}


def beside(clips: Clips, asked: Mapping[str, int]) -> Clips:
    """As many clips of each caption as are asked for, where there are that many."""
    rows = [row for caption, every in by_caption(clips.captions).items() for row in every[: asked.get(caption, 0)]]
    return clips.at(sorted(rows))


def generate(
    model: Named,
    domain: Domain,
    asked: Mapping[str, int],
    seed: int,
    until: float | None = None,
    on_clip: OnClip = silently,
) -> Clips:
    """What the model makes of each caption as often as asked, caption by caption; where time is short take by take, as
    many as can be begun in 0.7 of it, the first in any case."""
    wanted = [(caption, seed + take) for caption, takes in asked.items() for take in range(takes)]
    if until is None:
        return Clips.of(_make(model, domain, wanted, None, on_clip), [caption for caption, _ in wanted])
    wanted.sort(key=lambda one: one[1])
    now = time.monotonic()
    end = now + 0.7 * max(until - now, 0.0)
    return make_until(end, model, domain, wanted)


def make_until(
    end: float, model: Named, domain: Domain, wanted: Sequence[tuple[str, int]], guidance: float | None = None
) -> Clips:
    """A clip for each caption and seed, as many as can be begun before `end` (of `time.monotonic`), the first in any
    case, so that it shows how long one takes."""
    made: list[Any] = []
    while len(made) < len(wanted) and (not made or time.monotonic() < end):
        made += _make(model, domain, wanted[len(made) : len(made) + (AT_ONCE if made else 1)], guidance)
    return Clips.of(made, [caption for caption, _ in wanted[: len(made)]])


def _make(
    model: Named,
    domain: Domain,
    wanted: Sequence[tuple[str, int]],
    guidance: float | None,
    on_clip: OnClip = silently,
) -> list[Any]:
    spelling = _spelling(model)
    prompts = [spelling.get(readable(caption) or "", caption) for caption, _ in wanted]
    return domain.make(model, prompts, [seed for _, seed in wanted], guidance, on_clip)


def _spelling(model: Named) -> dict[str, str]:
    """The captions that the model knows, by how they read without upper case."""
    return {spelt: caption for caption in model.captions if (spelt := readable(caption)) is not None}
