"""`--captions` means one thing in every command that reads what the files of a folder are called."""

import json
import os
import tarfile

import pytest
import yaml
from tests.helpers import TINY, quiet, tiny_recipe, tone

from cymatic.data.shards import Shards
from cymatic.training.train import train

SETTINGS = [part for setting in TINY for part in ("--set", setting)]
# What is a name of two folders and of two files, in a folder that auto reads by both.
CALLED = {"red/low-tone_1": 220, "blue/low-tone_1": 230, "red/high-tone_1": 880, "blue/high-tone_2": 900}


@pytest.fixture
def both(tmp_path):
    for name, hz in CALLED.items():
        (tmp_path / "both" / name).parent.mkdir(parents=True, exist_ok=True)
        for take in range(3):
            tone(hz + take, 0.3, seed=take).write(tmp_path / f"both/{name}{take}.wav")
    return tmp_path / "both"


def test_classifier_train(cli, both):
    ran = cli("classifier", "train", both, "-o", "auto", "--minutes", "0.01")
    assert ran.code == 0 and "chosen captions by the folders' and the files' names, since 100 % of" in ran.err, ran
    assert len(json.loads((both.parent / "auto/config.json").read_text())["labels"]["caption"]) == 4
    assert ran.out.splitlines()[-1].endswith("--classifier auto --captions both -o report")
    ran = cli("classifier", "train", both, "-o", "files", "--minutes", "0.01", "--captions", "file")
    assert ran.code == 0 and ran.err == "" and " --captions file " in ran.out.splitlines()[-1]
    assert json.loads((both.parent / "files/config.json").read_text())["labels"]["caption"] == ["high tone", "low tone"]


def test_evaluate(cli, tiny_run, both, monkeypatch):
    monkeypatch.setattr("cymatic.apps.evaluate_command.OWN_SECONDS", 0.3)
    ran = cli("evaluate", tiny_run, "--data", both, "-n", 2, "-o", "auto")
    assert ran.code == 2 and "knows none of the 4 captions" in ran.err
    assert "chosen captions by the folders' and the files' names" in ran.err
    ran = cli("evaluate", tiny_run, "--data", both, "-n", 2, "-o", "report", "--captions", "file")
    assert ran.code == 0 and "chosen" not in ran.err, ran
    report = json.loads((both.parent / "report/report.json").read_text())
    assert report["protocol"]["captions"] == {"low tone": 2}


def test_evaluate_of_packs_that_say_it_themselves(cli, both, monkeypatch):
    monkeypatch.setattr("cymatic.apps.evaluate_command.OWN_SECONDS", 0.3)
    settings = ["data.packs=[{folder: both, captions: file}]", "training.steps=1"]
    train(tiny_recipe(both.parent, *settings), both.parent / "run", say=quiet)
    ran = cli("evaluate", "run", "-n", 2, "-o", "folders", "--captions", "folder")
    assert ran.code == 2 and "run knows none of the 2 captions" in ran.err and '"blue"' in ran.err


def test_train_by_a_recipe_whose_packs_say_it_themselves(cli, both, tmp_path):
    recipe = {"data": {"packs": [{"folder": "both", "captions": "file"}]}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    common = ["train", tmp_path, "--recipe", "r.yaml", "--steps", "1", *SETTINGS, "--no-verdict"]
    for options, captions in ((), ["high tone", "low tone"]), (("--captions", "folder"), ["blue", "red"]):
        run = f"run-{len(options)}"
        assert cli(*common, *options, "-o", run).code == 0
        assert json.loads((tmp_path / run / "pipeline.json").read_text())["captions"] == captions


def test_encode_into_shards(cli, refuses, both, codec_folder):
    common = ["encode", both, "--model", codec_folder, "--engine", "local", "--workers", "1"]
    ran = cli(*common, "-o", "auto")
    assert ran.code == 0 and "chosen captions by the folders' and the files' names" in ran.err
    assert {one.caption for one in Shards("auto")} == {
        f"{a} {b} tone" for a in ("red", "blue") for b in ("low", "high")
    }
    ran = cli(*common, "-o", "files", "--captions", "file")
    assert (ran.code, ran.err) == (0, "")
    assert {one.caption for one in Shards("files")} == {"low tone", "high tone"}
    said = refuses("encode", both, "-o", "codes", "--model", codec_folder, "--captions", "file")
    assert "single files have no captions; leave --captions out, or give --engine local" in said


def test_what_is_no_way_to_make_captions(refuses, both, tiny_run, codec_folder):
    wrong = """captions can't be made by "files"; did you mean "file"?"""
    for command in (
        ["classifier", "train", both, "-o", "c"], ["evaluate", tiny_run, "--data", both, "-o", "r"],
        ["data", "inspect", both], ["train", both, "-o", "t"], ["retrieve", "a tone", both, "--model", codec_folder],
        ["encode", both, "-o", "e", "--model", codec_folder, "--engine", "local"],
    ):  # fmt: skip
        assert wrong in refuses(*command, "--captions", "files")
    assert not os.path.exists("c")


def test_archives_have_captions_of_their_own(refuses, tmp_path, codec_folder):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/a.tar", "w") as tar:
        tar.add(tone(300).write(tmp_path / "a.wav"), "a.wav")
    common = ["encode", "in", "-o", "out", "--model", codec_folder, "--engine", "local", "--workers", "1"]
    assert "whose sounds are called as their .txt, their .json" in refuses(*common, "--captions", "file")
