"""A vocoder trained against its judges, through the same loop and command as a prior."""

import numpy as np
import pytest
import torch
from tests.helpers import TINY, tone_folder

import cymatic
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.signal.mel import PRESETS
from cymatic.training.jobs import load_vocoder, vocoder_for
from cymatic.training.recipe import VocoderSettings, make_recipe
from cymatic.training.train import read_run, train
from cymatic.training.vocoder_task import VocoderTask
from cymatic.vocoders.griffin_lim import GriffinLimVocoder
from cymatic.vocoders.vocos import Vocos

SMALL = [
    "kind=vocoder", "mel=voice-8k", "vocoder.width=16", "vocoder.depth=1", "vocoder.corrections=1", "judges.piece=0.1",
    "judges.alone=6", "judges.judges_warmup=4", "judges.judge_width=4", "training.batch=4", "training.warmup=2",
    "training.learning_rate=3e-3",
]  # fmt: skip


def quiet(line: str) -> None:
    pass


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
    train(recipe(folder, "training.steps=12"), tmp_path / "run", say=quiet, on_report=_stop_after(7))
    assert not np.array_equal(_weights(tmp_path / "run"), _weights(run[0]))
    train(read_run(tmp_path / "run"), tmp_path / "run", resume=True, say=quiet)
    np.testing.assert_array_equal(_weights(tmp_path / "run"), _weights(run[0]))


def _stop_after(step):
    import signal

    def report(at):
        if at.step == step:
            signal.raise_signal(signal.SIGINT)

    return report


def _weights(run):
    return np.concatenate([p.detach().numpy().ravel() for p in load_part(run / "vocoder", (Vocos,)).parameters()])


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


def test_one_gradient_is_each_sides_own():
    """What the judges' weights get does not depend on what the vocoder is pushed by, nor the other way round."""
    job = make_recipe(None, [*SMALL, "judges.alone=0"])
    batch = 0.1 * torch.randn(4, 1, 800, generator=torch.Generator().manual_seed(0))

    def gradients(*settings: str) -> dict[str, torch.Tensor]:
        changed = make_recipe(None, [*SMALL, "judges.alone=0", *settings])
        task = VocoderTask(job.vocoder, changed.judges, PRESETS["voice-8k"], seed=0)
        task.steps.fill_(10)
        task(batch, 0)["loss"].backward()
        return {name: p.grad for name, p in task.named_parameters()}

    plain, pushed = gradients(), gradients("judges.mel_weight=0", "judges.feature_weight=0")
    for name in plain:
        same = torch.allclose(plain[name], pushed[name], atol=1e-7)
        assert same == name.startswith("judges"), name
