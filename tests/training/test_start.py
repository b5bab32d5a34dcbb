"""Going on from another model: its weights and statistics, new captions, and one sentence where it doesn't fit."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from tests.helpers import TINY, quiet, tiny_recipe, tone

from cymatic.encoders.text import TextEncoder
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.priors.flow import FlowPrior
from cymatic.training.build import build
from cymatic.training.built import Context
from cymatic.training.hardware import make_fabric
from cymatic.training.recipe import make_recipe
from cymatic.training.start import fitting, load_start
from cymatic.training.train import read_run, train

LENGTH = ["training.steps=45", "training.checkpoint_steps=15"]
CHANGES = ["data.augment.gain=2", "data.augment.shift=0.05", "data.augment.filter=3", "data.augment.mix=0.5"]


def built_of(recipe):
    return build(Context(recipe, "prior", make_fabric("cpu"), Path("none"), resumed=False, strict=False, say=quiet))


@pytest.fixture
def beeps(tmp_path):
    """Sounds unlike those that the start was trained on, under other captions, one of them longer."""
    (tmp_path / "beeps").mkdir()
    for take in range(1, 9):
        tone(440 + 9 * take, 0.9 if take == 8 else 0.2, seed=take).write(tmp_path / f"beeps/quick-beep_{take}.wav")
    return tmp_path / "beeps"


def from_tiny(folder, run, *settings):
    """Nothing but the batch and the vocoder is set, as in TINY."""
    small = ["training.batch=8", "training.warmup=5", "vocoder.rounds=2"]
    return make_recipe(None, [*small, f"data.folder={folder}", f"prior.start={run}", *settings])


def test_the_first_loss_is_the_starts_own(tones, tiny_run):
    built = built_of(from_tiny(tones, tiny_run, *LENGTH, "training.condition_dropout=0"))
    encoder, prior = load_part(tiny_run / "encoder", (TextEncoder,)), load_part(tiny_run / "prior", (FlowPrior,))
    batch = built.batches[0]
    built.task.eval()
    got = built.task(batch, 5)
    draws = torch.Generator().manual_seed(5)
    cond = encoder(batch.captions).drop(0, draws)
    wanted = prior.loss(batch.target, batch.lengths, cond, draws)
    assert {name: value.item() for name, value in got.items()} == {name: value.item() for name, value in wanted.items()}
    stage = built.recipe.stages["prior"]
    assert stage.part.mel == prior.config.mel, "the recipe left it open"
    assert (stage.part.width, stage.part.depth, stage.encoder.dim) == (32, 1, 16)
    assert stage.start == str(tiny_run)


def test_statistics_stay_and_longer_sounds_are_told_from_there(beeps, tiny_run):
    task = built_of(from_tiny(beeps, tiny_run, *LENGTH)).task
    start = load_start(str(tiny_run))
    assert torch.equal(task.prior.mean, start.prior.mean) and torch.equal(task.prior.std, start.prior.std)
    assert start.prior.longest < task.prior.longest == 72
    vector = torch.nn.functional.normalize(torch.randn(4, 16), dim=-1)
    for ours, theirs in zip(task.prior._length(vector), start.prior._length(vector), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_shorter_sounds_leave_the_longest_as_it_was(tiny_run):
    start = load_start(str(tiny_run))
    prior = FlowPrior(start.prior.config)
    start.give(TextEncoder(start.encoder.config), prior, 3)
    assert prior.longest == start.prior.longest


def test_it_learns_new_captions_and_says_where_it_began(beeps, tiny_run, tmp_path):
    run = tmp_path / "run"
    assert train(from_tiny(beeps, tiny_run, *LENGTH), run, say=quiet).finished
    assert json.loads((run / "pipeline.json").read_text())["captions"] == ["quick beep"]
    resolved = yaml.safe_load((run / "recipe.yaml").read_text())
    stage = resolved["stages"]["prior"]
    assert stage["start"] == str(tiny_run) and stage["part"]["width"] == 32


@pytest.mark.parametrize("begins", [True, False], ids=["from a start", "from scratch"])
def test_a_resumed_run_equals_an_uninterrupted_one_with_all_changes(beeps, tiny_run, tmp_path, begins):
    def break_off(at):
        if at.step == 22:
            raise KeyboardInterrupt

    first = shutil.copytree(tiny_run, tmp_path / "first")
    more = [*LENGTH, *CHANGES, "prior.dropout=0.1"]
    recipe = from_tiny(beeps, first, *more) if begins else tiny_recipe(beeps, *more)
    assert train(recipe, tmp_path / "whole", say=quiet).finished
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", say=quiet, on_report=break_off)
    shutil.rmtree(first)  # what has begun needs it no more
    assert train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=quiet).finished
    for part in ("prior", "encoder"):
        name = f"{part}/model.safetensors"
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_run_stopped_before_its_first_checkpoint_begins_from_its_start_again(tones, tiny_run, tmp_path):
    def break_off(at):
        raise KeyboardInterrupt

    recipe = from_tiny(tones, tiny_run, "training.steps=16", "training.checkpoint_steps=15")
    train(recipe, tmp_path / "whole", say=quiet)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", say=quiet, on_report=break_off)
    train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=quiet)
    name = "prior/model.safetensors"
    assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_does_not_fit_is_one_sentence(tones, tiny_run, tiny_codes_run, tmp_path):
    def said(start, *settings) -> str:
        with pytest.raises(ModelError) as error:
            built_of(from_tiny(tones, start, *LENGTH, *settings))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "reads another target" in said(tiny_run, "prior.mel=sound-24k")
    assert "prior.depth is 2 and that of" in said(tiny_run, "prior.depth=2")
    assert "prior.dim is 32" in said(tiny_run, "prior.encoder.dim=32")
    assert 'there is no model "starter-sond" to start from' in said("starter-sond")
    assert "is of the kind gpt, and this recipe's of the kind flow" in said(tiny_codes_run)
    assert "holds no pipeline.json" in said(tones)
    untrained = shutil.copytree(tiny_run, tmp_path / "untrained")
    weights = load_file(untrained / "prior/model.safetensors")
    save_file({**weights, "steps_trained": torch.tensor(0)}, untrained / "prior/model.safetensors")
    assert "was never trained" in said(untrained)


def test_only_an_open_recipe_of_the_starters_mel_may_go_on_from_it():
    assert fitting(make_recipe(None, []), "prior").name == "starter-sound"
    fits = make_recipe(None, ["prior.mel=sound-24k", "prior.dropout=0.1", "prior.encoder.kind=text"])
    assert fitting(fits, "prior").name == "starter-sound"
    for settings in (["prior.mel=voice-8k"], ["prior.width=192"], ["prior.encoder.dim=64"], ["prior.start=null"], TINY):
        assert fitting(make_recipe(None, settings), "prior") is None, settings
