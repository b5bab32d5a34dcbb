"""Evaluations of stand-in models whose faults are known, so that each measure must find them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cymatic.evaluation.recordings import Recordings, balanced, plain, read_corpus
from tests.helpers import tone, tone_folder

from cymatic.data.mels import prepare
from cymatic.errors import Error
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
from cymatic.evaluation.evaluable import Evaluable, HasCodec, HasLikelihood
from cymatic.evaluation.evaluate import MADE, REAL, THROUGH, check_corpus, check_judge, evaluate, plan
from cymatic.evaluation.folder_classifier import asked, judge_rate, sources_of, train_on, tried, truths
from cymatic.media.sound import Sound
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["voice-8k"]
PITCH = {"low tone": 220, "high tone": 880}


class StandIn:
    """Makes tones of its captions, each take another; `copies`: always the same; `swapped`: the wrong ones."""

    name, sha256, rate, mel, captions = "stand-in", "0" * 64, 8000, SPEC, tuple(PITCH)

    def __init__(self, *, copies: bool = False, swapped: bool = False) -> None:
        self.copies, self.swapped = copies, swapped

    def __call__(self, prompt: str, *, seed: int, n: int) -> list[Sound]:
        hz = PITCH[prompt] if not self.swapped else 1100 - PITCH[prompt]
        takes = [0] * n if self.copies else range(seed, seed + n)
        return [tone(hz * (1 + 0.01 * (take % 5)), 0.25 + 0.03 * (take % 4), seed=100 + take) for take in takes]

    def revocode(self, sound: Sound) -> Sound:
        return prepare(sound, SPEC)


class Coded(StandIn):
    """With a codec of 40 codes: the mean log mel of each frame, rounded; and a likelihood."""

    class codec:
        size = 40

        @staticmethod
        def encode(mel: torch.Tensor, frames: torch.Tensor | None = None) -> SimpleNamespace:
            codes = (mel.mean(1) * 2 + 30).round().long().clamp(0, 39)
            return SimpleNamespace(codes=codes[:, None], mels=mel.shape[1])

        @staticmethod
        def decode(latent: SimpleNamespace) -> torch.Tensor:
            return ((latent.codes.float() - 30) / 2).expand(-1, latent.mels, -1)

    @staticmethod
    def posterior(sound: Sound, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        mean = torch.tensor([[PITCH[prompt] / 100, 0.0]])
        return mean, torch.full_like(mean, -2.0)

    @staticmethod
    def vocoder(mel: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 1, mel.shape[2] * SPEC.hop)

    def nll(self, sound: Sound, prompt: str) -> tuple[float, int]:
        return 1.5 * len(sound), len(sound)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return read_corpus(sources_of(str(tone_folder(tmp_path_factory.mktemp("many") / "tones", takes=24))), 8000)


@pytest.fixture(scope="module")
def classifier(corpus):
    """As many steps as on any machine, since there is time for more."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cymatic.evaluation.folder_classifier.FEWEST_STEPS", 60)
        patched.setattr("cymatic.evaluation.folder_classifier.EPOCHS", 1)
        trained, steps = train_on(corpus.train, rate=8000, seconds=1e6)
    assert steps == 60
    return trained


def test_a_judge_takes_no_more_time_than_it_is_given(corpus):
    assert train_on(corpus.train, rate=8000, seconds=1e-9)[1] == 10


def test_what_an_evaluation_asks_for():
    assert isinstance(StandIn(), Evaluable) and isinstance(Coded(), HasCodec) and isinstance(Coded(), HasLikelihood)
    assert not isinstance(StandIn(), HasCodec) and not isinstance(StandIn(), HasLikelihood)


def test_a_good_model(corpus, classifier):
    found = evaluate(StandIn(), corpus, classifier, n=20)
    assert found.asked == {"high tone": 10, "low tone": 10} and found.seeds == (0, 9)
    assert found.held_out == len(corpus.valid) >= 2
    assert found.judged[MADE]["caption"].right.value == 1
    assert found.judged[REAL]["caption"].right.value == 1
    assert set(found.distances) == {REAL, THROUGH, MADE}
    for one in found.distances.values():
        assert one.frechet.value >= 0 and one.mkl["caption"].value >= 0
    assert found.reconstruction["vocoder"]["mel_l1"].value < 0.01
    assert set(found.neighbours) == {"mel", "judge"} and found.diversity["mel"].value > 0.3
    assert found.codes is None and found.likelihood is None
    assert found.missing["codes"] == "this model has no codec" and "likelihood" in found.missing
    assert [shown.caption for shown in found.shown] == ["high tone", "low tone"]


def test_a_model_that_says_the_wrong_thing_and_one_that_repeats_itself(corpus, classifier):
    good, wrong, same = (
        evaluate(one, corpus, classifier, n=16) for one in (StandIn(), StandIn(swapped=True), StandIn(copies=True))
    )
    assert wrong.judged[MADE]["caption"].right.value == 0
    assert wrong.distances[MADE].mkl["caption"].value > 5 * good.distances[MADE].mkl["caption"].value
    assert same.diversity["mel"].value == pytest.approx(0, abs=1e-6)
    assert good.diversity["mel"].value > 0.3
    assert wrong.judged[MADE]["caption"].misheard[0][2] == 8


def test_codes_and_likelihood_where_a_model_has_them(corpus):
    found = evaluate(Coded(), corpus, None, n=4)
    assert set(found.reconstruction) == {"vocoder", "codec", "codec and vocoder"}
    assert 0 < found.reconstruction["codec"]["mel_l1"].value < 5
    codes = found.codes
    assert codes.size == 40 and len(codes.counts) == 40 and codes.clips == len(corpus.valid)
    assert list(codes.counts) == sorted(codes.counts, reverse=True)
    assert codes.unused == codes.counts.count(0) and 1 <= codes.perplexity.value <= 40
    assert found.likelihood.nats_a_code.value == pytest.approx(1.5)
    assert found.likelihood.uniform == pytest.approx(math.log(40))
    # One of two numbers tells the captions apart, at their pitches' distance; the other is drawn from noise alone.
    latent, means = found.latent, [PITCH[caption] / 100 for caption in corpus.valid.captions]
    assert (latent.dim, latent.clips, latent.active) == (2, len(corpus.valid), 1)
    expected = np.mean([m * m / 2 for m in means]) + math.exp(-2) - 1 + 2
    assert latent.divergence.value == pytest.approx(expected, rel=1e-5)
    assert 0.5 < latent.mutual_information <= math.log(latent.clips)
    assert found.missing["judged"] == "there is no judge" and "distances" in found.missing


def test_one_clip_can_be_evaluated(corpus, classifier):
    found = evaluate(StandIn(), corpus, classifier, n=1)
    assert sum(found.asked.values()) == 1 and "distances" in found.missing and "diversity" in found.missing
    assert MADE in found.judged


def test_nothing_held_out(corpus, classifier):
    nothing = Recordings([], [], [])
    found = evaluate(StandIn(), type(corpus)(**{**vars(corpus), "valid": nothing}), classifier, n=8)
    assert {"reconstruction", "neighbours"} <= set(found.missing) and REAL not in found.judged
    assert MADE in found.distances and any("nobody knows how well the judge hears" in note for note in found.notes)


def test_a_weak_judge_is_named(corpus):
    torch.manual_seed(0)
    untaught = Classifier(
        ClassifierConfig(labels={"caption": ("high tone", "low tone")}, trunk=ConvTrunk(widths=(4, 8), dim=8))
    )
    found = evaluate(StandIn(), corpus, untaught.eval(), n=4)
    assert any('too weak to be believed about "caption"' in note for note in found.notes)


def test_plans():
    captions = [f"c{i}" for i in range(10)]
    assert plan(captions, [], 40, 0) == dict.fromkeys(captions, 4)
    few = plan(captions, ["c3", "c7"], 4, 0)
    assert few == {"c3": 2, "c7": 2}, "those held out come first"
    assert sum(plan(captions, [], 33, 1).values()) == 33 and plan(captions, [], 7, 1) == plan(captions, [], 7, 1)
    assert len(plan(captions, [], 1, 0)) == 1


def test_what_does_not_fit(corpus, classifier):
    stranger, slow, other = StandIn(), StandIn(), StandIn()
    stranger.captions, slow.rate = ("a", "b"), 4000
    with pytest.raises(Error, match=r'stand-in knows none of the 2 captions of .*such as "high tone"; it knows "a"'):
        check_corpus(stranger, corpus)
    with pytest.raises(Error, match="mine hears up to 8000 Hz and stand-in makes sounds of 4000 Hz"):
        check_judge(classifier, "mine", slow, corpus)
    strange = Classifier(ClassifierConfig(labels={"animal": ("cat", "dog")}, trunk=ConvTrunk(widths=(4, 8), dim=8)))
    with pytest.raises(Error, match=r"mine knows other labels .*animal.*cymatic judge train"):
        check_judge(strange, "mine", other, corpus)


def recordings(rows):
    return Recordings([tone(200)] * len(rows), [caption for caption, _ in rows], [fields for _, fields in rows])


def test_captions_answer_a_judges_questions():
    some = recordings(
        [
            ("ann says two", {"speaker": "ann", "word": "two"}),
            ("bob says one", {"speaker": "bob", "word": "one"}),
            ("a bass drum", {}),
            ("ann and bob", {}),
        ]
    )
    labels = {
        "speaker": ("ann", "bob"),
        "digit": ("one", "two"),
        "kind": ("drum", "bass drum"),
        "caption": ("ann says two",),
        "animal": ("cat", "dog"),
    }
    assert truths(labels, [some]) == {
        "speaker": {"ann says two": "ann", "bob says one": "bob"},
        "digit": {"ann says two": "two", "bob says one": "one"},
        "kind": {"a bass drum": "bass drum"},
        "caption": {"ann says two": "ann says two"},
    }


def test_a_caption_whose_fields_disagree_answers_nothing():
    some = recordings([("a door", {"room": "hall"}), ("a door", {"room": "attic"})])
    assert truths({"room": ("hall", "attic")}, [some]) == {}


def test_a_question_may_be_a_field(corpus):
    rows = [(caption, {"octave": "low" if i % 2 else "high"}) for i, caption in enumerate(["a", "b"] * 4)]
    assert asked(recordings(rows), ["octave"]) == {"octave": ["high", "low"] * 4}
    with pytest.raises(Error, match='no field "octav" to ask for; did you mean "octave"'):
        asked(recordings(rows), ["octav"])
    with pytest.raises(Error, match='1 different answers to "caption", and a judge tells two or more apart'):
        asked(recordings([("a", {})] * 4), ["caption"])
    with pytest.raises(Error, match='4 different answers to "caption", too many to learn'):
        asked(recordings([(c, {}) for c in "abcd"]), ["caption"])


def test_a_judge_is_tried_on_what_it_can_answer(corpus, classifier):
    found = tried(classifier, corpus.valid, truths(classifier.config.labels, [corpus.valid]))
    assert found["caption"].right.n == len(corpus.valid)
    assert tried(classifier, corpus.valid, {}) == {}


@pytest.mark.parametrize(("usual", "most", "rate"), [(8000, 24000, 8000), (44100, 24000, 24000), (44100, 22050, 16000)])
def test_the_rate_of_a_judge(usual, most, rate):
    assert judge_rate(usual, most) == rate


def test_balanced_and_plain():
    captions = ["a"] * 50 + ["b"] * 3
    rows = balanced(captions, 8)
    assert len(rows) == 8 and sum(row >= 50 for row in rows) == 3 and rows == sorted(rows) == balanced(captions, 8)
    assert plain({"a": (math.nan, 1 / 3), 2: None}) == {"a": [None, 0.333333], "2": None}


def test_silence_and_length_are_left_out(tmp_path):
    root = tone_folder(tmp_path / "tones", takes=6)
    Sound(np.zeros(4000), 8000).write(root / "low-tone_99.wav")
    tone(220, 12.0).write(root / "low-tone_98.wav")
    skipped = read_corpus(sources_of(str(root)), 8000).skipped
    assert (
        len(skipped) == 2 and any("silent" in one for one in skipped) and any("12.0 s long" in one for one in skipped)
    )
    cut = read_corpus(sources_of(str(root)), 8000, long="cut")
    assert max(sound.seconds for sound in cut.train.sounds + cut.valid.sounds) == pytest.approx(10.0)
