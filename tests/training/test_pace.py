"""What a step costs, early and late, and when a run of minutes is to end."""

import time

import pytest
import torch
from tests.helpers import TINY_CODES, autoencoder_of, batch_of, tiny_codes_recipe, tiny_recipe

from cymatic.training.pace import Pace
from cymatic.training.plan import measured_pace, time_and_disk
from cymatic.training.recipe import make_recipe
from cymatic.training.settings import TrainingSettings
from cymatic.training.state import STATE, Progress, save_state
from cymatic.training.train import deadline_of


def test_later_steps_cost_more():
    pace = Pace(early=1.0, late=3.0, turn=10)
    assert (pace.seconds(10), pace.seconds(12), pace.seconds(12, begun=11), pace.seconds(4)) == (10.0, 16.0, 3.0, 4.0)
    assert (pace.steps_in(5.0), pace.steps_in(16.0), pace.steps_in(6.0, begun=10)) == (5, 12, 2)
    assert pace.steps_in(pace.seconds(100)) == 100
    assert pace.at(5, 2.0) == Pace(2.0, 6.0, 10), "what was not met yet is slower by the same factor"
    assert pace.at(20, 1.5) == Pace(0.5, 1.5, 10)
    assert pace.scaled(0.5) == Pace(0.5, 1.5, 10)


def test_a_plan_counts_the_discriminators_that_come_later():
    """A step that has them is tried, too, and neither is left as a trace in weights and buffers."""
    met = ("codec.discriminators.start=7", "codec.discriminators.warmup=3")
    task = autoencoder_of(make_recipe("melspec-gpt-small", [*TINY_CODES, *met]))
    batch = batch_of(torch.randn(4, 64, 24, generator=torch.Generator().manual_seed(0)), "low tone")
    seen, forward = [], task.forward

    def watched(batch, seed):
        terms = forward(batch, seed)
        seen.append("discriminators" in terms)
        return terms

    task.forward = watched
    before = {name: value.clone() for name, value in task.state_dict().items()}
    pace = measured_pace(task, batch)
    assert seen == [False, False, True, True]
    assert pace.turn == 10 and pace.early > 0 and pace.late > 0
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in task.parameters())
    lines = time_and_disk(TrainingSettings(steps=130), task, Pace(1.0, 3.0, 10))
    assert lines[0].startswith("time   130 steps, some 6.2 minutes")


def spent(run, name, step, seconds):
    task, average = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    at = Progress(step=step, seconds=seconds)
    save_state(run / name / STATE, task, average, torch.optim.SGD(task.parameters()), at)


@pytest.fixture
def now(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    return 1000.0


def test_what_a_stage_spent_before_a_stop_counts(tmp_path, now):
    recipe = tiny_recipe("anywhere", "training.minutes=2")
    assert deadline_of(recipe, "prior", tmp_path, 900.0, resume=False) == 900 + 120
    spent(tmp_path, "prior", 15, 50.0)
    assert deadline_of(recipe, "prior", tmp_path, 900.0, resume=True) == 900 + 120 - 50
    assert deadline_of(recipe, "prior", tmp_path, 900.0, resume=False) == 900 + 120, "a run of another day"


def test_the_second_stage_keeps_its_own_minutes_after_a_resume(tmp_path, now):
    """The first stage's seconds are not counted against the second, nor is the time since the resume began."""
    recipe = tiny_codes_recipe("anywhere", "codec.training.minutes=3", "training.minutes=2")
    spent(tmp_path, "codec", 40, 180.0)
    spent(tmp_path, "prior", 15, 50.0)
    assert deadline_of(recipe, "prior", tmp_path, 400.0, resume=True) == now + 120 - 50
    assert deadline_of(recipe, "prior", tmp_path, 400.0, resume=False) == now + 120


def test_the_last_stage_of_a_run_by_minutes_ends_with_the_run(tmp_path, now):
    recipe = tiny_codes_recipe("anywhere", "minutes=10")
    spent(tmp_path, "codec", 40, 300.0)
    assert deadline_of(recipe, "prior", tmp_path, 900.0, resume=False) == 900 + 600
    assert deadline_of(recipe, "prior", tmp_path, 900.0, resume=True) == 900 + 600 - 300
    assert deadline_of(recipe, "codec", tmp_path, 900.0, resume=False) == now + 300


def test_the_treble_opens_in_a_run_by_minutes_too():
    """Minutes become steps on the way; until then the low-pass stays where it began."""
    met = ["codec.objective.opening=0.5", "codec.segment=0.2", "codec.discriminators=null", "training.minutes=5"]
    task = autoencoder_of(make_recipe("starter-codec", met)).train()
    noise = torch.randn(1, 1, 9600, generator=torch.Generator().manual_seed(0))

    def loudness(step: int) -> float:
        return float(task._opened(noise, step).square().mean())

    assert task.total_steps is None
    start = loudness(0)
    assert loudness(40) == start < 0.995 * float(noise.square().mean())
    task.total_steps = 100  # as the loop says once it knows
    assert loudness(0) == start < loudness(25) < loudness(60)
    assert loudness(60) == pytest.approx(float(noise.square().mean()), rel=1e-3)
