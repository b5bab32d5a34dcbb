"""What a step costs, early and late, and when a run of minutes is to end."""

import itertools
import time

import pytest
import torch
from tests.helpers import TINY_CODES, autoencoder_of, generator, tiny_codes_recipe, tiny_recipe

from cymatic.data.batches import Bucketed
from cymatic.data.reading import Example
from cymatic.training.clock import Clock
from cymatic.training.loop import schedule, with_end
from cymatic.training.pace import Pace
from cymatic.training.plan import in_pairs, measured_pace, time_and_disk
from cymatic.training.recipe import make_recipe
from cymatic.training.settings import TrainingSettings
from cymatic.training.state import STATE, Decided, Progress, save_state
from cymatic.training.train import deadline_of


def test_later_steps_cost_more():
    pace = Pace(early=1.0, late=3.0, turn=10)
    assert (pace.seconds(10), pace.seconds(12), pace.seconds(12, begun=11), pace.seconds(4)) == (10.0, 16.0, 3.0, 4.0)
    assert (pace.steps_in(5.0), pace.steps_in(16.0), pace.steps_in(6.0, begun=10)) == (5, 12, 2)
    assert pace.steps_in(pace.seconds(100)) == 100
    assert pace.at(5, 2.0) == Pace(2.0, 6.0, 10), "what was not met yet is slower by the same factor"
    assert pace.at(20, 1.5) == Pace(0.5, 1.5, 10)
    assert pace.scaled(0.5) == Pace(0.5, 1.5, 10)
    assert pace.plus(0.5) == Pace(1.5, 3.5, 10)


def test_a_plan_counts_the_discriminators_that_come_later():
    """A step that has them is tried, too, and neither is left as a trace in weights and buffers."""
    met = ("codec.discriminators.start=7", "codec.discriminators.warmup=3")
    task = autoencoder_of(make_recipe("melspec-gpt-small", [*TINY_CODES, *met]))
    tones = [Example(torch.randn(64, 24 + 8 * i, generator=generator(i)), caption="low tone") for i in range(8)]
    batches = Bucketed(tones, 2, 0)
    seen, forward = [], task.forward

    def watched(batch, seed):
        terms = forward(batch, seed)
        seen.append(("discriminators" in terms, batch.target.shape[-1]))
        return terms

    task.forward = watched
    before = {name: value.clone() for name, value in task.state_dict().items()}
    pace = measured_pace(task, batches, TrainingSettings())
    early, late = ([length for met, length in seen if met is late] for late in (False, True))
    assert early == late and set(early[1:]) == {32, 48, 64, 80}, "each batch of the epoch, after one to warm up"
    assert len(early) == 5
    assert pace.turn == 10 and pace.early > 0 and pace.late > 0
    for name, value in task.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(p.grad is None for p in task.parameters())
    lines = time_and_disk(TrainingSettings(steps=130), task, Pace(1.0, 3.0, 10))
    assert lines[0].startswith("time   130 steps, some 6.4 minutes"), "with what measuring takes"
    lines = time_and_disk(TrainingSettings(minutes=8), task, Pace(1.0, 3.0, 10), seconds=103)
    assert lines[0].startswith("time   8 minutes, some 40 steps"), "what is left of the minutes for training"
    lines = time_and_disk(TrainingSettings(minutes=8), task, Pace(1.0, 3.0, 10), seconds=103, begun=20)
    assert lines[0].startswith("time   8 minutes, some 53 steps"), "after those that are made"


@pytest.mark.parametrize(
    ("steps", "begun", "start", "early", "late"),
    [
        (20, 0, 30, 1, 0), (60, 0, 100, 3, 0), (400, 0, 500, 5, 0), (20, 0, 7, 1, 1), (400, 0, 7, 5, 5),
        (20, 12, 7, 0, 1), (1, 0, 7, 1, 0), (None, 0, 7, 5, 5), (None, 20, 7, 0, 5), (20, 20, 7, 0, 1),
    ],
)  # fmt: skip
def test_a_trial_is_a_small_share_of_the_steps_that_are_made(steps, begun, start, early, late):
    """Nor is anything tried that the run does not meet, or no longer."""
    met = (f"codec.discriminators.start={start - 1}", "codec.discriminators.warmup=1")
    task = autoencoder_of(make_recipe("melspec-gpt-small", [*TINY_CODES, *met]))
    tones = [Example(torch.randn(64, 24 + 8 * i, generator=generator(i)), caption="low tone") for i in range(8)]
    seen, forward = [], task.forward

    def watched(batch, seed):
        terms = forward(batch, seed)
        seen.append("discriminators" in terms)
        return terms

    task.forward = watched
    pace = measured_pace(task, Bucketed(tones, 2, 0), TrainingSettings(steps=steps), begun=begun)
    assert (seen.count(False), seen.count(True)) == (early, late)
    assert pace.early > 0 and pace.late > 0
    (line, _) = time_and_disk(TrainingSettings(steps=steps or 20), task, pace)
    assert line.startswith(f"time   {steps or 20} steps, some ")


@pytest.mark.parametrize("count", range(1, 10))
def test_few_of_the_batches_stand_for_all_of_them(count):
    order = in_pairs(list(range(count)))
    assert sorted(order) == list(range(count))
    for taken in range(2, count, 2):
        assert sum(order[:taken]) / taken == (count - 1) / 2


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
    assert deadline_of(recipe, "codec", tmp_path, 900.0, resume=False) == 900 + 300, "reading is in its minutes"


class FakeTime:
    """A clock that goes on only when it is told."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def fake(monkeypatch):
    return FakeTime(monkeypatch)


def test_a_clock_counts_the_steps_that_are_left(fake):
    clock = Clock(0, deadline=fake.now + 200, expected=Pace(1.0, 1.0))
    assert clock.end(0, None) == 200, "as was tried before"
    fake.now += 30  # the first steps are slow, and no measure of the rest
    clock.tick(1)
    clock.tick(2)
    for step in range(3, 23):
        fake.now += 2
        clock.tick(step)
    assert clock.end(22, None) == 22 + (200 - 70) // 2
    for step in range(23, 43):
        fake.now += 0.5
        clock.tick(step)
    assert clock.end(42, None) == 42 + (200 - 80) * 2, "the last 5 % of the time are what counts"


def test_a_clock_keeps_time_for_checkpoints(fake):
    clock = Clock(0, deadline=fake.now + 100, expected=Pace(1.0, 1.0))
    for step in range(1, 11):
        fake.now += 1
        clock.tick(step)
    with clock.paused():
        fake.now += 5
    fake.now += 1
    clock.tick(11)
    left = 100 - 16 - 5  # and one at the end
    assert clock.end(11, 10) == 11 + int(left / 1.5)
    assert clock.end(11, None) == 11 + left


def test_a_clock_expects_later_steps_to_cost_what_they_cost_beside_the_first(fake):
    clock = Clock(0, deadline=fake.now + 100, expected=Pace(1.0, 3.0, 20))
    for step in range(1, 11):
        fake.now += 2  # twice as slow as was tried
        clock.tick(step)
    assert clock.end(10, None) == 20 + (100 - 20 - 20) // 6


def test_one_more_step_is_made_when_time_is_up(fake):
    clock = Clock(5, deadline=fake.now - 1, expected=Pace(1.0, 1.0))
    assert clock.end(5, 10) == 6


def rates(settings: TrainingSettings, ends: dict[int, int], steps: int) -> list[float]:
    """The shares of a run whose end is set anew at steps, to 0."""
    decided, found = Decided(steps=steps), []
    step = 0
    while step < steps:
        if step in ends:
            before, steps = schedule(settings, step, steps, decided), ends[step]
            decided = with_end(decided, settings, step, steps)
            assert schedule(settings, step, steps, decided) == pytest.approx(before), "no jump"
        found.append(schedule(settings, step, steps, decided))
        step += 1
    return found


@pytest.mark.parametrize(
    "ends", [{}, {20: 50}, {20: 400}, {80: 200}, {80: 90}, {70: 75, 72: 300}, {90: 120, 110: 115}], ids=str
)
def test_rates_fall_without_a_jump_to_nothing_wherever_the_end_moves(ends):
    settings = TrainingSettings(minutes=1, warmup=5, decay=0.4)
    shares = rates(settings, ends, 100)
    assert shares[5:20] == [1.0] * 15
    falling = shares[5:]
    assert all(later <= earlier for earlier, later in itertools.pairwise(falling)), "never up again"
    assert shares[-1] < 0.16, "one more step, and it is nothing"


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
