"""`cymatic data inspect` and `cymatic data cache`; packs, `--strict` and changing folders in `cymatic train`."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.helpers import TINY, tone, tone_folder

from cymatic.media.picture import Picture

SETTINGS = [part for setting in TINY for part in ("--set", setting)]


def test_inspect_says_what_there_is(cli, tmp_path):
    root = tone_folder(tmp_path / "my sounds", takes=5)
    (root / "[red]broken\x1b.wav").write_text("this is no sound")
    (root / "дождь 🌧.wav").write_bytes((root / "low-tone_1.wav").read_bytes())
    ran = cli("data", "inspect", "my sounds", "-o", "sheet.png")
    assert (ran.code, ran.err) == (0, "")
    lines = {line.split()[0]: line for line in ran.out.splitlines()}
    assert lines["layout"] == "layout    file names"
    assert re.fullmatch(r"clips     11 \(\d+ to train on, \d held out\), 0.00 hours", lines["clips"])
    assert lines["lengths"] == "lengths   0.25 to 0.45 s, half of them up to 0.35 s"
    assert lines["rates"] == "rates     8000 Hz 11"
    assert lines["captions"] == "captions  3: high tone 5, low tone 5, дождь 🌧 1"
    assert lines["problems"] == "problems  1 broken, 1 copied"
    assert lines["broken:"].startswith("  broken:    [red]broken\ufffd.wav: has a caption that can't be")
    assert lines["copied:"] == "  copied:    low-tone_1.wav = дождь 🌧.wav"
    assert lines["sheet"] == "sheet     sheet.png"
    with Image.open("sheet.png") as picture:
        assert picture.width == 1002
    assert sorted(os.listdir(tmp_path)) == ["my sounds", "sheet.png"], "nothing else is written"


def test_inspect_without_problems(cli, tones):
    ran = cli("data", "inspect", tones, "--strict")
    assert ran.code == 0 and "problems  none" in ran.out


def test_many_problems_are_counted(cli, tmp_path):
    root = tone_folder(tmp_path / "a")
    for i in range(30):
        (root / f"{i}.txt").write_text("x")
        (root / f"x{i}.wav").write_text("x")
    out = cli("data", "inspect", "a").out
    assert "problems  30 broken, 30 no sound" in out
    assert len(re.findall("^  broken:", out, re.MULTILINE)) == 11 and "  broken:    and 20 more" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect", "nope"], "nope does not exist"),
        (["inspect", "empty"], "empty holds no sound"),
        (["inspect", "bad", "--strict"], r"x.wav: is not a sound.*mend or remove it, or leave out --strict"),
        (["inspect", "bad", "-o", "sheet.jpg"], 'unknown extension ".jpg"'),
        (["inspect", "bad", "-o", "nope/sheet.png"], "there is no folder nope"),
        (["inspect"], "Missing argument 'folder'"),
        (["inspct"], "No such command 'inspct'"),
    ],
)
def test_bad_inspections(refuses, tmp_path, arguments, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/x.wav").write_text("this is no sound")
    assert re.search(said, refuses("data", *arguments))


def test_data_alone_shows_what_it_can_do(cli):
    ran = cli("data")
    assert ran.code == 0 and "inspect" in ran.out and "cache" in ran.out


def test_the_cache_is_told_and_cleared(cli, tones, tmp_path, monkeypatch):
    monkeypatch.setenv("CYMATIC_CACHE", str(tmp_path / "cache"))
    assert cli("data", "inspect", tones).code == 0
    assert re.search(r"cache/features  \d+ entries, 0.0 MB \(--clear empties it\)", cli("data", "cache").out)
    assert cli("data", "cache", "--clear").out.endswith("cache/features  0 entries, 0.0 MB\n")
    assert cli("data", "inspect", tones).code == 0


def test_a_cache_that_cannot_be_written_costs_one_note(cli, tones, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("a file where the cache should be")
    monkeypatch.setenv("CYMATIC_CACHE", str(tmp_path / "cache"))
    ran = cli("data", "inspect", tones)
    assert ran.code == 0 and "problems  none" in ran.out
    assert ran.err.startswith("cymatic: note: features are not cached, for ") and len(ran.err.splitlines()) == 1
    ran = cli("train", tones, "--steps", 1, "-o", "run", *SETTINGS)
    assert ran.code == 0 and ran.err.count("features are not cached") == 1, ran


def test_train_strictly(cli, tmp_path):
    root = tone_folder(tmp_path / "sounds")
    (root / "notes.md").write_text("no sound, and no harm")
    assert cli("train", "sounds", "--steps", 1, "--strict", "-o", "run", *SETTINGS).code == 0
    (root / "x.wav").write_text("this is no sound")
    shutil.rmtree(tmp_path / "run")
    ran = cli("train", "sounds", "--steps", 1, "--strict", "-o", "run", *SETTINGS)
    assert (ran.code, ran.out) == (2, "")
    assert re.search(r"^cymatic: .*x.wav: is not a sound.* leave out --strict$", ran.err.splitlines()[-1])
    assert not (tmp_path / "run").exists()


def test_a_recipe_of_packs_lies_in_the_folder_given(cli, refuses, tmp_path):
    tone_folder(tmp_path / "base/tones")
    (tmp_path / "base/noise").mkdir()
    tone(0, 0.3).write(tmp_path / "base/noise/hiss.wav")
    (tmp_path / "my.yaml").write_text("data: {packs: [{folder: tones, where: {caption: low tone}}, {folder: noise}]}")
    ran = cli("train", "base", "--recipe", "my.yaml", "--steps", 1, "-o", "run", *SETTINGS)
    assert ran.code == 0 and "reading 4 of 8 sounds" in ran.err and "reading 1 sounds" in ran.err, ran
    assert json.loads((tmp_path / "run/pipeline.json").read_text())["captions"] == ["hiss", "low tone"]
    assert cli("train", "--resume", "-o", "run").code == 0, "the run knows where its packs are"
    shutil.rmtree(tmp_path / "run")
    bare = ["train", "--recipe", "my.yaml", "--steps", 1, "-o", "new", *SETTINGS]
    assert "where is the pack tones? Give the folder that holds it" in refuses(*bare)
    (tmp_path / "my.yaml").write_text(f"data: {{packs: [{{folder: '{tmp_path / 'base/tones'}'}}]}}")
    assert cli(*bare).code == 0


def test_a_folder_that_changed_is_told_when_a_run_goes_on(cli, tmp_path):
    root = tone_folder(tmp_path / "sounds")
    assert cli("train", "sounds", "--steps", 2, "-o", "run", *SETTINGS).code == 0
    assert "have changed" not in cli("train", "--resume", "-o", "run").err
    tone(300, 0.5).write(root / "new.wav")
    ran = cli("train", "--resume", "-o", "run")
    assert ran.code == 0 and "note   the items have changed since this run began with " in ran.err


def test_inspect_knows_pictures(cli, tmp_path):
    root = tmp_path / "pictures"
    root.mkdir()
    for take in (1, 2):
        ramp = np.linspace(0, 1, 64 * 3 * take).reshape(8, 8 * take, 3)
        Picture(ramp).write(root / f"red-house_{take}.png")
    Picture(np.ones((8, 8, 3))).write(root / "snow.png")
    tone(300, 0.1).write(root / "snow.wav")
    ran = cli("data", "inspect", str(root), "-o", str(tmp_path / "out.png"))
    assert (ran.code, ran.err) == (0, "")
    said = ran.out.splitlines()
    assert said[1:8] == [
        "layout    file names",
        "clips     3 (3 to train on)",
        "roles     picture 3, audio 1; inspected: picture",
        "widths    8 2, 16 1",
        "heights   8 3",
        "captions  2: red house 2, snow 1",
        "problems  1 blank",
    ]
    assert said[8] == "  blank:     snow.png is blank, and is skipped"
    assert Picture.read(tmp_path / "out.png").width > 128


def kits(root):
    names = ("Dusty/Kick-1", "Dusty/SnareRim-1", "Bright/Kick-1", "Bright/SnareRim-2", "Bright/Kick-2")
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tone(200 + 40 * i, 0.3, 8000).write(root / f"{name}.wav")
    return root


def test_inspect_says_of_which_names_captions_are(cli, tmp_path):
    kits(tmp_path / "kits")
    out = cli("data", "inspect", "kits").out
    assert "\ncaptions  4: Bright Kick 2, Bright Snare Rim 1, Dusty Kick 1, Dusty Snare Rim 1\n" in out
    assert "\nchosen    captions by the folders' and the files' names, since 100 % of the files have a name that" in out
    out = cli("data", "inspect", "kits", "--captions", "file").out
    assert "\ncaptions  2: Kick 3, Snare Rim 2\n" in out and "since that was asked for; --captions folder or" in out
    assert "\ncaptions  2: Bright 3, Dusty 2\n" in cli("data", "inspect", "kits", "--captions", "folder").out
    ran = cli("data", "inspect", "kits", "--captions", "files")
    assert ran.code == 2 and ran.err == """cymatic: captions can't be made by "files"; did you mean "file"?\n"""


def test_train_learns_the_captions_that_were_chosen(cli, tmp_path):
    kits(tmp_path / "kits")
    ran = cli("train", "kits", "--steps", 2, *SETTINGS, "--captions", "file", "-o", "run", "--no-verdict")
    assert ran.code == 0 and "(by file names)" in ran.err and "chosen captions" not in ran.err
    assert json.loads((tmp_path / "run/pipeline.json").read_text())["captions"] == ["Kick", "Snare Rim"]
    ran = cli("train", "--resume", "--captions", "both", "-o", "run")
    assert ran.code == 2 and "a resumed run keeps its recipe" in ran.err


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_linked_class_folders_are_counted_and_loops_named(cli, tmp_path):
    kits(tmp_path / "kits")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/rain").symlink_to(tmp_path / "kits/Bright")
    (tmp_path / "set/dog").symlink_to(tmp_path / "kits/Dusty")
    (tmp_path / "kits/Dusty/loop").symlink_to("..")
    out = cli("data", "inspect", "set", "--captions", "folder").out
    assert "\ncaptions  2: rain 3, dog 2\n" in out
    (tmp_path / "kits/Dusty/loop").unlink()
    (tmp_path / "kits/Dusty/loop").symlink_to(".")
    out = cli("data", "inspect", "set", "--captions", "folder").out
    assert "\ncaptions  2: rain 3, dog 2\n" in out
    assert "\n  no sound:  dog/loop is a link to a folder that is read under another name\n" in out
