"""A run whose loss held out has risen lowers its rates, then ends; and resumed it does the same."""

import pytest
import yaml
from tests.helpers import tiny_recipe

from cymatic.training.loop import schedule, seldom, sooner
from cymatic.training.settings import TrainingSettings
from cymatic.training.state import Progress
from cymatic.training.train import read_run, train

GREEDY = ["training.learning_rate=0.01", "training.checkpoint_steps=5", "training.patience=2", "training.steps=400"]


def test_the_rates_fall_first_and_it_ends_later():
    settings = TrainingSettings(steps=1000, patience=3, decay=0.4)
    assert sooner(Progress(step=300, worse=2), 1000, settings) == 1000
    assert sooner(Progress(step=300, worse=3), 1000, settings) == 500
    assert schedule(settings, 299, 500) == schedule(settings, 300, 500) == 1 > schedule(settings, 301, 500)
    assert sooner(Progress(step=450, worse=5), 500, settings) == 500
    assert sooner(Progress(step=450, worse=6), 500, settings) == 450
    assert sooner(Progress(step=900, worse=3), 1000, settings) == 1000, "the rates fall already"
    assert sooner(Progress(step=30, worse=99), 1000, settings.model_copy(update={"patience": None})) == 1000


def test_checkpoints_are_many_where_they_are_quick():
    settings = TrainingSettings(batch=64)
    assert seldom(1500, 20, settings, 4) == 100
    assert seldom(600, 300, settings, 4) == 223, "measuring 300 clips takes as long as 7 steps"


def test_it_ends_early_says_why_and_resumes_exactly(tones, tmp_path):
    said: list[str] = []
    whole = train(tiny_recipe(tones, *GREEDY), tmp_path / "whole", say=said.append)
    resolved = yaml.safe_load((tmp_path / "whole/recipe.yaml").read_text())
    assert whole.finished and whole.progress.step == resolved["stages"]["prior"]["training"]["steps"] < 400
    notes = [line for line in said if "the loss held out has been clearly above its lowest for 2 checkpoints" in line]
    assert notes and ("the learning rates fall" in notes[0] or "it ends here" in notes[0])

    def break_off(at):
        if at.step == whole.progress.step - 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe(tones, *GREEDY), tmp_path / "cut", say=said.append, on_report=break_off)
    again = train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=said.append)
    assert (again.progress.step, again.progress.best_step) == (whole.progress.step, whole.progress.best_step)
    name = "prior/model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_minutes_become_no_more_steps_than_are_wanted(tones, tmp_path):
    settings = ["training.minutes=1", "training.most_steps=40"]
    outcome = train(tiny_recipe(tones, *settings), tmp_path / "run", say=lambda line: None)
    assert outcome.finished and outcome.progress.step == 40


def test_what_is_planned_is_kept_and_used(tones, tmp_path):
    said: list[str] = []
    outcome = train(tiny_recipe(tones, "training.minutes=5", "training.learning_rate=1e-4"), tmp_path, say=said.append)
    resolved = yaml.safe_load((tmp_path / "recipe.yaml").read_text())["stages"]["prior"]["training"]
    assert outcome.progress.step == resolved["most_steps"] == resolved["steps"]
    assert resolved["steps"] in (120, 240), "where the machine has time for them, twice as many"
    assert any(line.startswith("chosen 120 steps at most") for line in said)
