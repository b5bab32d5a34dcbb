"""How good is a model? Real clips, real ones through the model, and what it makes, under the same measures.

The model is asked for what it can do (see `evaluable`) and nothing else, and clips are compared in one `Domain`; so a
codec alone, a prior over pictures and a model of sounds take the same way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error
from cymatic.evaluation.accuracy import Accuracy, failing, labels_of
from cymatic.evaluation.captions import balanced, by_caption
from cymatic.evaluation.code_use import CodeUse, through_codec
from cymatic.evaluation.corpus import Clips, Corpus, OnClip
from cymatic.evaluation.distributions import FEW, Distances, compared
from cymatic.evaluation.diversity import diversities
from cymatic.evaluation.domain import Domain, Losses
from cymatic.evaluation.evaluable import Draws, HasCodec, HasLatent, HasLikelihood, HasLoss, Named, Reconstructs
from cymatic.evaluation.generation import TAKES, beside, check_corpus, check_count, generate, make_until, plan
from cymatic.evaluation.intervals import Estimate, bootstrap
from cymatic.evaluation.likelihood import (
    CaptionSensitivity,
    LatentUse,
    Likelihood,
    caption_sensitivity,
    latent_use,
    likelihood,
)
from cymatic.evaluation.neighbours import Neighbours, neighbours
from cymatic.evaluation.questions import Recogniser, Truth, meant, tried

REAL, THROUGH, MADE = "real", "real through the model", "generated"
SHOWN = 8  # captions on the page
MOST_REFERENCE = 3000  # training clips of the captions asked for that generated clips are compared with
SENSED = 32  # clips whose loss is taken with wrong captions
TRIED = 20  # fewer held out don't try a probe: then the clips that it learned from do, each left out in turn
FEWEST_HELD_OUT = 10  # that tell the usual distance to training clips where time is short
AGAIN = 12  # clips that failed and are made again with more guidance


@dataclass(frozen=True)
class Trial:
    """Clips that failed, made again with a stronger guidance: how many of `clips` were then answered rightly."""

    before: float
    guidance: float
    right: int
    clips: int


@dataclass(frozen=True)
class Shown:
    """One caption: a held-out clip, the same through the model, and a clip generated."""

    caption: str
    real: Any | None
    through: Any | None
    made: Any | None


@dataclass
class Evaluation:
    """Every measure, with `missing` saying why one is not there.

    tried_on: which real clips `accuracy` is of.
    """

    asked: dict[str, int]  # caption -> how many were generated
    seeds: tuple[int, int] | None
    held_out: int  # clips held out that stand beside what is generated
    reference: int  # training clips of the same captions
    reconstruction: dict[str, Losses] = field(default_factory=dict)
    codes: dict[str, CodeUse] = field(default_factory=dict)
    likelihood: Likelihood | None = None
    latent: LatentUse | None = None
    caption_sensitivity: CaptionSensitivity | None = None
    accuracy: dict[str, dict[str, Accuracy]] = field(default_factory=dict)
    tried_on: str = "held out"
    distances: dict[str, Distances] = field(default_factory=dict)
    neighbours: dict[str, Neighbours] = field(default_factory=dict)
    diversity: dict[str, Estimate] = field(default_factory=dict)
    trial: Trial | None = None
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)


def check_labels(recogniser: Recogniser, name: str, corpus: Corpus) -> Truth:
    """For each question what the captions answer. Raises Error for a classifier of other labels than the clips'."""
    truth = recogniser.truth((corpus.train, corpus.valid))
    if not truth:
        labels = "; ".join(f'"{name}": {", ".join(some[:3])}, ...' for name, some in recogniser.labels.items())
        raise Error(
            f"the classifier {name} knows other labels ({labels}) than the clips of {', '.join(corpus.names)} have "
            f'(such as "{corpus.train.captions[0]}"); train one for them with cymatic classifier train, or give none'
        )
    return truth


def evaluate(
    model: Named,
    corpus: Corpus,
    recogniser: Recogniser | None,
    domain: Domain,
    *,
    n: int = 100,
    seed: int = 0,
    name: str = "the classifier",
    until: float | None = None,
    most_shown: int = SHOWN,
    say: Callable[[str], None] = lambda line: None,
    on_clip: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Evaluation:
    """All measures of `model` on `n` clips generated with its defaults, no selection.

    Captions are asked for as `plan` says, take i with seed + i. The recogniser must not have learned from what is held
    out. until: a time (of `time.monotonic`) about which it ends: then fewer clips are made where that is needed, what
    takes hundreds of clips is left out, and captions that fail are tried with more guidance. most_shown: captions of
    which a clip each is kept to be shown. on_clip: told what is done
    to clips, with how many, and how many there are.

    Raises Error as `check_count`, `check_corpus`, `check_labels` and the model do.
    """
    check_count(n)
    made, asked, found = Clips([], [], []), dict[str, int](), Evaluation({}, None, 0, 0, missing={**domain.missing})
    truth = check_labels(recogniser, name, corpus) if recogniser is not None else {}
    if isinstance(model, HasLoss):
        _sense(model, corpus, domain, found)
    if recogniser is not None and until is not None:
        _try_real(recogniser, truth, corpus.valid, domain, found)
    if domain.can_make(model):
        # Captions that nothing is known to answer tell little, and those held out can be compared with something new.
        answered = {caption for column in truth.values() for caption in column}
        tested = set(corpus.valid.captions)

        def rank(caption: str) -> tuple[bool, bool]:
            return bool(answered) and caption not in answered, caption not in tested

        asked = plan(check_corpus(model, corpus), rank, n, seed, takes=1 if until is not None else TAKES)
        say(f"generating {n} {domain.nouns} of {len(asked)} captions")
        made = generate(model, domain, asked, seed, until, partial(on_clip, "generating"))
        found.seeds = (seed, seed + max(asked.values()) - 1)
    else:
        for what in ("generated", "distances", "neighbours", "diversity"):
            found.missing[what] = f"{model.name} makes no {domain.nouns} of its own"
    rows = [row for row, caption in enumerate(corpus.train.captions) if caption in asked]
    reference = corpus.train.at(rows)
    reference = reference.at(balanced(reference.captions, MOST_REFERENCE))
    held = beside(corpus.valid, asked) if asked else corpus.valid
    found.asked, found.held_out, found.reference = asked, len(held), len(reference)
    sets = {REAL: held, MADE: made}
    if until is None:
        say(f"passing {len(held)} held-out {domain.nouns} through the model")
        through = _through(model, held, domain, found, partial(on_clip, f"passing {domain.nouns} through the model"))
        sets = {REAL: held, THROUGH: held if through is None else through, MADE: made}
        _inside(model, corpus, domain, found)
        if not len(held):
            found.missing["reconstruction"] = f"no {domain.noun} of these captions is held out"
    if recogniser is None:
        found.missing["accuracy"] = found.missing["distances"] = "there is no classifier"
    elif until is not None:
        if len(made) and (answered_made := tried(recogniser, made, truth)):
            found.accuracy[MADE] = answered_made
    else:
        say("classifying")
        _classify(recogniser, truth, corpus, domain, sets, reference, found)
    if len(made):
        _near(corpus, recogniser if until is None else None, domain, sets, reference, until, found)
    if recogniser is not None and until is not None:
        found.trial = _again(model, recogniser, truth, made, domain, asked, seed, until, found)
    found.shown = _shown(sets, most_shown)
    return found


def _sense(model: HasLoss, corpus: Corpus, domain: Domain, found: Evaluation) -> None:
    for clips in (corpus.valid, corpus.train) if len(corpus.valid) >= FEWEST_HELD_OUT else (corpus.train,):
        some = clips.at(balanced(clips.captions, SENSED))
        try:
            targets = [domain.target(model, value) for value in some.values]
            found.caption_sensitivity = caption_sensitivity(model, targets, some.captions)
        except Error as error:  # a clip held out may be longer than any trained on, or of an unknown class
            found.missing["caption_sensitivity"] = str(error)
            continue
        if found.caption_sensitivity is None:
            found.missing["caption_sensitivity"] = f"all {domain.nouns} have one caption"
        else:
            found.missing.pop("caption_sensitivity", None)
        return


def _through(model: Named, held: Clips, domain: Domain, found: Evaluation, on_clip: OnClip) -> Clips | None:
    """The held-out clips through the whole model, and what each way loses; None where nothing can pass through."""
    if not isinstance(model, Reconstructs):
        found.missing["reconstruction"] = f"no {domain.noun} can pass through this model"
        return None
    each: list[Mapping[str, Any]] = []
    for value in held.values:
        on_clip(len(each), len(held))
        each.append(model.reconstructions(value))
    for way in each[0] if each else ():
        if domain.losses is not None:
            found.reconstruction[way] = domain.losses(held.values, [one[way] for one in each])
    return replace(held, values=[list(one.values())[-1] for one in each])


def _inside(model: Named, corpus: Corpus, domain: Domain, found: Evaluation) -> None:
    """What only a model with a codec, a likelihood or a latent has."""
    valid = corpus.valid
    if not isinstance(model, HasCodec) or model.codec is None:
        found.missing["codes"] = "this model has no codec"
    elif not len(valid):
        found.missing["codes"] = f"no {domain.noun} is held out"
    else:
        lost, found.codes = through_codec(model, valid.values, valid.captions, domain)
        found.reconstruction["codec"] = {**found.reconstruction.get("codec", {}), **lost}
        if not found.codes:
            found.missing["codes"] = "its codec gives no codes"
    if not isinstance(model, HasLikelihood) or not isinstance(model, HasCodec) or model.codec is None:
        found.missing["likelihood"] = "its prior gives no likelihood of codes"
    elif not len(valid):
        found.missing["likelihood"] = f"no {domain.noun} is held out"
    elif (measured := likelihood(model, valid, model.codec.sizes)) is None:
        found.missing["likelihood"] = f"all {domain.nouns} held out are longer than any that its prior knows"
    else:
        found.likelihood = measured
    if isinstance(model, HasLatent) and isinstance(model, HasCodec) and model.codec is not None:
        found.latent = latent_use(model, valid)


def _try_real(recogniser: Recogniser, truth: Truth, valid: Clips, domain: Domain, found: Evaluation) -> None:
    """How right it is about real clips that it did not learn from."""
    held = tried(recogniser, valid, truth)
    fewest = min((one.right.n for one in held.values()), default=0)
    if fewest < TRIED and (left := recogniser.left_out()) is not None:
        held, found.tried_on = left, f"training {domain.nouns}, each left out in turn"
    if held:
        found.accuracy[REAL] = held


def _classify(
    recogniser: Recogniser,
    truth: Truth,
    corpus: Corpus,
    domain: Domain,
    sets: Mapping[str, Clips],
    reference: Clips,
    found: Evaluation,
) -> None:
    # Of real clips all that are held out: more clips, a narrower interval.
    _try_real(recogniser, truth, corpus.valid, domain, found)
    for what in (THROUGH, MADE):
        if answered := tried(recogniser, sets[what], truth):
            found.accuracy[what] = answered
    if REAL not in found.accuracy:
        found.notes.append(
            f"no {domain.noun} is held out, so nobody knows how good the classifier is; believe it little"
        )
    for question, one in found.accuracy.get(REAL, {}).items():
        if one.weak:
            found.notes.append(
                f'the classifier is too weak to be believed about "{question}": it is right about '
                f"{one.right.value:.0%} of {one.right.n} real {domain.nouns} (guessing gives {one.chance:.0%})"
            )
    if not len(sets[MADE]):
        return
    if len(reference) < FEW:
        found.missing["distances"] = f"fewer than two training {domain.nouns} have these captions"
        return
    found.distances = compared(recogniser, sets, reference)
    if MADE not in found.distances:
        found.missing["distances"] = f"fewer than two {domain.nouns} are compared"
    elif sets[REAL] and len(sets[REAL]) < 0.9 * len(sets[MADE]):
        found.notes.append(
            f"{len(sets[REAL])} held-out {domain.nouns} stand beside {len(sets[MADE])} generated ones, and fewer make "
            "a Fréchet distance larger; compare kernel distances, or take a smaller --n"
        )


def _near(
    corpus: Corpus,
    recogniser: Recogniser | None,
    domain: Domain,
    sets: Mapping[str, Clips],
    reference: Clips,
    until: float | None,
    found: Evaluation,
) -> None:
    """Memory and variety, by outlines and by the classifier's embedding."""
    made, held = sets[MADE], sets.get(THROUGH, corpus.valid)
    if len(set(reference.captions)) > len(reference) / 2:  # hardly any caption has two clips, so others count, too
        captions, asked = corpus.train.captions, set(made.captions)
        rows = {row for row, caption in enumerate(captions) if caption in asked}
        reference = corpus.train.at(sorted(rows.union(balanced(captions, MOST_REFERENCE // 2))))
    kinds: dict[str, Callable[[Sequence[Any]], Float[np.ndarray, "clips dim"]]] = {domain.name: domain.outlines}
    if recogniser is not None:
        kinds["classifier"] = recogniser.embedding
    for kind, features in kinds.items():
        trained, generated = features(reference.values), features(made.values)
        heldout = features(held.values) if len(held) else trained[:0]
        near = neighbours(
            generated, made.captions, heldout, held.captions, trained, reference.captions,
            fewest=1 if until is None else FEWEST_HELD_OUT, nouns=domain.nouns,
        )  # fmt: skip
        if near is not None:
            found.neighbours[kind] = near
        ratios = diversities(generated, made.captions, trained, reference.captions)
        if ratios:
            found.diversity[kind] = bootstrap(np.mean, np.array(list(ratios.values())))
    if not found.neighbours:
        found.missing["neighbours"] = f"too few real {domain.nouns} of these captions to compare with"
    if not found.diversity:
        found.missing["diversity"] = f"no caption has two generated and two training {domain.nouns}"


def _again(
    model: Named,
    recogniser: Recogniser,
    truth: Truth,
    made: Clips,
    domain: Domain,
    asked: Mapping[str, int],
    seed: int,
    until: float,
    found: Evaluation,
) -> Trial | None:
    """What failed, made again from the same seeds at twice the guidance, where there is time and room for that."""
    if not isinstance(model, Draws) or not domain.targets or not {REAL, MADE} <= found.accuracy.keys():
        return None
    before = model.guidance
    guidance = min(2 * max(before, 1.0), 8.0)
    missed: list[tuple[str, int]] = []
    wanted = meant(recogniser.labels, made, truth)
    answered = recogniser.answers(made.values)
    for question, real in found.accuracy[REAL].items():
        if real.weak or question not in found.accuracy[MADE]:
            continue
        fails = set(failing(real, found.accuracy[MADE][question]))
        takes: dict[str, int] = {}
        for caption, want, got in zip(made.captions, wanted[question], answered[question], strict=True):
            take = takes[caption] = takes.get(caption, -1) + 1
            if want is not None and want != got and fails & labels_of(want):
                missed.append((caption, seed + take))
    missed = missed[:AGAIN]
    if guidance <= before or not missed or time.monotonic() >= until:
        return None
    again = make_until(until, model, domain, missed, guidance)
    wanted, answered = meant(recogniser.labels, again, truth), recogniser.answers(again.values)
    right = sum(all(wanted[one][i] in (None, answered[one][i]) for one in wanted) for i in range(len(again)))
    return Trial(before, guidance, right, len(again))


def _shown(sets: Mapping[str, Clips], most: int) -> list[Shown]:
    first = {what: {c: rows[0] for c, rows in by_caption(some.captions).items()} for what, some in sets.items()}
    captions = sorted(first[MADE] or first[REAL], key=lambda caption: (caption not in first[REAL], caption))
    step = max(1, len(captions) // most)

    def one(what: str, caption: str) -> Any | None:
        row = first.get(what, {}).get(caption)
        return sets[what].values[row] if row is not None else None

    return [
        Shown(caption, *(one(what, caption) for what in (REAL, THROUGH, MADE))) for caption in captions[::step][:most]
    ]
