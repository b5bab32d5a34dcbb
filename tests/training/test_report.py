"""The end of a run: right models are not blamed, wrong ones are, and nothing that goes wrong loses the model."""

import json
import time
from pathlib import Path

import pytest
import torch
from tests.helpers import PITCHES, tiny_recipe, tone

import cymatic
from cymatic.apps import cli
from cymatic.data.examples import Example, Reading, load_examples
from cymatic.errors import Error
from cymatic.evaluation.accuracy import failing
from cymatic.evaluation.domain import MELS
from cymatic.evaluation.evaluate import MADE, REAL
from cymatic.evaluation.verdict import sentences
from cymatic.media.audio import AUDIO
from cymatic.signal.mel import PRESETS
from cymatic.training import report as module
from cymatic.training.history import History
from cymatic.training.report import MADE as MOST_MADE
from cymatic.training.report import TRACEBACK, VERDICT_JSON, VERDICT_TEXT, assess
from cymatic.training.settings import TrainingSettings
from cymatic.training.state import Progress
from cymatic.training.train import read_run, train

SPEC = PRESETS["voice-8k"]
TONES = {**PITCHES, "middle tone": 440}


def clip(caption, hz, take):
    sound = tone(hz * (1 + 0.01 * take), 0.2 + 0.02 * take, seed=int(4 * take))
    return Example(AUDIO.prepare(sound, SPEC), caption=caption)


def clips(takes, first=0, tones=TONES):
    return [clip(caption, hz, first + take) for caption, hz in tones.items() for take in range(takes)]


class Player:
    """Stands for a model: for each caption the tone that `says` names, at pitches of its own."""

    name, captions, guidance = "player", (), 2.0

    def __init__(self, says):
        self.says = says

    def draw(self, prompts, seeds, guidance=None):
        return [
            clip(prompt, TONES[self.says(prompt, guidance)], seed / 2 + 0.25).target
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    def loss(self, targets, captions, seed):
        hz = {caption: 0.5 for caption in TONES}
        return sum(hz.values()) / len(hz)

    def target(self, value):
        return value


def assessed(says, train, valid=()):
    return assess(
        Player(says), MELS, train, list(valid), TrainingSettings(), Progress(), History(), time.monotonic() + 60
    )


def answers(found, what):
    return found.accuracy[what]["caption"]


def test_a_right_model_is_not_blamed_and_a_wrong_one_is():
    _, right = assessed(lambda caption, guidance: caption, clips(8))
    real, made = answers(right, REAL), answers(right, MADE)
    assert real.right.value == 1 and made.right.value == 1 and failing(real, made) == [] and right.trial is None
    assert right.caption_sensitivity.rise == 0

    def wrong(caption, guidance):
        return "high tone" if caption == "low tone" else caption

    about, found = assessed(wrong, clips(8))
    assert failing(answers(found, REAL), answers(found, MADE)) == ["low tone"]
    assert answers(found, MADE).instead("low tone") == "high tone"
    lines = sentences(about, found)
    assert any('It fails at "low tone" (0 of 8, taken for "high tone")' in line for line in lines)
    assert found.trial is not None and found.trial.right == 0
    assert not any("guidance" in line for line in lines)


def test_guidance_that_helps_is_found():
    def shy(caption, guidance):
        return "high tone" if caption == "low tone" and guidance is None else caption

    about, found = assessed(shy, clips(8))
    assert found.trial.right == found.trial.clips == 8
    assert "--guidance 4 instead of 2 (of 8 clips that failed, 8 were then right)" in sentences(about, found)[-1]


def test_clips_held_out_try_the_probe_where_there_are_enough():
    assert assessed(lambda caption, _: caption, clips(6), clips(7, first=6))[1].tried_on == "held out"
    assert "left out in turn" in assessed(lambda caption, _: caption, clips(6), clips(2, first=6))[1].tried_on


def test_a_model_that_copies_is_found():
    real = clips(8)

    class Copies(Player):
        def draw(self, prompts, seeds, guidance=None):
            of = {caption: [one.target for one in real if one.caption == caption] for caption in TONES}
            return [of[prompt][seed % 2] + 0.01 for prompt, seed in zip(prompts, seeds, strict=True)]

    until = time.monotonic() + 60
    held = clips(4, first=12)
    about, copied = assess(Copies(None), MELS, real, held, TrainingSettings(), Progress(), History(), until)
    assert copied.neighbours["mel"].ratio.value < 0.1 and copied.neighbours["mel"].of == "12 clips held out"
    assert "It copies its training clips" in " ".join(sentences(about, copied))
    _, fresh = assessed(lambda caption, _: caption, real, held)
    assert fresh.neighbours["mel"].ratio.value > 0.2 and fresh.diversity["mel"].value > 0.3


def test_many_captions_are_told_by_their_words():
    some = [
        clip(f"{name.split()[0]} tone number{take} {'long' if take % 2 else 'short'}", hz, take % 10)
        for name, hz in TONES.items()
        for take in range(30)
    ]
    about, found = assessed(lambda caption, _: f"{caption.split()[0]} tone", some)
    made = found.accuracy[MADE]["word"]
    assert about.captions == 90 and about.words > 3
    assert made.right.n <= MOST_MADE and made.each["low"][0] == made.each["low"][1] > 0
    assert "looks for" in " ".join(sentences(about, found))


@pytest.mark.parametrize(
    ("some", "why"),
    [
        (clips(1, tones={"low tone": 220}), "all 1 clips have one caption"),
        ([Example(clips(1)[0].target, caption="low tone") for _ in range(5)], "all 5 clips have one caption"),
    ],
    ids=["one", "copies"],
)
def test_folders_that_no_probe_can_learn_from(some, why):
    about, found = assessed(lambda caption, _: caption, some)
    assert why in found.missing["accuracy"] and not found.accuracy
    assert f"It has no probe: {found.missing['accuracy']}." in sentences(about, found)


def test_the_same_sound_under_two_captions_makes_a_weak_probe():
    mel = clips(1)[0].target
    some = [Example(mel.clone(), caption=caption) for caption in PITCHES for _ in range(6)]
    about, found = assessed(lambda caption, _: caption, some)
    assert "can't say which captions fail" in " ".join(sentences(about, found))
    assert not found.neighbours


def test_ten_thousand_captions_of_one_clip_are_bounded_work():
    mels = [one.target[:, :10] for one in clips(5)]
    some = [Example(mels[i % len(mels)], caption=f"take {i} of tone {i % 97}") for i in range(10_000)]

    class Quick(Player):
        def draw(self, prompts, seeds, guidance=None):
            return [mels[seed % len(mels)] for seed in seeds]

    until = time.monotonic() + 10
    began = time.process_time()
    about, found = assess(Quick(None), MELS, some, [], TrainingSettings(), Progress(), History(), until)
    assert time.process_time() - began < 60
    assert about.captions == 10_000 and found.accuracy[MADE]["word"].right.n <= MOST_MADE
    assert len(sentences(about, found)) <= 8


def test_a_run_ends_with_a_verdict(tones, tmp_path):
    run = tmp_path / "run"
    told = []
    settings = tiny_recipe(tones, "training.steps=40", "training.checkpoint_steps=10")
    train(settings, run, say=told.append, verdict=True)
    lines = (run / VERDICT_TEXT).read_text().splitlines()
    values = json.loads((run / VERDICT_JSON).read_text())
    assert values["verdict"] == lines and 2 <= len(lines) <= 8
    assert values["run"]["curve"]["steps"] == 40 and values["accuracy"]["real"]["caption"]["right"]["value"] == 1
    assert values["caption_sensitivity"]["clips"] == 7
    assert not any("there is no verdict" in line for line in told)
    again = read_run(run)
    train(again, run, resume=True, say=told.append, verdict=True)
    assert json.loads((run / VERDICT_JSON).read_text())["run"]["curve"] == values["run"]["curve"], "the past is kept"


def test_a_run_over_codes_ends_with_a_verdict(tiny_codes_run):
    recipe = read_run(tiny_codes_run)
    spec = recipe.stages["codec"].part.reads
    data = load_examples(recipe.data, Reading("audio", spec), captions=True, say=lambda line: None)
    settings, until = recipe.stages["prior"].training, time.monotonic() + 60
    model = cymatic.load(tiny_codes_run)
    about, found = assess(model, MELS, data.train, data.valid, settings, Progress(45), History(), until)
    assert answers(found, REAL).right.value == 1 and answers(found, MADE).right.n > 0
    assert found.caption_sensitivity.clips == 7 and about.captions == 2
    assert found.neighbours["mel"].ratio.value > 0


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Error("the run\nis odd"), "the run is odd"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (MemoryError(), "MemoryError"),
        (torch.OutOfMemoryError("no memory left"), "no memory left"),
        (OSError("no disk"), "no disk"),
    ],
    ids=["error", "interrupt", "memory", "the device's memory", "disk"],
)
def test_what_may_happen_anywhere_is_a_note(tones, tmp_path, monkeypatch, error, why):
    run, told = trained_with(tones, tmp_path, monkeypatch, error)
    assert told[-1] == f"note   there is no verdict ({why}); the model is trained and saved"
    assert not (run / VERDICT_TEXT).exists() and not (run / TRACEBACK).exists()


def test_a_bug_is_told_and_kept_with_its_traceback_and_loses_nothing(tones, tmp_path, monkeypatch):
    run, told = trained_with(tones, tmp_path, monkeypatch, KeyError("caption"))
    assert "for a bug of cymatic ('caption')" in told[-1] and str(run / TRACEBACK) in told[-1]
    text = (run / TRACEBACK).read_text()
    assert text.startswith("Traceback") and "KeyError: 'caption'" in text and "test_report.py" in text
    assert not (run / VERDICT_TEXT).exists()


def trained_with(tones, tmp_path, monkeypatch, error):
    """A finished run whose evaluation raises `error`, and what was told."""

    def fail(*arguments, **more):
        raise error

    monkeypatch.setattr(module, "assess", fail)
    told: list[str] = []
    run: Path = tmp_path / "run"
    outcome = train(tiny_recipe(tones, "training.steps=3"), run, say=told.append, verdict=True)
    assert outcome.finished and (run / "prior/model.safetensors").is_file()
    return run, told


def test_the_command_prints_the_verdict_unless_told_not_to(tones, tmp_path, capsys):
    small = ["--steps", "3", "--set", "prior.width=32", "--set", "prior.depth=1", "--set", "prior.heads=2"]
    for extra, there in (([], True), (["--no-verdict"], False)):
        run = tmp_path / f"run{len(extra)}"
        assert cli.run(["train", str(tones), "-o", str(run), *small, *extra]) == 0
        assert (run / VERDICT_TEXT).exists() == there
        assert ("A probe, which tells" in capsys.readouterr().out) == there
