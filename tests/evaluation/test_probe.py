"""A probe tells real tones apart, learns words where captions are many, and knows what it would have said."""

import pytest
import torch
from tests.helpers import PITCHES, tone

from cymatic.errors import Error
from cymatic.evaluation.corpus import Clips
from cymatic.evaluation.domain import MELS
from cymatic.evaluation.probe import Probe, known_words
from cymatic.evaluation.questions import tried
from cymatic.media.audio import levelled, mel_of
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["voice-8k"]
TONES = {**PITCHES, "middle tone": 440}


def mel(hz, take):
    return mel_of(levelled(tone(hz * (1 + 0.01 * take), 0.2 + 0.02 * take, seed=int(4 * take)), SPEC), SPEC)


def clips(takes, first=0, tones=TONES):
    made = [(caption, mel(hz, first + take)) for caption, hz in tones.items() for take in range(takes)]
    return Clips.of([one for _, one in made], [caption for caption, _ in made])


def test_it_tells_tones_apart_that_it_never_met():
    probe, new = Probe(clips(6), MELS), clips(3, first=6)
    assert probe.labels == {"caption": ("high tone", "low tone", "middle tone")}
    assert probe.answers(new.values) == {"caption": new.captions}
    assert probe.left_out()["caption"].right.value == 1


def test_loudness_is_no_cue():
    probe, some = Probe(clips(6), MELS), clips(2)
    assert probe.answers([one - 3 for one in some.values]) == probe.answers(some.values)


def test_leaving_one_out_is_what_training_without_it_gives():
    """By the formula and by training anew, over noise of which the probe can only be half sure."""
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(8, 20, generator=generator) + 0.4 * (i % 3) for i in range(30)]
    some = Clips.of(values, [f"kind {i % 3}" for i in range(30)])
    others = [[row for row in range(30) if row != i] for i in range(30)]
    anew = [Probe(some.at(rows), MELS).answers([values[i]])["caption"][0] for i, rows in enumerate(others)]
    right = sum(got == want for got, want in zip(anew, some.captions, strict=True))
    formula = Probe(some, MELS).left_out()["caption"]
    # Scales and words are those of all clips in the one and of 29 in the other, so a few doubtful ones may differ.
    assert formula.right.n == 30 and abs(30 * formula.right.value - right) <= 4


def test_words_in_new_company_may_be_answered_where_it_is_told_of_them():
    captions = [f"{a} {b}" for a in "abcde" for b in "vwxyz" if (a, b) != ("a", "v")]
    place = {caption: (ord(caption[0]) - 97.0, ord(caption[2]) - 118.0) for caption in [*captions, "a v"]}

    def value(caption):
        mel = torch.full((12, 6), -3.0)
        mel[int(place[caption][0])] = 1.0
        mel[6 + int(place[caption][1])] = 1.0
        return mel

    some = Clips.of([value(caption) for caption in captions for _ in range(3)], [c for c in captions for _ in range(3)])
    assert Probe(some, MELS, ["a v"]).answers([value("a v")]) == {"word": [frozenset({"a", "v"})]}
    assert Probe(some, MELS).answers([value("a v")]) != {"word": [frozenset({"a", "v"})]}
    found = tried(Probe(some, MELS, ["a v"]), some, Probe(some, MELS).truth((some,)))
    assert found["word"].right.value > 0.95 and found["word"].right.n == len(some)


@pytest.mark.parametrize(
    ("some", "why"),
    [
        (clips(1, tones={"low tone": 220}), "all 1 clips have one caption"),
        (clips(3, tones={"low tone": 220}), "all 3 clips have one caption"),
        (clips(1), "no word is in two captions"),
    ],
    ids=["one", "three takes", "three captions"],
)
def test_clips_that_nothing_can_be_learned_from(some, why):
    with pytest.raises(Error, match=why):
        Probe(some, MELS)


def test_words_that_tell_something():
    captions = ["a dog, barking", "a dog!", "a C#4", "the C#4", "Don't", "don't"]
    assert known_words(captions) == {"a", "dog", "c#4", "don't"}
