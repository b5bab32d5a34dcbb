"""Evaluations of stand-in models whose faults are known, so that each measure must find them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.helpers import PITCHES as PITCH
from tests.helpers import tone, tone_folder

from cymatic.data.packs import read_packs, whole_folder
from cymatic.errors import Error
from cymatic.evaluation.audio import check_rate, classifier_rate, read_sounds, sounds_by
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
from cymatic.evaluation.corpus import Clips, Corpus
from cymatic.evaluation.domain import Domain
from cymatic.evaluation.evaluable import Draws, Generates, HasCodec, HasLikelihood, HasLoss, Reconstructs
from cymatic.evaluation.evaluate import MADE, REAL, THROUGH, check_labels, evaluate
from cymatic.evaluation.folder_classifier import train_on
from cymatic.evaluation.generation import check_corpus, plan
from cymatic.evaluation.probe import Probe
from cymatic.evaluation.questions import asked, tried, truths
from cymatic.media.audio import levelled, mel_of
from cymatic.media.sound import Sound
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["voice-8k"]
SOUNDS = sounds_by(SPEC)


class StandIn:
    """Makes tones of its captions, each take another; `copies`: always the same; `swapped`: the wrong ones."""

    name, sha256, rate, captions = "stand-in", "0" * 64, 8000, tuple(PITCH)

    def __init__(self, *, copies: bool = False, swapped: bool = False) -> None:
        self.copies, self.swapped = copies, swapped

    def __call__(self, prompt: str, *, seed: int, n: int) -> list[Sound]:
        hz = PITCH[prompt] if not self.swapped else 1100 - PITCH[prompt]
        takes = [0] * n if self.copies else range(seed, seed + n)
        return [tone(hz * (1 + 0.01 * (take % 5)), 0.25 + 0.03 * (take % 4), seed=100 + take) for take in takes]

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        return {"vocoder": levelled(sound, SPEC)}


class Coded(StandIn):
    """With a codec of 40 codes: the mean log mel of each frame, rounded; and a likelihood."""

    rows = None

    class codec:
        sizes = (40,)

        @staticmethod
        def encode(mel: torch.Tensor) -> SimpleNamespace:
            codes = (mel.mean(1) * 2 + 30).round().long().clamp(0, 39)
            return SimpleNamespace(codes=codes[:, None], layout="grid", mels=mel.shape[1])

        @staticmethod
        def decode(latent: SimpleNamespace) -> torch.Tensor:
            return ((latent.codes.float() - 30) / 2).expand(-1, latent.mels, -1)

        @staticmethod
        def distance(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            return (made - wanted).abs().mean()

    def target(self, sound: Sound) -> torch.Tensor:
        return mel_of(levelled(sound, SPEC), SPEC)

    def loss(self, targets: list[torch.Tensor], captions: list[str], seed: int) -> float:
        assert len(targets) == len(captions) and all(mel.shape[0] == SPEC.mels for mel in targets)
        return 1 + 0.2 * sum(caption.startswith("high") for caption in captions) / len(captions)

    @staticmethod
    def posterior(sound: Sound, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        mean = torch.tensor([[PITCH[prompt] / 100, 0.0]])
        return mean, torch.full_like(mean, -2.0)

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        return {"vocoder": levelled(sound, SPEC), "codec and vocoder": levelled(sound, SPEC)}

    def nll(self, sound: Sound, prompt: str) -> tuple[float, int]:
        return 1.5 * len(sound), len(sound)


def sources_of(folder):
    return read_packs((whole_folder(str(folder)),), None)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return read_sounds(sources_of(tone_folder(tmp_path_factory.mktemp("many") / "tones", takes=24)), 8000)


@pytest.fixture(scope="module")
def classifier(corpus):
    """As many steps as on any machine, since there is time for more."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cymatic.evaluation.folder_classifier.FEWEST_STEPS", 60)
        patched.setattr("cymatic.evaluation.folder_classifier.EPOCHS", 1)
        trained, steps = train_on(corpus.train, rate=8000, seconds=1e6)
    assert steps == 60
    return trained


def test_a_classifier_takes_no_more_time_than_it_is_given(corpus):
    assert train_on(corpus.train, rate=8000, seconds=1e-9)[1] == 10


def test_what_an_evaluation_asks_for():
    for protocol in (Generates, Reconstructs):
        assert isinstance(StandIn(), protocol)
    for protocol in (HasCodec, HasLikelihood, HasLoss):
        assert isinstance(Coded(), protocol) and not isinstance(StandIn(), protocol)
    assert not isinstance(StandIn(), Draws)


def test_a_good_model(corpus, classifier):
    found = evaluate(StandIn(), corpus, classifier, SOUNDS, n=20)
    assert found.asked == {"high tone": 10, "low tone": 10} and found.seeds == (0, 9)
    assert found.held_out == len(corpus.valid) >= 2
    assert found.accuracy[MADE]["caption"].right.value == 1
    assert found.accuracy[REAL]["caption"].right.value == 1
    assert set(found.distances) == {REAL, THROUGH, MADE}
    for one in found.distances.values():
        assert one.frechet.value >= 0 and one.mkl["caption"].value >= 0
    assert found.reconstruction["vocoder"]["mel_l1"].value < 0.01
    assert set(found.neighbours) == {"mel", "classifier"} and found.diversity["mel"].value > 0.3
    assert found.codes == {} and found.likelihood is None
    assert found.missing["codes"] == "this model has no codec" and "likelihood" in found.missing
    assert [shown.caption for shown in found.shown] == ["high tone", "low tone"]


def test_a_probe_may_stand_where_a_classifier_does(corpus):
    found = evaluate(StandIn(), corpus, Probe(corpus.train, SOUNDS), SOUNDS, n=8)
    assert found.accuracy[MADE]["caption"].right.value == 1 and set(found.neighbours) == {"mel", "classifier"}
    assert "left out in turn" in found.tried_on, "few clips are held out"
    assert found.distances[MADE].mkl == {} and found.distances[MADE].kernel.value >= 0


def test_a_model_that_says_the_wrong_thing_and_one_that_repeats_itself(corpus, classifier):
    good, wrong, same = (
        evaluate(one, corpus, classifier, SOUNDS, n=16)
        for one in (StandIn(), StandIn(swapped=True), StandIn(copies=True))
    )
    assert wrong.accuracy[MADE]["caption"].right.value == 0
    assert wrong.distances[MADE].mkl["caption"].value > 5 * good.distances[MADE].mkl["caption"].value
    assert same.diversity["mel"].value == pytest.approx(0, abs=1e-6)
    assert good.diversity["mel"].value > 0.3
    assert wrong.accuracy[MADE]["caption"].confusions[0][2] == 8


def test_codes_and_likelihood_where_a_model_has_them(corpus):
    found = evaluate(Coded(), corpus, None, SOUNDS, n=4)
    assert set(found.reconstruction) == {"vocoder", "codec", "codec and vocoder"}
    assert 0 < found.reconstruction["codec"]["distance"].value < 5
    codes = found.codes["codes"]
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
    assert found.missing["accuracy"] == "there is no classifier" and "distances" in found.missing


def test_how_much_captions_count_is_the_rise_of_the_loss_with_others(corpus):
    low = [row for row, caption in enumerate(corpus.train.captions) if caption == "low tone"][:12]
    high = [row for row, caption in enumerate(corpus.train.captions) if caption == "high tone"][:4]
    some = Corpus.of(corpus.train.at([*low, *high]), Clips([], [], []))
    found = evaluate(Coded(), some, None, SOUNDS, n=2).caption_sensitivity
    assert (found.clips, found.right, found.wrong) == (16, pytest.approx(1.05), pytest.approx(1.15))
    assert found.rise == pytest.approx(0.1 / 1.05)


def test_one_clip_can_be_evaluated(corpus, classifier):
    found = evaluate(StandIn(), corpus, classifier, SOUNDS, n=1)
    assert sum(found.asked.values()) == 1 and "distances" in found.missing and "diversity" in found.missing
    assert MADE in found.accuracy


def test_nothing_held_out(corpus, classifier):
    found = evaluate(StandIn(), Corpus.of(corpus.train, Clips([], [], [])), classifier, SOUNDS, n=8)
    assert "reconstruction" in found.missing and REAL not in found.accuracy
    assert found.neighbours["mel"].of == f"{len(corpus.train)} training clips from each other"
    assert MADE in found.distances and any("nobody knows how good the classifier is" in note for note in found.notes)


def test_a_weak_classifier_is_named(corpus):
    torch.manual_seed(0)
    untaught = Classifier(
        ClassifierConfig(labels={"caption": ("high tone", "low tone")}, trunk=ConvTrunk(widths=(4, 8), dim=8))
    )
    found = evaluate(StandIn(), corpus, untaught.eval(), SOUNDS, n=4)
    assert any('too weak to be believed about "caption"' in note for note in found.notes)


# --- no medium in particular

SIDE = 12
VECTORS = Domain(
    "outline",
    lambda value: np.asarray(value, dtype=np.float64).reshape(-1)[: SIDE * SIDE],
    losses=None,
)


def pictures(takes: int, seed: int = 0) -> Clips:
    """A bright square to the left or to the right, float32 `[3, 12, 12]` in 0..1."""
    chance = np.random.default_rng(seed)
    values, captions = [], []
    for _ in range(takes):
        for caption, column in (("left square", 0), ("right square", 8)):
            value = 0.1 * chance.random((3, SIDE, SIDE))
            value[:, 4:8, column : column + 4] = 0.8 + 0.2 * chance.random((3, 4, 4))
            values.append(value.astype(np.float32))
            captions.append(caption)
    return Clips.of(values, captions)


class Painter:
    """Makes pictures and has a codec of blocks: four by four pixels become one of eight greys."""

    name, captions = "painter", ("left square", "right square")

    rows = None

    class codec:
        sizes = (8,)

        @staticmethod
        def encode(target: torch.Tensor) -> SimpleNamespace:
            grey = torch.nn.functional.avg_pool2d(target.mean(1, keepdim=True), 4)[:, 0]
            return SimpleNamespace(codes=(7 * grey).round().long(), layout="grid")

        @staticmethod
        def decode(latent: SimpleNamespace) -> torch.Tensor:
            large = (latent.codes / 7).repeat_interleave(4, 1).repeat_interleave(4, 2)
            return large[:, None].expand(-1, 3, -1, -1)

        @staticmethod
        def distance(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
            return (made - wanted).square().mean()

    def __call__(self, prompt: str, *, seed: int, n: int) -> list[np.ndarray]:
        column = self.captions.index(prompt)
        some = [pictures(1, 1000 + seed + i).values[column] for i in range(n)]
        return [self.reconstructions(picture)["codec"] for picture in some]

    def target(self, value: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(value)

    def reconstructions(self, value: np.ndarray) -> dict[str, np.ndarray]:
        return {"codec": self.codec.decode(self.codec.encode(self.target(value)[None]))[0].numpy()}


class BlocksAlone:
    """The codec of `Painter`, which makes nothing of its own."""

    name, captions, codec, rows = "blocks", (), Painter.codec, None
    target, reconstructions = Painter.target, Painter.reconstructions


def test_a_model_of_pictures_is_evaluated_as_one_of_sounds():
    corpus = Corpus.of(pictures(20), pictures(12, 1))
    found = evaluate(Painter(), corpus, Probe(corpus.train, VECTORS), VECTORS, n=12)
    assert found.accuracy[MADE]["caption"].right.value == found.accuracy[REAL]["caption"].right.value == 1
    assert found.tried_on == "held out"
    assert 0.5 < found.neighbours["outline"].ratio.value < 2
    assert found.diversity["outline"].value == pytest.approx(0, abs=1e-6), "one picture of a caption is all it has"
    assert found.codes["codes"].size == 8 and found.codes["codes"].perplexity.value < 4
    assert 0.001 < found.reconstruction["codec"]["distance"].value < 0.1
    assert set(found.distances) == {REAL, THROUGH, MADE} and "stoi" not in found.missing
    assert found.distances[REAL].frechet.value <= found.distances[MADE].frechet.value + 1


def test_a_codec_alone_is_measured_on_what_a_codec_does():
    corpus = Corpus.of(pictures(10), pictures(6, 1))
    found = evaluate(BlocksAlone(), corpus, Probe(corpus.train, VECTORS), VECTORS, n=12)
    assert found.codes["codes"].clips == 12 and found.reconstruction["codec"]["distance"].value < 0.1
    assert found.asked == {} and found.seeds is None and MADE not in found.accuracy
    assert found.accuracy[THROUGH]["caption"].right.value == 1, "what is left after the codec"
    for what in ("generated", "distances", "neighbours", "diversity"):
        assert found.missing[what] == "blocks makes no clips of its own"
    assert found.shown[0].real is not None and found.shown[0].through is not None and found.shown[0].made is None


def test_levels_of_codes_are_counted_one_by_one():
    class Levels:
        sizes = (4, 6)

        @staticmethod
        def encode(target: torch.Tensor) -> SimpleNamespace:
            codes = torch.stack([torch.zeros(1, 5, dtype=torch.int64), torch.arange(5)[None]], 1)
            return SimpleNamespace(codes=codes, layout="levels", target=target)

        @staticmethod
        def decode(latent: SimpleNamespace) -> torch.Tensor:
            return latent.target

        distance = staticmethod(Painter.codec.distance)

    model = BlocksAlone()
    model.codec = Levels()
    corpus = Corpus.of(pictures(4), pictures(4, 1))
    found = evaluate(model, corpus, None, VECTORS, n=4)
    assert {name: (one.size, one.unused) for name, one in found.codes.items()} == {"level 1": (4, 3), "level 2": (6, 1)}
    assert found.codes["level 1"].perplexity.value == pytest.approx(1)
    assert found.reconstruction["codec"]["distance"].value == 0


def test_a_third_medium_of_any_shape():
    chance = np.random.default_rng(0)

    def curves(takes: int) -> Clips:
        rows = [
            np.sin(np.linspace(0, turns, 30 + takes % 3) * 6) + 0.1 * chance.normal(size=30 + takes % 3)
            for _ in range(takes)
            for turns in (1.0, 2.0)
        ]
        return Clips.of(rows, ["slow wave", "fast wave"] * takes)

    class Waves:
        name, captions = "waves", ("slow wave", "fast wave")

        def __call__(self, prompt: str, *, seed: int, n: int) -> list[np.ndarray]:
            return curves(n).values[self.captions.index(prompt) :: 2]

    outline = Domain("curve", lambda curve: np.interp(np.linspace(0, 1, 16), np.linspace(0, 1, len(curve)), curve))
    corpus = Corpus.of(curves(20), curves(12))
    found = evaluate(Waves(), corpus, Probe(corpus.train, outline), outline, n=12)
    assert found.accuracy[MADE]["caption"].right.value == 1 and found.neighbours["curve"].ratio.n == 12


# --- what is asked and what does not fit


def test_plans():
    captions = [f"c{i}" for i in range(10)]

    def equal(caption):
        return 0

    assert plan(captions, equal, 40, 0) == dict.fromkeys(captions, 4)
    few = plan(captions, lambda caption: caption not in ("c3", "c7"), 4, 0)
    assert few == {"c3": 2, "c7": 2}, "those held out come first"
    assert sum(plan(captions, equal, 33, 1).values()) == 33 and plan(captions, equal, 7, 1) == plan(
        captions, equal, 7, 1
    )
    assert len(plan(captions, equal, 1, 0)) == 1
    assert plan(captions, equal, 4, 0, takes=1).keys() == plan(captions, equal, 8, 0).keys()


def test_a_model_is_asked_in_its_own_spelling(corpus):
    prompts = []

    class Shouting(StandIn):
        captions = ("LOW tone", "HIGH tone")

        def __call__(self, prompt: str, *, seed: int, n: int) -> list[Sound]:
            prompts.append(prompt)
            return super().__call__(prompt.lower(), seed=seed, n=n)

    assert evaluate(Shouting(), corpus, None, SOUNDS, n=4).asked == {"high tone": 2, "low tone": 2}
    assert prompts == ["HIGH tone", "LOW tone"]


def test_what_does_not_fit(corpus, classifier):
    stranger, slow = StandIn(), StandIn()
    stranger.captions, slow.rate = ("a", "b"), 4000
    with pytest.raises(Error, match=r'stand-in knows none of the 2 captions of .*such as "high tone"; it knows "a"'):
        check_corpus(stranger, corpus)
    with pytest.raises(Error, match="mine reads sounds of 8000 Hz and stand-in makes sounds of 4000 Hz"):
        check_rate(classifier.rate, "mine", slow)
    strange = Classifier(ClassifierConfig(labels={"animal": ("cat", "dog")}, trunk=ConvTrunk(widths=(4, 8), dim=8)))
    with pytest.raises(Error, match=r"mine knows other labels .*animal.*cymatic classifier train"):
        check_labels(strange, "mine", corpus)


def clips(rows):
    return Clips([tone(200)] * len(rows), [caption for caption, _ in rows], [fields for _, fields in rows])


def test_captions_answer_a_classifiers_questions():
    some = clips(
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
    some = clips([("a door", {"room": "hall"}), ("a door", {"room": "attic"})])
    assert truths({"room": ("hall", "attic")}, [some]) == {}


def test_a_question_may_be_a_field(corpus):
    rows = [(caption, {"octave": "low" if i % 2 else "high"}) for i, caption in enumerate(["a", "b"] * 4)]
    assert asked(clips(rows), ["octave"]) == {"octave": ["high", "low"] * 4}
    with pytest.raises(Error, match='no field "octav" to ask for; did you mean "octave"'):
        asked(clips(rows), ["octav"])
    with pytest.raises(Error, match='1 different answers to "caption", and a classifier tells two or more apart'):
        asked(clips([("a", {})] * 4), ["caption"])
    with pytest.raises(Error, match='4 different answers to "caption", too many to learn'):
        asked(clips([(c, {}) for c in "abcd"]), ["caption"])


def test_a_classifier_is_tried_on_what_it_can_answer(corpus, classifier):
    found = tried(classifier, corpus.valid, truths(classifier.config.labels, [corpus.valid]))
    assert found["caption"].right.n == len(corpus.valid)
    assert tried(classifier, corpus.valid, {}) == {}


@pytest.mark.parametrize(("usual", "most", "rate"), [(8000, 24000, 8000), (44100, 24000, 24000), (44100, 22050, 16000)])
def test_the_rate_of_a_classifier(usual, most, rate):
    assert classifier_rate(usual, most) == rate


def test_silence_and_length_are_left_out(tmp_path):
    root = tone_folder(tmp_path / "tones", takes=6)
    Sound(np.zeros(4000), 8000).write(root / "low-tone_99.wav")
    tone(220, 12.0).write(root / "low-tone_98.wav")
    skipped = read_sounds(sources_of(root), 8000).skipped
    assert (
        len(skipped) == 2 and any("silent" in one for one in skipped) and any("12.0 s long" in one for one in skipped)
    )
    cut = read_sounds(sources_of(root), 8000, long="cut")
    assert max(sound.seconds for sound in cut.train.values + cut.valid.values) == pytest.approx(10.0)
