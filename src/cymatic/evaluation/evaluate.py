"""How good is a model? Real recordings, real ones through the model, and what it makes, under the same measures."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cymatic.errors import Error, Note
from cymatic.evaluation.accuracy import Accuracy
from cymatic.evaluation.classifiers import Classifier
from cymatic.evaluation.divergence import divergences
from cymatic.evaluation.diversity import by_caption, diversities
from cymatic.evaluation.evaluable import Evaluable, HasCodec, HasLatent, HasLikelihood
from cymatic.evaluation.folder_classifier import tried, truths
from cymatic.evaluation.frechet import frechet_estimate
from cymatic.evaluation.intervals import Estimate, bootstrap, share
from cymatic.evaluation.kernel import kernel_estimate
from cymatic.evaluation.manifold import NEAREST, inside
from cymatic.evaluation.neighbours import mel_features, nearest
from cymatic.evaluation.reconstruct import (
    CodeUse,
    LatentUse,
    Likelihood,
    Losses,
    code_use,
    latent_use,
    likelihood,
    reconstructed,
)
from cymatic.evaluation.reconstruction import MISSING_STOI, has_stoi
from cymatic.evaluation.recordings import Corpus, Recordings, balanced, readable
from cymatic.media.sound import Sound

MOST = 10_000  # clips
TAKES = 2  # of each caption, as long as there are enough clips for that: one alone tells no diversity
REAL, THROUGH, MADE = "real", "real through the model", "generated"
SHOWN = 8  # captions on the page
FEW = 2  # clips: of fewer no distance can be told


@dataclass(frozen=True)
class Distances:
    """How far a set of clips lies from the training clips of its captions, in a judge's embedding.

    mkl: for each question the mean divergence of the judge's answers. precision: the share that lies among as many
    training clips; recall: the share of those that lies among this set.
    """

    clips: int
    frechet: Estimate
    kernel: Estimate
    mkl: dict[str, Estimate]
    precision: Estimate | None
    recall: Estimate | None


@dataclass(frozen=True)
class Near:
    """Middle distances to the nearest training clip of the same caption: of generated clips, of held-out ones through
    the model, and the first over the second; the share of generated clips nearer than the 1st percentile of the others.
    """

    generated: float
    held_out: float
    ratio: Estimate
    nearer: Estimate


@dataclass(frozen=True)
class Shown:
    """One caption: a held-out recording, the same through the model, and a clip generated."""

    caption: str
    real: Sound | None
    through: Sound | None
    made: Sound


@dataclass
class Evaluation:
    """Every measure, with `missing` saying why one is not there."""

    asked: dict[str, int]  # caption -> how many were generated
    seeds: tuple[int, int]
    held_out: int  # clips held out that stand beside what is generated
    reference: int  # training clips of the same captions
    reconstruction: dict[str, Losses] = field(default_factory=dict)
    codes: CodeUse | None = None
    likelihood: Likelihood | None = None
    latent: LatentUse | None = None
    judged: dict[str, dict[str, Accuracy]] = field(default_factory=dict)
    distances: dict[str, Distances] = field(default_factory=dict)
    neighbours: dict[str, Near] = field(default_factory=dict)
    diversity: dict[str, Estimate] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)


def check_count(n: int) -> None:
    """Raises Error for a number of clips that can't be generated."""
    if not 1 <= n <= MOST:
        raise Error(f"{n} clips were asked for; give a number from 1 to {MOST}, with --n 100, say")


def check_corpus(model: Evaluable, corpus: Corpus) -> list[str]:
    """The captions that may be asked for, of those the clips have. Raises Error where the model knows none of them."""
    there = sorted(set(corpus.train.captions))
    known = {spelt for caption in model.captions if (spelt := readable(caption)) is not None}
    usable = [caption for caption in there if caption in known] if known else there
    if not usable:
        where = ", ".join(corpus.names)
        raise Error(
            f'{model.name} knows none of the {len(there)} captions of {where} (such as "{there[0]}"; it knows '
            f'"{min(known)}" and {len(known) - 1} more); give the folder that it was trained on, with --data'
        )
    return usable


def check_judge(classifier: Classifier, name: str, model: Evaluable, corpus: Corpus) -> dict[str, dict[str, str]]:
    """For each question what the captions answer. Raises Error for a judge of a higher rate or of other labels."""
    if classifier.rate > model.rate:
        raise Error(
            f"the judge {name} hears up to {classifier.rate} Hz and {model.name} makes sounds of {model.rate} Hz, which it "
            f"never learned to hear; give a judge of at most {model.rate} Hz, or none"
        )
    truth = truths(classifier.config.labels, (corpus.train, corpus.valid))
    if not truth:
        labels = "; ".join(f'"{name}": {", ".join(some[:3])}, ...' for name, some in classifier.config.labels.items())
        raise Error(
            f"the judge {name} knows other labels ({labels}) than the clips of {', '.join(corpus.names)} have "
            f'(such as "{corpus.train.captions[0]}"); train one for them with cymatic judge train, or give none'
        )
    return truth


def evaluate(
    model: Evaluable,
    corpus: Corpus,
    classifier: Classifier | None,
    *,
    n: int = 100,
    seed: int = 0,
    name: str = "the judge",
    say: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """All measures of `model` on `n` clips generated with its defaults, no selection; `corpus` is at the model's rate.

    Captions are asked for as `plan` says, take i with seed + i. The judge must not have heard what is held out. Raises
    Error as `check_count`, `check_corpus`, `check_judge` and the model do.
    """
    check_count(n)
    asked = plan(check_corpus(model, corpus), corpus.valid.captions, n, seed)
    truth = check_judge(classifier, name, model, corpus) if classifier is not None else {}
    reference = corpus.train.at([i for i, caption in enumerate(corpus.train.captions) if caption in asked])
    held = beside(corpus.valid, asked)
    found = Evaluation(asked, (seed, seed + max(asked.values()) - 1), len(held), len(reference))
    say(f"generating {n} clips of {len(asked)} captions")
    made = generate(model, asked, seed)
    say(f"passing {len(held)} held-out clips through the model")
    through, found.reconstruction = reconstructed(model, held.sounds)
    if not has_stoi():
        found.missing["stoi"] = MISSING_STOI
    sets = {REAL: held, THROUGH: replace(held, sounds=through), MADE: made}
    _inside(model, corpus, found)
    if not len(held):
        found.missing["reconstruction"] = "no clip of these captions is held out"
    if classifier is None:
        for what in ("judged", "distances"):
            found.missing[what] = "there is no judge"
    else:
        say("judging")
        _judge(classifier, truth, corpus, sets, reference, found)
    _near(model, classifier, sets, reference, found)
    found.shown = _shown(sets)
    return found


def plan(captions: Sequence[str], held_out: Sequence[str], n: int, seed: int) -> dict[str, int]:
    """How often each caption is asked for: evenly, two takes of each at least; where there are more captions than that
    allows some of them, drawn by the seed, those first of which clips are held out."""
    chance = np.random.default_rng(seed)
    tested = set(held_out)
    order = [captions[i] for i in chance.permutation(len(captions))]
    order.sort(key=lambda caption: caption not in tested)
    chosen = sorted(order[: max(1, n // TAKES)])
    return {caption: n // len(chosen) + (i < n % len(chosen)) for i, caption in enumerate(chosen)}


def beside(recordings: Recordings, asked: Mapping[str, int]) -> Recordings:
    """As many recordings of each caption as are asked for, where there are that many."""
    rows = [row for caption, every in by_caption(recordings.captions).items() for row in every[: asked.get(caption, 0)]]
    return recordings.at(sorted(rows))


def generate(model: Evaluable, asked: Mapping[str, int], seed: int) -> Recordings:
    """What the model makes of each caption as often as asked."""
    sounds: list[Sound] = []
    captions: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Note)  # that a caption is new to the model would be said of each
        for caption, takes in asked.items():
            sounds += model(caption, seed=seed, n=takes)
            captions += [caption] * takes
    return Recordings([sound.mono() for sound in sounds], captions, [{} for _ in captions])


def _inside(model: Evaluable, corpus: Corpus, found: Evaluation) -> None:
    """What only a model of codes has."""
    if not isinstance(model, HasCodec):
        found.missing["codes"] = "this model has no codec"
    else:
        found.codes = code_use(model.codec, model.mel, corpus.valid.sounds, corpus.valid.captions)
    if not isinstance(model, HasLikelihood) or not isinstance(model, HasCodec):
        found.missing["likelihood"] = "its prior gives no likelihood of codes"
    else:
        found.likelihood = likelihood(model, corpus.valid.sounds, corpus.valid.captions, model.codec.size)
        if found.likelihood is None:
            found.missing["likelihood"] = "all clips held out are longer than any that its prior knows"
    if isinstance(model, HasLatent):
        found.latent = latent_use(model, corpus.valid.sounds, corpus.valid.captions)
    if not len(corpus.valid):
        for what in {"codes", "likelihood"} - set(found.missing):
            found.missing[what] = "no clip is held out"


def _judge(
    classifier: Classifier,
    truth: Mapping[str, Mapping[str, str]],
    corpus: Corpus,
    sets: Mapping[str, Recordings],
    reference: Recordings,
    found: Evaluation,
) -> None:
    # The judge's own accuracy on all that is held out: more clips, a narrower interval.
    for what, some in {REAL: corpus.valid, THROUGH: sets[THROUGH], MADE: sets[MADE]}.items():
        if heard := tried(classifier, some, truth):
            found.judged[what] = heard
    if REAL not in found.judged:
        found.notes.append("no clip is held out, so nobody knows how well the judge hears; believe it little")
    for question, one in found.judged.get(REAL, {}).items():
        if one.weak:
            found.notes.append(
                f'the judge is too weak to be believed about "{question}": it hears {one.right.value:.0%} of '
                f"{one.right.n} real clips rightly (guessing gives {one.chance:.0%})"
            )
    if len(reference) < FEW:
        found.missing["distances"] = "fewer than two training clips have these captions"
        return
    real, chances = classifier.embed(reference.sounds).numpy(), classifier.chances(reference.sounds)
    for what, some in sets.items():
        if len(some) < FEW:
            continue
        embedded, own = classifier.embed(some.sounds).numpy(), classifier.chances(some.sounds)
        mkl = {
            question: bootstrap(
                np.mean,
                divergences(own[question].numpy(), some.captions, chances[question].numpy(), reference.captions),
            )
            for question in own
        }
        precision, recall = _among(embedded, real[balanced(reference.captions, len(some))])
        both = (embedded, some.captions, real, reference.captions)
        found.distances[what] = Distances(
            len(some), frechet_estimate(*both), kernel_estimate(*both), mkl, precision, recall
        )
    if MADE not in found.distances:
        found.missing["distances"] = "fewer than two clips are compared"
    elif sets[REAL] and len(sets[REAL]) < 0.9 * len(sets[MADE]):
        found.notes.append(
            f"{len(sets[REAL])} held-out clips stand beside {len(sets[MADE])} generated ones, and fewer clips make a "
            "Fréchet distance larger; compare kernel distances, or take a smaller --n"
        )


def _among(clips: np.ndarray, real: np.ndarray) -> tuple[Estimate | None, Estimate | None]:
    if min(len(clips), len(real)) <= NEAREST:
        return None, None
    return tuple(share(int(row.sum()), len(row)) for row in (inside(clips, real), inside(real, clips)))  # type: ignore[return-value]


def _near(
    model: Evaluable,
    classifier: Classifier | None,
    sets: Mapping[str, Recordings],
    reference: Recordings,
    found: Evaluation,
) -> None:
    """Memory and variety, by mels and by the judge's embedding."""
    kinds: dict[str, Callable[[Sequence[Sound]], np.ndarray]] = {"mel": lambda some: mel_features(some, model.mel)}
    if classifier is not None:
        kinds["judge"] = lambda some: classifier.embed(some).numpy()
    made, held = sets[MADE], sets[THROUGH]
    for kind, features in kinds.items():
        trained, generated = features(reference.sounds), features(made.sounds)
        if len(held):
            to_train = nearest(generated, made.captions, trained, reference.captions)
            usual = nearest(features(held.sounds), held.captions, trained, reference.captions)
            found.neighbours[kind] = Near(
                float(np.median(to_train)),
                float(np.median(usual)),
                bootstrap(lambda a, b: np.median(a) / max(float(np.median(b)), 1e-12), to_train, usual),
                share(int((to_train < np.percentile(usual, 1)).sum()), len(to_train)),
            )
        ratios = diversities(generated, made.captions, trained, reference.captions)
        if ratios:
            found.diversity[kind] = bootstrap(np.mean, np.array(list(ratios.values())))
    if not len(held):
        found.missing["neighbours"] = "no clip of these captions is held out"
    if not found.diversity:
        found.missing["diversity"] = "no caption has two generated and two training clips"


def _shown(sets: Mapping[str, Recordings]) -> list[Shown]:
    first = {what: {c: rows[0] for c, rows in by_caption(some.captions).items()} for what, some in sets.items()}
    captions = sorted(first[MADE], key=lambda caption: (caption not in first[REAL], caption))
    step = max(1, len(captions) // SHOWN)
    chosen = captions[::step][:SHOWN]

    def one(what: str, caption: str) -> Sound | None:
        row = first[what].get(caption)
        return sets[what].sounds[row] if row is not None else None

    return [
        Shown(caption, one(REAL, caption), one(THROUGH, caption), sets[MADE].sounds[first[MADE][caption]])
        for caption in chosen
    ]
