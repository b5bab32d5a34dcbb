"""A vocoder trained against its judges, through the same loop and command as a prior."""

import numpy as np
import pytest
import torch
from tests.helpers import TINY, autoencoder_of, batch_of, interrupted_after, quiet, tone_folder

import cymatic
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.signal.mel import PRESETS
from cymatic.training.recipe import make_recipe
from cymatic.training.settings import VocoderSettings
from cymatic.training.start import vocoder_for
from cymatic.training.train import read_run, train
from cymatic.vocoders.griffin_lim import GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN
from cymatic.vocoders.vocos import Vocos

SMALL = [
    "data.packs=[]", "vocoder.part={kind: vocos, mel: voice-8k, width: 16, depth: 1, corrections: 1}",
    "stages.vocoder.segment=0.1",
    "stages.vocoder.discriminators={kind: spectrograms, start: 6, warmup: 4, width: 4, segments: 4}",
    "training={batch: 4, warmup: 2, learning_rate: 0.003, betas: [0.8, 0.99], clip: 100}",
]  # fmt: skip
TINY_MELGAN = [
    "vocoder.part={kind: melgan, mel: voice-8k, width: 32, blocks: 1, ratios: [5, 5, 2, 2]}",
    "stages.vocoder.segment=0.1",
    "stages.vocoder.discriminators.width=1", "stages.vocoder.discriminators.segments=2", "training.batch=2",
    "training.learning_rate=1e-3",
]  # fmt: skip


def recipe(folder, *settings):
    return make_recipe("vocoder", [*SMALL, f"data.folder={folder}", *settings])


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


def test_discriminators_come_when_they_are_due(run):
    _, reports = run
    assert ["discriminators" in report.losses for report in reports] == [False] * 6 + [True] * 6
    assert reports[-1].losses["log_mel"] < 0.9 * reports[0].losses["log_mel"]


def test_a_run_holds_a_vocoder_that_speaks(run):
    taken = VocoderSettings(kind="vocos", model=str(run[0]))
    vocoder = vocoder_for(taken, PRESETS["voice-8k"])
    with torch.inference_mode():
        assert vocoder(torch.full((1, 64, 9), -5.0)).shape == (1, 1, 900)
    with pytest.raises(ModelError, match="no trained vocoder for this recipe's mel"):
        vocoder_for(taken, PRESETS["sound-24k"])


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
    going_on = recipe(folder, "training.steps=1", "training.learning_rate=1e-12", f"stages.vocoder.start={run[0]}")
    train(going_on, tmp_path / "run", say=quiet)
    np.testing.assert_allclose(_weights(tmp_path / "run"), _weights(run[0]), atol=1e-6)
    with pytest.raises(ModelError, match="is another one"):
        train(
            recipe(folder, "training.steps=1", "stages.vocoder.part.width=8", f"stages.vocoder.start={run[0]}"),
            tmp_path / "no",
            say=quiet,
        )


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


@pytest.mark.parametrize("kind", ["spectrograms", "scales"])
def test_one_gradient_is_each_sides_own(kind):
    """What the discriminators' weights get does not depend on what pushes the vocoder, nor the other way round."""
    batch = batch_of(0.1 * torch.randn(4, 1, 800, generator=torch.Generator().manual_seed(0)))
    met = [*SMALL, f"stages.vocoder.discriminators.kind={kind}", "stages.vocoder.discriminators.start=0"]

    def gradients(*more: str) -> dict[str, torch.Tensor]:
        task = autoencoder_of(make_recipe("vocoder", [*met, *more]))
        task.steps.fill_(10)
        task(batch, 0)["loss"].backward()
        return {name: p.grad for name, p in task.named_parameters()}

    pushed = gradients("stages.vocoder.objective={}", "stages.vocoder.discriminators.features=0")
    plain = gradients()
    for name in plain:
        same = torch.allclose(plain[name], pushed[name], atol=1e-7)
        assert same == name.startswith("adversary"), name


def test_the_melgan_recipe_is_the_published_one():
    recipe = make_recipe("melgan", [])
    stage = recipe.stages["vocoder"]
    spec, settings = stage.part.reads, stage.training
    assert spec == PRESETS["specvqgan-22k"]
    assert round(stage.segment * spec.rate / spec.hop) * spec.hop == 8192
    assert settings.betas == (0.5, 0.9)
    groups = autoencoder_of(recipe).parameter_groups(settings)
    assert {group["rate"] for group in groups} == {1e-4}
    assert {group.get("weight_decay", 0.0) for group in groups} == {0.0}


def test_melgan_trains_resumes_and_speaks(folder, tmp_path):
    reports = []
    recipe = make_recipe("melgan", [*TINY_MELGAN, f"data.folder={folder}", "training.steps=6"])
    train(recipe, tmp_path / "run", say=quiet, on_report=reports.append)
    assert all({"discriminators", "adversarial", "features"} <= report.losses.keys() for report in reports)
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
        (["stages.vocoder.part.kind=wavenet"], "wavenet"),
        (["stages.vocoder.part.widht=8"], 'unknown key "stages.vocoder.part.widht"; did you mean "width"'),
        (["stages.vocoder.discriminators.width=12"], "power of two"),
        (["stages.vocoder.part.ratios=[2,2]", "training.steps=1"], "multiply to 4 and the mel's hop is 256"),
    ],
)
def test_a_melgan_recipe_that_can_not_be(folder, tmp_path, settings, said):
    with pytest.raises(ModelError, match=said):
        train(make_recipe("melgan", [f"data.folder={folder}", *settings]), tmp_path / "run", say=quiet)
