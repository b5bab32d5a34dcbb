"""Runs by minutes, by a clock that goes on only when work is done: what is promised, what is used, how rates end."""

import itertools
import json
import re
import time

import pytest
import torch
import yaml
from tests.helpers import PITCHES, quiet, tiny_recipe, tone

from cymatic.training import loop
from cymatic.training import train as training
from cymatic.training.report import for_verdict
from cymatic.training.tasks.prior import PriorTask
from cymatic.training.train import read_run, train

FRAME = 0.004  # seconds of the fake clock that a frame takes, at first
STEP = 0.5  # and a step beside them
MEASURING = 1.0


class Machine:
    """Takes fake time for each step, by its frames; `later` times as long from step `turn` of the loop on."""

    def __init__(self, monkeypatch, later: float = 1.0, turn: int = 30) -> None:
        self.now, self.shares = 1000.0, []
        forward, measure, step = PriorTask.forward, PriorTask.measure, loop._step

        def clock():
            self.now += 1e-5
            return self.now

        def slow_forward(task, batch, seed):
            factor = later if len(self.shares) > turn else 1.0
            self.now += factor * (STEP + FRAME * batch.target.shape[0] * batch.target.shape[-1])
            return forward(task, batch, seed)

        def slow_measure(task, *given):
            self.now += MEASURING
            return measure(task, *given)

        def noted(*given):
            self.shares.append(given[-1])
            return step(*given)

        monkeypatch.setattr(time, "monotonic", clock)
        monkeypatch.setattr(PriorTask, "forward", slow_forward)
        monkeypatch.setattr(PriorTask, "measure", slow_measure)
        monkeypatch.setattr(loop, "_step", noted)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """40 tones of 0.02 to 2 s."""
    folder = tmp_path_factory.mktemp("uneven")
    for take in range(20):
        for caption, hz in PITCHES.items():
            tone(hz, 0.02 * 1.27**take, seed=take).write(folder / f"{caption.replace(' ', '-')}_{take}.wav")
    return folder


def run_of(folder, run, *settings, **more):
    """The outcome, and what was said."""
    said: list[str] = []
    keys = ("training.minutes=3", "training.batch=64", "training.patience=null", "training.most_steps=2000", *settings)
    return train(tiny_recipe(folder, *keys), run, say=said.append, **more), said


@pytest.mark.parametrize(("later", "turn"), [(1.0, 0), (0.4, 30), (3.0, 30), (0.3, 120), (3.0, 120)])
def test_the_minutes_are_used_and_the_rates_end_at_nothing(uneven, tmp_path, monkeypatch, later, turn):
    machine = Machine(monkeypatch, later, turn)
    outcome, said = run_of(uneven, tmp_path / "run", "training.frames=300")
    assert outcome.finished and outcome.progress.step == len(machine.shares)
    assert 0.9 * 180 < machine.now - 1000 < 1.02 * 180
    assert machine.shares[-1] < 0.2, "the last step but none"
    falling = machine.shares[5:]
    assert all(b <= a for a, b in itertools.pairwise(falling))
    if later == 1.0:
        (promised,) = (int(re.findall(r"some (\d+) steps", line)[0]) for line in said if line.startswith("time "))
        assert abs(promised - outcome.progress.step) < 0.1 * outcome.progress.step
    stage = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())["stages"]["prior"]["training"]
    assert (stage["steps"], stage["minutes"]) == (outcome.progress.step, None), "as a rerun would make them"


def test_a_pace_is_that_of_short_and_long_clips(uneven, tmp_path, monkeypatch):
    """Without a budget one step costs forty times another, and what is promised still holds."""
    machine = Machine(monkeypatch)
    outcome, said = run_of(uneven, tmp_path / "run", "training.batch=4")
    (promised,) = (int(re.findall(r"some (\d+) steps", line)[0]) for line in said if line.startswith("time "))
    assert abs(promised - outcome.progress.step) < 0.25 * outcome.progress.step
    assert 0.9 * 180 < machine.now - 1000 < 1.02 * 180


def test_the_verdict_is_in_the_minutes(uneven, tmp_path, monkeypatch):
    machine = Machine(monkeypatch)
    given = []

    def report_on(*_, seconds, **__):
        given.append((seconds, machine.now))
        machine.now += seconds

    monkeypatch.setattr(training, "report_on", report_on)
    run_of(uneven, tmp_path / "run", "training.frames=300", verdict=True)
    ((seconds, since),) = given
    assert since + seconds == pytest.approx(1000 + 180, abs=3)
    assert seconds >= for_verdict(170) > 9
    assert (for_verdict(15 * 60), for_verdict(2), for_verdict(10**6)) == (54, 0.5, 60)


def test_what_was_decided_is_gone_on_with(uneven, tmp_path, monkeypatch):
    def break_off(at):
        if at.step == 110:
            raise KeyboardInterrupt

    machine = Machine(monkeypatch, later=2.0, turn=85)
    run = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run_of(uneven, run, "training.frames=300", "training.checkpoint_steps=20", on_report=break_off)
    (state,) = (run / "prior/state").glob("step-*/state.json")
    values = json.loads(state.read_text())
    assert values["step"] == 100 and values["decided"]["since"] <= 100 < values["decided"]["steps"]
    before, spent = machine.shares[100], values["seconds"]
    machine.shares.clear()
    machine.now += 10_000
    began = machine.now
    recipe = read_run(run)
    assert recipe.stages["prior"].training.minutes == 3, "it is still a run by minutes"
    said = []
    outcome = train(recipe, run, resume=True, say=said.append)
    assert outcome.finished
    assert machine.shares[0] == pytest.approx(before), "the rates go on where they were"
    assert machine.shares[-1] < 0.2
    assert 0.9 * 180 < spent + machine.now - began < 1.03 * 180
    (line,) = (line for line in said if line.startswith("time "))
    assert int(re.findall(r"some (\d+) steps", line)[0]) > 100, "with those that were made"


def test_a_run_by_minutes_that_is_resumed_at_once_is_the_same(uneven, tmp_path, monkeypatch):
    """Where the clock says about the same, nothing is decided anew, and weights are equal bit for bit."""
    keys = ("training.frames=300", "training.checkpoint_steps=20", "training.most_steps=60")
    Machine(monkeypatch)
    run_of(uneven, tmp_path / "whole", *keys)

    def break_off(at):
        if at.step == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_of(uneven, tmp_path / "cut", *keys, on_report=break_off)
    torch.rand(7)
    assert train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=quiet).progress.step == 60
    name = "prior/model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
