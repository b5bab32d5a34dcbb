"""What every recogniser promises (`evaluation.questions.Recogniser`), held by nets and probes alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.helpers import PITCHES, tone

from cymatic.evaluation.accuracy import labels_of
from cymatic.evaluation.audio import sounds_by
from cymatic.evaluation.classifier_training import train_classifier
from cymatic.evaluation.classifiers import ClassifierConfig, ConvTrunk, RecurrentTrunk
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.domain import Domain
from cymatic.evaluation.probe import Probe
from cymatic.evaluation.questions import Recogniser, tried
from cymatic.signal.mel import PRESETS


def tones(takes: int, first: int = 0) -> Clips:
    made = [
        (tone(hz * (1 + 0.01 * take), 0.2 + 0.01 * take, seed=take), caption)
        for take in range(first, first + takes)
        for caption, hz in PITCHES.items()
    ]
    return Clips.of([sound for sound, _ in made], [caption for _, caption in made])


def vectors(takes: int, first: int = 0) -> Clips:
    """Of no medium at all: two clouds."""
    chance = np.random.default_rng(first)
    rows = [np.array([place, 0.0]) + 0.1 * chance.normal(size=2) for _ in range(takes) for place in (-1.0, 1.0)]
    return Clips.of(rows, ["left cloud", "right cloud"] * takes)


def _net(trunk: ConvTrunk | RecurrentTrunk) -> Recogniser:
    clips = tones(8)
    config = ClassifierConfig(labels={"caption": tuple(sorted(PITCHES))}, trunk=trunk)
    return train_classifier(clips.values, {"caption": clips.captions}, config, steps=60, learning_rate=1e-2)


ROWS: dict[str, tuple[Callable[[], Recogniser], Callable[..., Clips]]] = {
    "conv": (lambda: _net(ConvTrunk(widths=(4, 8, 8), dim=16, dropout=0)), tones),
    "recurrent": (lambda: _net(RecurrentTrunk(width=16, layers=1, dim=16, dropout=0)), tones),
    "probe of sounds": (lambda: Probe(tones(8), sounds_by(PRESETS["voice-8k"])), tones),
    "probe of vectors": (lambda: Probe(vectors(8), Domain("vector", lambda one: one)), vectors),
    "probe of words": (
        lambda: Probe(many(4), Domain("vector", lambda one: one)),
        lambda takes, first=0: many(takes, first),
    ),
}


def many(takes: int, first: int = 0) -> Clips:
    """More captions than are told apart as wholes: of each two words, each a place on an axis of its own."""
    chance = np.random.default_rng(first)
    places = [(a, b) for a in range(5) for b in range(5) for _ in range(takes)]
    rows = [np.array([a, b], dtype=float) + 0.05 * chance.normal(size=2) for a, b in places]
    return Clips.of(rows, [f"{'abcde'[a]} {'vwxyz'[b]}" for a, b in places])


@pytest.fixture(scope="module", params=sorted(ROWS))
def row(request: pytest.FixtureRequest) -> tuple[Recogniser, Callable[..., Clips]]:
    make, clips = ROWS[request.param]
    return make(), clips


def test_it_answers_each_question_for_each_value_with_labels_that_it_names(row) -> None:
    recogniser, clips = row
    assert isinstance(recogniser, Recogniser)
    new = clips(3, 10)
    answers = recogniser.answers(new.values)
    assert answers.keys() == recogniser.labels.keys()
    for question, column in answers.items():
        assert len(column) == len(new)
        assert all(labels_of(answer) <= set(recogniser.labels[question]) for answer in column)


def test_it_is_right_about_clips_that_it_never_met(row) -> None:
    recogniser, clips = row
    new = clips(3, 10)
    found = tried(recogniser, new, recogniser.truth((new,)))
    assert found and all(one.right.value == 1 and one.right.n == len(new) for one in found.values())


def test_an_answer_does_not_depend_on_what_else_is_asked(row) -> None:
    recogniser, clips = row
    new = clips(2, 10)
    alone = [recogniser.answers([value]) for value in new.values]
    for question, column in recogniser.answers(new.values).items():
        assert column == [one[question][0] for one in alone]


def test_embeddings_have_one_width_and_stay_near_where_clips_are(row) -> None:
    recogniser, clips = row
    new = clips(2, 10)
    embedding = recogniser.embedding(new.values)
    assert embedding.ndim == 2 and len(embedding) == len(new) and np.isfinite(embedding).all()
    assert recogniser.embedding([]).shape == (0, embedding.shape[1])
    np.testing.assert_allclose(recogniser.embedding(new.values[:1]), embedding[:1], atol=1e-4)


def test_nothing_is_asked_and_nothing_answered(row) -> None:
    recogniser, _ = row
    assert recogniser.answers([]) == {question: [] for question in recogniser.labels}


def test_what_it_knows_of_its_own_clips_is_of_its_own_questions(row) -> None:
    recogniser, _ = row
    left = recogniser.left_out()
    assert left is None or (
        left.keys() == recogniser.labels.keys() and all(one.right.value > 0.9 for one in left.values())
    )
