"""A vocoder trained against its judges, through the same loop and command as a prior."""

import numpy as np
import pytest
import torch
from tests.helpers import TINY, interrupted_after, quiet, tone_folder

import cymatic
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.signal.mel import PRESETS
from cymatic.training.jobs import load_vocoder, vocoder_for
from cymatic.training.recipe import VocoderSettings, make_recipe, parse_recipe
from cymatic.training.train import read_run, train
from cymatic.training.vocoder_task import VocoderTask
from cymatic.vocoders.griffin_lim import GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN
from cymatic.vocoders.vocos import Vocos

SMALL = [
    "kind=vocoder", "mel=voice-8k", "vocoder.width=16", "vocoder.depth=1", "vocoder.corrections=1", "judges.piece=0.1",
    "judges.alone=6", "judges.judges_warmup=4", "judges.judge_width=4", "training.batch=4", "training.warmup=2",
    "training.learning_rate=3e-3",
]  # fmt: skip


TINY_MELGAN = [
    "mel=voice-8k", "vocoder.width=32", "vocoder.blocks=1", "vocoder.ratios=[5,5,2,2]", "judges.piece=0.1",
    "judges.judge_width=1", "judges.judged=2", "training.batch=2", "training.learning_rate=1e-3",
]  # fmt: skip


def recipe(folder, *settings):
    return make_recipe(None, [*SMALL, f"data.folder={folder}", *settings])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tone_folder(tmp_path_factory.mktemp("vocoder") / "tones")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("vocoder") / "run"
    reports = []
    outcome = train(recipe(folder, "training.steps=12"), place, say=quiet, on_report=reports.append)
    assert outcome.finished
    return place, reports


def test_judges_come_when_they_are_due(run):
    _, reports = run
    assert ["judges" in report.losses for report in reports] == [False] * 6 + [True] * 6
    assert reports[-1].losses["mel"] < 0.9 * reports[0].losses["mel"]


def test_a_run_holds_a_vocoder_that_speaks(run):
    vocoder = load_vocoder(str(run[0]), PRESETS["voice-8k"])
    with torch.inference_mode():
        assert vocoder(torch.full((1, 64, 9), -5.0)).shape == (1, 1, 900)
    with pytest.raises(ModelError, match="no trained vocoder for this recipe's mel"):
        load_vocoder(str(run[0]), PRESETS["sound-24k"])


def test_resumed_equals_uninterrupted(folder, run, tmp_path):
    train(recipe(folder, "training.steps=12"), tmp_path / "run", say=quiet, on_report=interrupted_after(7))
    assert not np.array_equal(_weights(tmp_path / "run"), _weights(run[0]))
    train(read_run(tmp_path / "run"), tmp_path / "run", resume=True, say=quiet)
    np.testing.assert_array_equal(_weights(tmp_path / "run"), _weights(run[0]))


def _weights(run):
    return np.concatenate(
        [p.detach().numpy().ravel() for p in load_part(run / "vocoder", (Vocos, MelGAN)).parameters()]
    )


def test_it_goes_on_from_another(folder, run, tmp_path):
    going_on = recipe(folder, "training.steps=1", "training.learning_rate=1e-12", f"start={run[0]}")
    train(going_on, tmp_path / "run", say=quiet)
    np.testing.assert_allclose(_weights(tmp_path / "run"), _weights(run[0]), atol=1e-6)
    with pytest.raises(ModelError, match="another size"):
        train(recipe(folder, "training.steps=1", "vocoder.width=8", f"start={run[0]}"), tmp_path / "no", say=quiet)


def test_a_prior_takes_it_over(folder, run, tmp_path):
    settings = [*TINY, f"data.folder={folder}", "training.steps=2", "vocoder.kind=vocos", f"vocoder.model={run[0]}"]
    train(make_recipe(None, settings), tmp_path / "model", say=quiet)
    model = cymatic.load(tmp_path / "model")
    assert isinstance(model.vocoder, Vocos)
    assert len(model("low tone", seconds=0.2, steps=1)) == 1600


def test_what_a_prior_takes_where_nothing_fits():
    spec = PRESETS["voice-8k"]
    assert isinstance(vocoder_for(VocoderSettings(), spec), GriffinLimVocoder)
    assert isinstance(vocoder_for(VocoderSettings(), PRESETS["sound-24k"]), Vocos)
    with pytest.raises(ModelError, match="no trained vocoder"):
        vocoder_for(VocoderSettings(kind="vocos"), spec)


@pytest.mark.parametrize("settings", [SMALL, [*SMALL, "judges.kind=scales"]], ids=["spectrograms", "scales"])
def test_one_gradient_is_each_sides_own(settings):
    """What the judges' weights get does not depend on what the vocoder is pushed by, nor the other way round."""
    job = make_recipe(None, [*settings, "judges.alone=0"])
    batch = 0.1 * torch.randn(4, 1, 800, generator=torch.Generator().manual_seed(0))

    def gradients(*more: str) -> dict[str, torch.Tensor]:
        changed = make_recipe(None, [*settings, "judges.alone=0", *more])
        task = VocoderTask(job.vocoder, changed.judges, PRESETS["voice-8k"], seed=0)
        task.steps.fill_(10)
        task(batch, 0)["loss"].backward()
        return {name: p.grad for name, p in task.named_parameters()}

    plain, pushed = gradients(), gradients("judges.mel_weight=0", "judges.feature_weight=0")
    for name in plain:
        same = torch.allclose(plain[name], pushed[name], atol=1e-7)
        assert same == name.startswith("judges"), name


def test_a_recipe_of_before_means_vocos():
    """Recipes of runs that exist name no kind."""
    written = make_recipe("vocoder", []).model_dump(mode="json")
    before = {**written, "vocoder": {k: v for k, v in written["vocoder"].items() if k != "kind"}}
    before["judges"] = {k: v for k, v in written["judges"].items() if k != "kind"}
    assert parse_recipe(before, "recipe.yaml") == parse_recipe(written, "recipe.yaml")
    assert before["vocoder"].keys() == {"width", "depth", "widening", "corrections"}


def test_the_melgan_recipe_is_the_published_one():
    recipe = make_recipe("melgan", [])
    spec = recipe.mel_spec()
    task = VocoderTask(recipe.vocoder, recipe.judges, spec, seed=0)
    assert spec == PRESETS["specvqgan-22k"]
    assert spec.frames(round(recipe.judges.piece * spec.rate)) * spec.hop == 8192
    assert task.betas == (0.5, 0.9)
    rates = {group["rate"] for group in task.parameter_groups(recipe.training)}
    decays = {group.get("weight_decay", 0.0) for group in task.parameter_groups(recipe.training)}
    assert (rates, decays) == ({1e-4}, {0.0})


def test_melgan_trains_resumes_and_speaks(folder, tmp_path):
    reports = []
    recipe = make_recipe("melgan", [*TINY_MELGAN, f"data.folder={folder}", "training.steps=6"])
    train(recipe, tmp_path / "run", say=quiet, on_report=reports.append)
    assert all({"judges", "fool", "features"} <= report.losses.keys() for report in reports)
    train(recipe, tmp_path / "again", say=quiet, on_report=interrupted_after(3))
    train(read_run(tmp_path / "again"), tmp_path / "again", resume=True, say=quiet)
    np.testing.assert_array_equal(_weights(tmp_path / "again"), _weights(tmp_path / "run"))
    spec = PRESETS["voice-8k"]
    vocoder = vocoder_for(VocoderSettings(kind="melgan", model=str(tmp_path / "run")), spec)
    assert isinstance(vocoder, MelGAN) and int(vocoder.steps_trained) == 6
    assert isinstance(vocoder_for(VocoderSettings(model=str(tmp_path / "run")), spec), MelGAN)
    with pytest.raises(ModelError, match="is of the kind melgan, and vocoder"):
        vocoder_for(VocoderSettings(kind="vocos", model=str(tmp_path / "run")), spec)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["vocoder.kind=wavenet"], "wavenet"),
        (["vocoder.widht=8"], 'unknown key "vocoder.+widht"; did you mean "width"'),
        (["judges.judge_width=12"], "power of two"),
        (["vocoder.ratios=[2,2]", "training.steps=1"], "multiply to 4 and the mel's hop is 256"),
    ],
)
def test_a_melgan_recipe_that_can_not_be(folder, tmp_path, settings, said):
    with pytest.raises(ModelError, match=said):
        train(make_recipe("melgan", [f"data.folder={folder}", *settings]), tmp_path / "run", say=quiet)
