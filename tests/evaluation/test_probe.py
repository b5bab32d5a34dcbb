"""A run's own judge: it tells real tones apart, accuses a model that gives the wrong one, and knows its bounds."""

import json
import time

import pytest
import torch
from cymatic.training.judge_run import MADE, VERDICT_JSON, VERDICT_TEXT, Maker, assess, chosen, memory
from tests.helpers import PITCHES, tiny_recipe, tone

from cymatic.apps import cli
from cymatic.data.mels import Clip, mel_of, prepare
from cymatic.errors import Error
from cymatic.evaluation.probe import Probe, compared, known_words
from cymatic.evaluation.verdict import Heed, failing, sentences
from cymatic.signal.mel import PRESETS
from cymatic.training import judge_run as module
from cymatic.training.history import History
from cymatic.training.recipe import Recipe, SamplingSettings
from cymatic.training.state import Progress
from cymatic.training.train import read_run, train

SPEC = PRESETS["voice-8k"]
TONES = {**PITCHES, "middle tone": 440}


def clip(caption, hz, take):
    sound = prepare(tone(hz * (1 + 0.01 * take), 0.2 + 0.02 * take, seed=int(4 * take)), SPEC)
    return Clip(caption, mel_of(sound, SPEC))


def clips(takes, first=0, tones=TONES):
    return [clip(caption, hz, first + take) for caption, hz in tones.items() for take in range(takes)]


class Player(Maker):
    """Stands for a model: for each caption the tone that `says` names, at pitches of its own."""

    guidance = SamplingSettings().guidance

    def __init__(self, says):
        for name, value in {"says": says}.items():
            object.__setattr__(self, name, value)

    def make(self, wanted, until, guidance=None):
        return [clip(caption, TONES[self.says(caption, guidance)], seed / 2 + 0.25).mel for caption, seed in wanted]

    def heed(self, some):
        return Heed(0.5, 0.6, len(some))


def assessed(says, train, valid=()):
    player = Player(says)
    return assess(player, train, list(valid), Recipe(), Progress(), History(), time.monotonic() + 30)


def test_it_tells_tones_apart_that_it_never_heard():
    classifier = Probe(clips(6))
    heard = classifier.hear([one.mel for one in clips(3, first=6)])
    assert heard == [classifier.meaning(one.caption) for one in clips(3, first=6)]
    assert classifier.hear_own() == classifier.meanings


def test_loudness_is_no_cue():
    classifier = Probe(clips(6))
    assert classifier.hear([one.mel - 3 for one in clips(2)]) == classifier.hear([one.mel for one in clips(2)])


def test_leaving_one_out_is_what_training_without_it_gives():
    """By the formula and by training anew, over noise of which the judge can only be half sure."""
    generator = torch.Generator().manual_seed(0)
    some = [Clip(f"kind {i % 3}", torch.randn(8, 20, generator=generator) + 0.4 * (i % 3)) for i in range(30)]
    classifier = Probe(some)
    anew = [Probe([*some[:i], *some[i + 1 :]]).hear([some[i].mel])[0] for i in range(len(some))]
    # Scales and words are those of all clips in the one and of 29 in the other, so a few doubtful ones may differ.
    assert sum(a == b for a, b in zip(anew, classifier.hear_own(), strict=True)) >= 26


def test_a_right_model_is_not_blamed_and_a_wrong_one_is():
    right = assessed(lambda caption, guidance: caption, clips(8))
    assert right.real.right == 1 and right.made.right == 1 and failing(right.real, right.made) == []
    assert right.trial is None

    def wrong(caption, guidance):
        return "high tone" if caption == "low tone" else caption

    found = assessed(wrong, clips(8))
    assert failing(found.real, found.made) == ["low tone"]
    assert found.made.each["low tone"].instead == "high tone"
    assert any('It fails at "low tone" (0 of 8, heard as "high tone")' in line for line in sentences(found))
    assert found.trial is not None and found.trial.right == 0
    assert not any("guidance" in line for line in sentences(found))


def test_guidance_that_helps_is_found():
    def shy(caption, guidance):
        return "high tone" if caption == "low tone" and guidance is None else caption

    found = assessed(shy, clips(8))
    assert found.trial.right == found.trial.clips == 8
    assert "--guidance 4 instead of 2 (of 8 clips that failed, 8 were heard rightly)" in sentences(found)[-1]


def test_clips_held_out_try_the_judge_where_there_are_enough():
    assert assessed(lambda caption, _: caption, clips(6), clips(7, first=6)).how == "held out"
    assert "left out in turn" in assessed(lambda caption, _: caption, clips(6), clips(2, first=6)).how


def test_a_model_that_copies_is_found():
    real, new = clips(8), clips(4, first=8)
    copied = memory([Clip(one.caption, one.mel + 0.01) for one in real[::3]], real, [])
    fresh = memory(new, real, clips(4, first=12))
    assert copied.made / copied.usual < 0.1
    assert fresh.made / fresh.usual > 0.5 and fresh.of == "12 clips held out"
    same = memory([real[0]] * 4, real, [])
    assert same.diversity == 0


def test_many_captions_are_judged_by_their_words():
    some = [
        clip(f"{name.split()[0]} tone number{take} {'long' if take % 2 else 'short'}", hz, take % 10)
        for name, hz in TONES.items()
        for take in range(30)
    ]
    player = Player(lambda caption, _: f"{caption.split()[0]} tone")
    found = assess(player, some, [], Recipe(), Progress(), History(), time.monotonic() + 30)
    assert found.captions == 90 and found.real.unit == "words"
    assert found.made.clips <= MADE and found.made.each["low"].right == found.made.each["low"].clips > 0
    assert "listens for" in sentences(found)[0]


@pytest.mark.parametrize(
    ("some", "why"),
    [
        (clips(1, tones={"low tone": 220}), "all 1 clips have one caption"),
        (clips(3, tones={"low tone": 220}), "all 3 clips have one caption"),
        (clips(1), "no word is in two captions"),
        ([Clip("low tone", clips(1)[0].mel)] * 5, "all 1 clips have one caption"),
        ([Clip("low tone", clips(1)[0].mel) for _ in range(5)], "all 5 clips have one caption"),
    ],
    ids=["one", "three takes", "three captions", "one repeated", "copies"],
)
def test_folders_that_no_judge_can_learn_from(some, why):
    found = assessed(lambda caption, _: caption, some)
    assert why in found.no_judge and found.real is None
    assert f"It has no judge of its own: {found.no_judge}." in sentences(found)


def test_the_same_sound_under_two_captions_makes_a_weak_judge():
    mel = clips(1)[0].mel
    found = assessed(lambda caption, _: caption, [Clip(caption, mel.clone()) for caption in PITCHES for _ in range(6)])
    assert "can't say which captions fail" in " ".join(sentences(found))
    assert found.memory is None


def test_ten_thousand_captions_of_one_clip_are_bounded_work():
    mels = [one.mel[:, :10] for one in clips(5)]
    some = [Clip(f"take {i} of tone {i % 97}", mels[i % len(mels)]) for i in range(10_000)]

    class Quick(Player):
        def make(self, wanted, until, guidance=None):
            return [mels[seed % len(mels)] for _, seed in wanted]

    began = time.monotonic()
    found = assess(Quick(lambda caption, _: caption), some, [], Recipe(), Progress(), History(), time.monotonic() + 10)
    assert time.monotonic() - began < 60
    assert found.captions == 10_000 and found.made.clips <= MADE
    assert len(sentences(found)) <= 8


def test_words_that_tell_something():
    captions = ["a dog, barking", "a dog!", "a C#4", "the C#4", "Don't", "don't"]
    assert known_words(captions) == {"a", "dog", "c#4", "don't"}
    with pytest.raises(Error, match="no word is in two captions"):
        Probe([Clip(word, clips(1)[0].mel) for word in ("one", "two")])


def test_chance_is_the_best_constant_answer():
    low, high = frozenset({"low"}), frozenset({"high"})
    heard = compared([low, low, low, high], [low, low, high, high], {low: "low", high: "high"}, "captions")
    assert (heard.right, heard.chance) == (0.75, 0.75)
    assert heard.each["low"].instead == "high"


def test_chosen_clips_are_of_every_caption():
    some = chosen(clips(20, tones={"low tone": 220}) + clips(2, tones={"high tone": 880}), 6)
    assert sorted(one.caption for one in some) == ["high tone"] * 2 + ["low tone"] * 4


def test_a_run_ends_with_a_verdict(tones, tmp_path):
    run = tmp_path / "run"
    said = []
    settings = tiny_recipe(tones, "training.steps=40", "training.checkpoint_steps=10")
    train(settings, run, say=said.append, verdict=True)
    lines = (run / VERDICT_TEXT).read_text().splitlines()
    values = json.loads((run / VERDICT_JSON).read_text())
    assert values["verdict"] == lines and 2 <= len(lines) <= 8
    assert values["curve"]["steps"] == 40 and values["real"]["right"] == 1
    assert not any("there is no verdict" in line for line in said)
    again = read_run(run)
    train(again, run, resume=True, say=said.append, verdict=True)
    assert json.loads((run / VERDICT_JSON).read_text())["curve"] == values["curve"], "the past is remembered"


@pytest.mark.parametrize("error", [RuntimeError("the ear\nis deaf"), KeyboardInterrupt()])
def test_a_verdict_that_fails_loses_nothing(tones, tmp_path, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(module, "assess", fail)
    said = []
    outcome = train(tiny_recipe(tones, "training.steps=3"), tmp_path / "run", say=said.append, verdict=True)
    assert outcome.finished and (tmp_path / "run/prior/model.safetensors").is_file()
    why = "the ear is deaf" if str(error) else "KeyboardInterrupt"
    assert said[-1] == f"note   there is no verdict ({why}); the model is trained and saved"
    assert not (tmp_path / "run" / VERDICT_TEXT).exists()


def test_the_command_prints_the_verdict_unless_told_not_to(tones, tmp_path, capsys):
    small = ["--steps", "3", "--set", "prior.width=32", "--set", "prior.depth=1", "--set", "prior.heads=2"]
    for extra, there in (([], True), (["--no-verdict"], False)):
        run = tmp_path / f"run{len(extra)}"
        assert cli.run(["train", str(tones), "-o", str(run), *small, *extra]) == 0
        assert (run / VERDICT_TEXT).exists() == there
        assert ("Its own judge" in capsys.readouterr().out) == there
