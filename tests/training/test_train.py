"""Training on a folder of tones: it learns, it resumes bit for bit, and it leaves a model whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tests.helpers import TINY, quiet
from tests.helpers import tiny_recipe as recipe

import cymatic
from cymatic.codecs.soundstream import lumen
from cymatic.errors import Error, ModelError
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.training.loop import schedule
from cymatic.training.recipe import make_recipe, shipped
from cymatic.training.settings import TrainingSettings
from cymatic.training.train import read_run, train


@pytest.fixture
def folder(tones):
    return tones


@pytest.fixture
def run(tiny_run):
    return tiny_run


def state(run):
    (folder,) = (run / "prior/state").iterdir()
    values = json.loads((folder / "state.json").read_text())
    values.pop("seconds")
    return load_file(folder / "state.safetensors"), values


def test_a_resumed_run_equals_an_uninterrupted_one(folder, run, tmp_path):
    def break_off(at):
        if at.step == 38:
            raise KeyboardInterrupt

    settings = recipe(folder, "training.steps=45", "training.checkpoint_steps=15")
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "cut", say=quiet, on_report=break_off)
    assert state(tmp_path / "cut")[1]["step"] == 30
    torch.rand(7)  # whatever else drew random numbers in between
    assert train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=quiet).finished
    (tensors, values), (wanted, wanted_values) = state(tmp_path / "cut"), state(run)
    assert values == wanted_values
    assert tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(tensors[name], tensor), name
    for part in ("prior/model.safetensors", "encoder/model.safetensors"):
        assert (tmp_path / "cut" / part).read_bytes() == (run / part).read_bytes()


def test_a_run_killed_before_its_first_checkpoint(folder, run, tmp_path):
    def break_off(at):
        raise KeyboardInterrupt

    cut = tmp_path / "cut"
    with pytest.raises(KeyboardInterrupt):
        settings = recipe(folder, "training.steps=45", "training.checkpoint_steps=15")
        train(settings, cut, say=quiet, on_report=break_off)
    with pytest.raises(ModelError, match="never trained"):
        cymatic.load(cut)("low tone")
    assert train(read_run(cut), cut, resume=True, say=quiet).finished
    assert (cut / "prior/model.safetensors").read_bytes() == (run / "prior/model.safetensors").read_bytes()


def test_a_run_is_a_model(run):
    model = cymatic.load(run)
    sound = model("low tone", seed=3, steps=2)
    assert sound.rate == 8000 and 0 < sound.seconds <= 0.4
    assert model.name == "tiny"
    assert {path.name for path in run.iterdir()} == {
        *("encoder", "prior", "vocoder", "pipeline.json", "recipe.yaml", "data.json", "logs")
    }
    assert any((run / "logs").iterdir())
    assert json.loads((run / "pipeline.json").read_text())["captions"] == ["high tone", "low tone"]


def test_resuming_a_finished_run_changes_nothing(run, tmp_path):
    run = shutil.copytree(run, tmp_path / "run")
    before = (run / "prior/model.safetensors").read_bytes()
    assert train(read_run(run), run, resume=True, say=quiet).finished
    assert (run / "prior/model.safetensors").read_bytes() == before


def test_minutes_become_steps(folder, tmp_path):
    outcome = train(recipe(folder, "training.minutes=0.2"), tmp_path / "run", say=quiet)
    resolved = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert outcome.finished
    stage = resolved["stages"]["prior"]
    assert stage["training"]["steps"] == outcome.progress.step
    assert stage["training"]["minutes"] is None
    assert stage["training"]["checkpoint_steps"] > 0
    assert stage["part"]["mel"]["rate"] == 8000


@pytest.mark.parametrize(("later", "at_least", "at_most"), [(2.0, 60, 90)])
def test_minutes_hold_where_the_machine_gets_faster_or_slower(folder, tmp_path, monkeypatch, later, at_least, at_most):
    now = 0.0

    def clock():
        nonlocal now
        now += 1e-4
        return now

    monkeypatch.setattr(time, "monotonic", clock)

    def work(at):
        nonlocal now
        now += 1.0 if at.step <= 30 else later

    keys = ("training.minutes=2", "training.checkpoint_steps=10", "training.most_steps=1000")
    settings = recipe(folder, *keys)
    outcome = train(settings, tmp_path / "run", say=quiet, on_report=work)
    assert at_least < outcome.progress.step < at_most
    assert 95 < now < 130
    resolved = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert resolved["stages"]["prior"]["training"]["steps"] == outcome.progress.step


def test_runs_are_not_overwritten(folder, run, tmp_path):
    with pytest.raises(Error, match="already holds a run"):
        train(recipe(folder, "training.steps=1"), run, say=quiet)
    with pytest.raises(ModelError, match="no run to resume"):
        read_run(tmp_path)
    with pytest.raises(Error, match="how long"):
        train(recipe(folder), tmp_path / "endless", say=quiet)


def test_a_state_of_another_recipe_is_refused(folder, run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run, other)
    values = yaml.safe_load((other / "recipe.yaml").read_text())
    values["stages"]["prior"]["part"]["width"] = 64
    (other / "recipe.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match="does not fit"):
        train(read_run(other), other, resume=True, say=quiet)


def test_a_loss_that_is_no_number_stops_with_advice(folder, tmp_path):
    with pytest.raises(ModelError, match=r"a lower training\.learning_rate"):
        train(recipe(folder, "training.steps=200", "training.learning_rate=1e9"), tmp_path / "run", say=quiet)


@pytest.mark.slow
def test_eight_clips_are_learned(folder, tmp_path):
    """The prior overfits two captions of four clips each, and what it then says has the right pitch."""
    settings = [
        "prior.width=96",
        "prior.depth=3",
        "training.steps=800",
        "training.learning_rate=3e-3",
        "vocoder.rounds=30",
    ]
    losses = []
    run = tmp_path / "run"
    train(recipe(folder, *settings), run, say=quiet, on_report=lambda at: losses.append(at.losses["flow"]))
    assert sum(losses[-50:]) / 50 < 0.4 * sum(losses[:5]) / 5
    model = cymatic.load(run)
    for caption, hz in (("low tone", 220), ("high tone", 880)):
        for sound in model(caption, n=4):
            spectrum = abs(torch.fft.rfft(torch.from_numpy(sound.samples[0])))
            assert int(spectrum.argmax()) / sound.seconds == pytest.approx(hz, rel=0.12)


def test_the_schedule_rises_stays_and_falls_to_zero():
    settings = TrainingSettings(steps=100, warmup=10, decay=0.4)
    shares = [schedule(settings, step, 100) for step in range(101)]
    assert shares[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert shares[10:61] == [1.0] * 51
    assert shares[60:] == pytest.approx([1 - i / 40 for i in range(41)])
    assert [schedule(settings, step, 10**9) for step in range(60)] == pytest.approx(shares[:60], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["prior.widht=3"], 'unknown key "stages.prior.part.widht"; did you mean "width"'),
        (["trainin.steps=3"], 'unknown key "trainin"; known: data, minutes, stages, steps, vocoder'),
        (["training.step=3"], 'unknown key "stages.prior.training.step"; did you mean "steps"'),
        (["prior.encoder.dimm=3"], 'unknown key "stages.prior.encoder.dimm"; did you mean "dim"'),
        (["prior.kind=gtp"], r'"stages.prior.part" is .* expected tags: .*gpt'),
        (["prior.width=-3"], '"stages.prior.part.width" is -3'),
        (["training.learning_rate=.nan"], "training.learning_rate"),
        (["sampling.sampler=rk4"], """"stages.prior": sampling: "sampler" is 'rk4'"""),
        (["sampling.guidance_interval=[0.5, 0.2]"], "two times from 0 to 1 in order"),
        (["prior.mel=sound-25k"], 'there is no mel "sound-25k"; did you mean "sound-24k"'),
        (["prior.width"], "a.b=c"),
        (["=3"], "a.b=c"),
        (["prior.width=[1"], "not a YAML value"),
    ],
)  # fmt: skip
def test_settings_that_do_not_exist_are_named(settings, said):
    with pytest.raises(ModelError, match=said) as error:
        make_recipe(None, settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_valid(name):
    assert make_recipe(name, [])


def test_lumens_recipe_has_its_published_size():
    recipe = make_recipe("lumen", ["data.folder=sounds"])
    codec = recipe.stages["codec"].part
    assert codec.network == lumen()
    quantizer = codec.quantizer
    assert isinstance(quantizer, ResidualQuantizerConfig)
    assert (quantizer.levels, quantizer.size, quantizer.dim) == (10, 512, 512)


def test_recipes_that_cannot_be_read(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "list.yaml").write_text("- a")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system ['touch was-run']")
    for name, said in (("bad", "not valid YAML"), ("list", "holds a list"), ("code", "not valid YAML")):
        with pytest.raises(ModelError, match=said):
            make_recipe(tmp_path / f"{name}.yaml", [])
    with pytest.raises(ModelError, match='no recipe "starter-sond"; did you mean "starter-sound"'):
        make_recipe("starter-sond", [])


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupt", "kill -9"])
def test_a_stopped_run_is_a_model_and_resumes(folder, tmp_path, how):
    run = tmp_path / "run"
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-m", "cymatic", "train"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(
        [*command, folder, "--steps", "5000", "-o", run, *settings, "--set", "training.checkpoint_steps=40"],
        stdout=log, stderr=log, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "prior/state/step-40").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)  # anywhere between two checkpoints
    process.send_signal(how)
    code = process.wait(60)
    said = (tmp_path / "log").read_text()
    assert code == (130 if how == signal.SIGINT else -how), said
    cymatic.load(run)("low tone", steps=2)
    before = int(next((run / "prior/state").glob("step-*")).name.removeprefix("step-"))
    if how == signal.SIGINT:
        assert f"stopped at step {before}; go on with: cymatic train --resume --out" in said
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    values["stages"]["prior"]["training"]["steps"] = before + 5  # enough to see it go on
    (run / "recipe.yaml").write_text(yaml.safe_dump(values))
    again = subprocess.run([*command, "--resume", "-o", run], capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"trained {before + 5} steps" in again.stdout
