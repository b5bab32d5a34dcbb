"""Runs that are resumed on data which were moved, or are others by now, and two that want one folder."""

import json
import shutil

import pytest
from tests.helpers import quiet, tiny_recipe, tone, tone_folder

import cymatic
from cymatic.errors import Error
from cymatic.folder_lock import only_writer
from cymatic.hub.parts import read_config, save_part
from cymatic.training.train import read_run, train
from cymatic.vocoders.griffin_lim import GriffinLimVocoder

STEPS = ("training.steps=20", "training.checkpoint_steps=5")


def broken_off(folder, run, *settings, at=12):
    """A run that ended right after step `at`, its last checkpoint being the one before."""

    def break_off(report):
        if report.step == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tiny_recipe(folder, *STEPS, *settings), run, say=quiet, on_report=break_off)
    return run


def resumed(run, folder=None):
    """What a resumed run says, to its end."""
    said = []
    assert train(read_run(run, folder), run, resume=True, say=said.append).finished
    return "\n".join(said)


def weights(run):
    return {part: (run / part / "model.safetensors").read_bytes() for part in ("encoder", "prior")}


@pytest.fixture
def folder(tmp_path):
    return tone_folder(tmp_path / "tones")


def state(run):
    (place,) = (run / "prior/state").iterdir()
    return json.loads((place / "state.json").read_text())


def test_data_that_were_moved_are_found_where_the_user_says(folder, tmp_path):
    whole = tmp_path / "whole"
    train(tiny_recipe(folder, *STEPS), whole, say=quiet)
    run = broken_off(folder, tmp_path / "run")
    shutil.move(folder, tmp_path / "elsewhere")
    with pytest.raises(Error, match=r"tones, which .*run is trained on, is not there; say where.* FOLDER --resume"):
        read_run(run)
    said = resumed(run, tmp_path / "elsewhere")
    assert (
        f"the items are read from {tmp_path / 'elsewhere'} now, and no longer from {folder}, and they are the" in said
    )
    assert "have changed" not in said
    assert weights(run) == weights(whole)
    assert read_run(run).data.folder == str(tmp_path / "elsewhere"), "the next one needs to be told nothing"
    assert "read from" not in resumed(run)


def test_data_that_were_moved_with_their_run_are_found(tmp_path):
    project = tmp_path / "project"
    run = broken_off(tone_folder(project / "data/tones"), project / "runs/tones")
    shutil.move(project, tmp_path / "moved")
    said = resumed(tmp_path / "moved/runs/tones")
    assert f"read from {tmp_path / 'moved/data/tones'} now" in said and "they are the same" in said
    assert not run.exists()


def test_other_data_in_another_place_are_said_to_be_others(folder, tmp_path):
    run = broken_off(folder, tmp_path / "run")
    other = tone_folder(tmp_path / "other", takes=6)
    said = resumed(run, other)
    assert "read from" in said and "they are the same" not in said
    assert "the items have changed since this run began with" in said


def test_losses_of_other_clips_are_no_measure(folder, tmp_path):
    run = broken_off(folder, tmp_path / "run")
    before = state(run)
    (place,) = (run / "prior/state").iterdir()
    (place / "state.json").write_text(json.dumps({**before, "best": -1000.0}))  # no later weights could be better
    for take in range(1, 9):
        tone(440 + take, 0.6, seed=take).write(folder / f"middle-tone_{take}.wav")
    assert cymatic.load(run).captions == ("high tone", "low tone")
    said = resumed(run)
    assert f"what it keeps, the weights of step {before['best_step']}, is measured anew on what is held out now" in said
    after = state(run)
    assert after["best"] > -1000 and after["data"] != before["data"]
    assert after["best_step"] == 20, "these tones are learned better with each step"
    model = cymatic.load(run)
    assert model.captions == ("high tone", "low tone", "middle tone")
    assert model.longest > 1.1, "twice the longest of the new clips, which last 0.6 s"
    said = resumed(run)
    assert "measured anew" not in said


def test_the_same_clips_are_not_measured_anew(folder, tmp_path):
    run = broken_off(folder, tmp_path / "run")
    (place,) = (run / "prior/state").iterdir()
    (place / "state.json").write_text(json.dumps({**state(run), "best": -1000.0}))
    assert "measured anew" not in resumed(run)
    assert state(run)["best"] == -1000


def test_clips_that_went_away_are_no_captions_of_the_model(folder, tmp_path):
    run = broken_off(folder, tmp_path / "run")
    for path in folder.glob("low*"):
        path.unlink()
    assert "goes on with the" in resumed(run)
    assert cymatic.load(run).captions == ("high tone",)


def test_a_finished_run_stays_as_it_is(folder, tmp_path):
    train(tiny_recipe(folder, *STEPS), tmp_path / "run", say=quiet)
    before = weights(tmp_path / "run")
    tone(500).write(folder / "middle-tone_1.wav")
    assert "it is finished and stays as it is; to learn these items, too: cymatic train" in resumed(tmp_path / "run")
    assert weights(tmp_path / "run") == before
    assert cymatic.load(tmp_path / "run").captions == ("high tone", "low tone")


def test_classes_of_a_run_stand_and_others_are_named(folder, tmp_path):
    run = broken_off(folder, tmp_path / "run", "prior.encoder={kind: class, dim: 16}")
    for take in range(1, 4):
        tone(500 + take, seed=take).write(folder / f"middle-tone_{take}.wav")
    said = resumed(run)
    assert "items are left out, for they are longer than any, or of another class" in said and "(middle tone)" in said
    assert cymatic.load(run).captions == ("high tone", "low tone")
    for path in folder.glob("low*"):
        path.unlink()
    resumed(run)
    from cymatic.encoders.classes import ClassEncoder

    assert read_config(run / "encoder", (ClassEncoder,)).names == ("high tone", "low tone")


def test_two_trainings_do_not_share_a_folder(folder, tmp_path):
    run = tmp_path / "run"
    with only_writer(run), pytest.raises(Error, match=r"another cymatic \(process \d+\) is writing to"):
        train(tiny_recipe(folder, *STEPS), run, say=quiet)
    assert not run.exists()
    broken_off(folder, run)
    before = weights(run)
    with only_writer(run), pytest.raises(Error, match="is writing to"):
        train(read_run(run), run, resume=True, say=quiet)
    assert weights(run) == before
    (run / "prior" / ".cymatic-0123.tmp").touch()  # of a writer that was killed
    resumed(run)
    assert not list(run.rglob(".cymatic-*"))


def test_a_run_is_not_written_into_its_data(folder):
    before = sorted(folder.iterdir())
    with pytest.raises(Error, match="holds what is trained on, and a run is a folder of its own"):
        train(tiny_recipe(folder, *STEPS), folder, say=quiet)
    assert sorted(folder.iterdir()) == before


def test_a_run_keeps_its_vocoder_whatever_became_of_its_model(folder, tmp_path):
    run = broken_off(folder, tmp_path / "run")
    save_part(run / "vocoder", GriffinLimVocoder(read_config(run / "vocoder", (GriffinLimVocoder,)).model_copy(
        update={"rounds": 3}
    )))  # fmt: skip
    for take in range(4):
        tone(1500, 0.3, seed=take).write(folder / f"shrill-tone_{take}.wav")
    assert "have changed" in resumed(run), "its captions and what names its parts are written anew"
    assert read_config(run / "vocoder", (GriffinLimVocoder,)).rounds == 3
    assert "shrill tone" in cymatic.load(run).captions
