"""What is chosen for whom, and that nothing that was given is."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.helpers import TINY, quiet, tone

from cymatic.training.build import build
from cymatic.training.built import Built, Context
from cymatic.training.hardware import make_fabric
from cymatic.training.pace import Pace
from cymatic.training.planning import PlanFacts, choices, given, is_given, smaller_batch, with_choices
from cymatic.training.recipe import make_recipe, parse_recipe, write_recipe

SMALL = PlanFacts(
    clips=60, captions=10, known=0, seconds=30.0, held_out=12, pitched=0, start="starter-sound", ends=False
)
LARGE = replace(SMALL, clips=20_000, captions=900, seconds=40_000.0, held_out=2_000)
CASES = {
    "small": SMALL,
    "large": LARGE,
    "nothing held out": replace(SMALL, clips=5, held_out=0),
    "notes": replace(SMALL, pitched=60),
    "another mel": replace(SMALL, start=None),
    "steps": replace(SMALL, ends=True),
}


def planned(facts: PlanFacts, *settings: str) -> Any:
    """The stage as it is planned."""
    recipe = make_recipe(None, list(settings))
    return with_choices(recipe, choices(facts, given(recipe), "prior")).stages["prior"]


def test_what_is_given():
    recipe = make_recipe(None, ["prior.width=192", "data.augment={}", "training.minutes=3", "prior.start=null"])
    of_stage = {key.removeprefix("stages.prior.") for key in given(recipe) if key.startswith("stages.prior.")}
    assert {"part.width", "training.minutes", "start"} <= of_stage
    assert given(recipe) - {f"stages.prior.{key}" for key in of_stage} == {"data.augment"}
    keys = given(recipe)
    assert is_given("stages.prior.part.width", keys) and is_given("data.augment.gain", keys) and is_given("data", keys)
    assert not is_given("stages.prior.part.widths", keys) and not is_given("stages.prior.training.most_steps", keys)
    said = given(make_recipe(None, []))
    assert said == {f"stages.prior.{key}" for key in ("task", "part.kind", "encoder.kind")}, "what says which they are"


@pytest.mark.parametrize("facts", CASES.values(), ids=CASES)
def test_each_choice_is_valid_has_its_reason_and_is_spelt_out(facts):
    chosen = choices(facts, set(), "prior")
    recipe = with_choices(make_recipe(None, []), chosen)
    again = parse_recipe(yaml.safe_load(write_recipe(recipe)), "again")
    assert again == recipe, "what was chosen is valid, and a rerun has it"
    assert choices(facts, given(again), "prior") == [], "a resolved recipe leaves nothing open"
    for one in chosen:
        assert one.values and one.why.strip() and "\n" not in one.why and len(one.why) < 160, one
    assert len({key for one in chosen for key in one.values}) == sum(len(one.values) for one in chosen)


@pytest.mark.parametrize("facts", CASES.values(), ids=CASES)
def test_nothing_that_was_given_is_chosen(facts):
    everything = {key: value for one in choices(facts, set(), "prior") for key, value in one.values.items()}
    for key in everything:
        keys = {key}
        assert key not in {name for one in choices(facts, keys, "prior") for name in one.values}, key
        above = {key.rpartition(".")[0]}
        assert key not in {name for one in choices(facts, above, "prior") for name in one.values}, key


def test_batches_shrink_where_time_is_short():
    batch = "stages.prior.training.batch"
    assert smaller_batch(64, 5_000, None, "prior") is None
    assert smaller_batch(64, 350, None, "prior").values == {batch: 32}
    assert smaller_batch(64, 10, None, "prior").values == {batch: 16}
    assert smaller_batch(64, 10, None, "prior", least=32).values == {batch: 32}, "each device has one"
    assert smaller_batch(64, 350, 300, "prior") is None, "no more steps are wanted"
    assert smaller_batch(20, 10, None, "prior") is None


def test_short_and_long_clips_share_a_budget_of_frames():
    uneven = replace(SMALL, clips=640, lengths=(*[40] * 600, *[800] * 40))
    mean = (600 * 40 + 40 * 800) / 640
    stage = planned(uneven)
    assert stage.training.frames == math.ceil(1.5 * 64 * mean)
    assert stage.training.most_steps > 2 * 640, "batches hold fewer clips, and each is met as often"
    assert planned(replace(uneven, lengths=(40,) * 640)).training.frames is None, "they cost alike as they are"
    assert planned(uneven, "training.frames=100").training.frames == 100
    smaller = smaller_batch(64, 140, None, "prior", frames=9000)
    assert smaller.values == {"stages.prior.training.batch": 32, "stages.prior.training.frames": 4500}
    assert smaller.why == "batches of 32 in 4,500 frames, since 140 steps of 64 are few"
    assert smaller_batch(64, 150, None, "prior", frames=9000) is None


def test_a_recipe_that_says_how_many_clips_a_batch_holds_means_that(tmp_path):
    for take in range(1, 21):
        tone(300 + take, 0.05 * take, seed=take).write(tmp_path / f"beep_{take}.wav")

    def training_of(*more: str) -> Any:
        recipe = make_recipe(None, [*TINY, f"data.folder={tmp_path}", "training.minutes=1", *more])
        context = Context(recipe, "prior", make_fabric("cpu"), Path("none"), resumed=False, strict=False, say=quiet)
        built = build(context)
        return built.training, built.batches

    settings, batches = training_of()
    assert (settings.batch, settings.frames) == (8, None) and {len(batches[i]) for i in range(2)} == {8}
    settings, batches = training_of("training.frames=100")
    assert settings.frames == 100 and all(batches[i].target.shape[-1] * len(batches[i]) <= 100 for i in range(9))


def test_who_goes_on_from_the_starter():
    assert planned(SMALL).start is None, "few clips under unknown captions"
    assert planned(replace(SMALL, known=5)).start == "starter-sound", "half of the captions are known"
    assert planned(replace(SMALL, clips=200)).start == "starter-sound"
    assert planned(replace(LARGE, start=None)).start is None
    assert planned(LARGE, "prior.start=null").start is None


def test_how_long():
    assert planned(SMALL).training.most_steps == 120
    assert planned(LARGE).training.most_steps == 40_000
    assert planned(LARGE, "training.most_steps=7").training.most_steps == 7
    assert planned(replace(SMALL, ends=True)).training.most_steps is None, "the user said how many"
    assert planned(SMALL).training.patience and planned(replace(SMALL, held_out=2)).training.patience is None


def test_a_stage_at_its_pace(tmp_path):
    for take in range(1, 41):
        tone(300 + take, 0.2, seed=take).write(tmp_path / f"beep_{take}.wav")
    settings = [setting for setting in TINY if not setting.startswith("training.batch")]
    fabric = make_fabric("cpu")

    def built_of(*more: str) -> Built:
        recipe = make_recipe(None, [*settings, f"data.folder={tmp_path}", "training.minutes=1", *more])
        return build(Context(recipe, "prior", fabric, Path("none"), resumed=False, strict=False, say=quiet))

    def at_pace(built: Built, seconds: float) -> tuple[Built, Pace]:
        return built.at_pace(built, Pace(seconds, seconds), 60.0)

    built = built_of()
    whole = built.batches.batch
    assert at_pace(built, 0.3) == (built, Pace(0.3, 0.3)), "200 steps are enough"
    longer, pace = at_pace(built, 0.1)
    assert longer.training.most_steps == 240 and longer.recipe.data.augment.changes and pace == Pace(0.1, 0.1)
    assert longer.batches.change is not None
    assert any(line.startswith("chosen 240 steps instead") for line in longer.plan(pace))
    plain = built_of("data.augment={}")
    assert at_pace(plain, 0.1) == (plain, Pace(0.1, 0.1))
    shorter, pace = at_pace(built, 1.0)
    assert shorter.batches.batch == shorter.training.batch == whole // 2
    assert pace.early == pytest.approx(0.5, rel=0.05)
    assert f"chosen batches of {whole // 2}, since 60 steps of {whole} are few" in shorter.plan(pace)
    assert any(line.startswith("time   1 minutes, some 58 steps") for line in shorter.plan(Pace(1.0, 1.0)))
    assert any(line.startswith("time   120 steps, some 0.2 of 1 minutes") for line in built.plan(Pace(0.1, 0.1)))
    few, _ = built.at_pace(built, Pace(0.3, 0.3), 15.0)
    assert few.batches.batch == whole // 2, "what is left of the minutes is what counts"
    given = built_of("training.batch=40")
    assert at_pace(given, 1.0) == (given, Pace(1.0, 1.0))
