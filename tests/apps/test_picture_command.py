"""`cymatic picture`, and what it shares with `cymatic sound`. The model is a stand-in, whose colour is the seed."""

import re

import numpy as np
import pytest
from PIL import Image

from cymatic.encoders.text import token_ids
from cymatic.media.picture import PICTURE, Picture, PictureSpec


class Pictures:
    """Makes pictures in the colour of their seed, half clear where `clear`."""

    medium, name, settings, captions = PICTURE, "dots", ("guidance", "steps"), ()

    def __init__(self, clear=False):
        self.clear = clear
        self.asked = []
        self.gives = type("Clear", (), {"shape": (4, 8, 8)})() if clear else PictureSpec(size=8)

    def condition(self, prompt):
        return token_ids(prompt)

    def __call__(self, prompt, *, n, seed, on_step, **how):
        self.condition(prompt)
        self.asked.append((prompt, n, seed, how))
        on_step(1, 1)
        pixels = np.zeros((8, 8, 4 if self.clear else 3))
        made = []
        for one in range(seed, seed + n):
            pixels[..., 0] = one / 100
            if self.clear:
                pixels[:4, :, 3] = 1
            info = {"prompt": prompt, "model": "dots", "version": 2, "sha256": "0" * 64, "seed": one, **how}
            made.append(Picture(pixels.copy(), info))
        return made


@pytest.fixture
def model(monkeypatch):
    made = Pictures()
    monkeypatch.setattr("cymatic.pipelines.load.load_prompted", lambda name, device: made)
    return made


def test_a_picture_tells_how_it_was_made(cli, model, tmp_path):
    ran = cli("picture", "a red apple", "--model", "dots", "--seed", 7, "--guidance", 3, "-o", "apple.png")
    assert (ran.code, ran.out, ran.err) == (0, "apple.png  8 x 8, seed 7\n", "")
    info = Picture.read(tmp_path / "apple.png").info
    assert {name: info[name] for name in ("prompt", "seed", "model", "version", "guidance")} == {
        "prompt": "a red apple", "seed": 7, "model": "dots", "version": 2, "guidance": 3.0,
    }  # fmt: skip
    assert model.asked == [("a red apple", 1, 7, {"guidance": 3.0})]


def test_several_and_a_sheet_of_them(cli, model, tmp_path):
    ran = cli("picture", "a red apple", "--model", "dots", "-n", 20, "-o", "a.png", "--grid", "sheet.png")
    assert ran.code == 0 and len(ran.out.splitlines()) == 21
    for i in (1, 16, 17, 20):
        picture = Picture.read(tmp_path / f"a-{i}.png")
        assert picture.info["seed"] == i - 1 and abs(picture.pixels[0, 0, 0] - (i - 1) / 100) < 0.01
    assert [(n, seed) for _, n, seed, _ in model.asked] == [(16, 0), (4, 16)], "a few at a time"
    sheet = Image.open(tmp_path / "sheet.png")
    assert sheet.width == 12 + 5 * 140, "twenty in five columns"


def test_a_file_of_prompts_names_the_files(cli, model, tmp_path):
    (tmp_path / "prompts.txt").write_text("A red apple\n\nein Frosch\na red apple\n", encoding="utf-8")
    ran = cli("picture", "--prompts", "prompts.txt", "--model", "dots", "-o", "out", "--grid", "sheet.png", "-n", 2)
    assert ran.code == 0, ran.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}-{i}.png" for name in ("a-red-apple", "a-red-apple-2", "ein-frosch") for i in (1, 2)
    }
    assert Picture.read(tmp_path / "out/ein-frosch-2.png").info["prompt"] == "ein Frosch"
    assert Image.open(tmp_path / "sheet.png").width == 12 + 2 * 140, "a row for each prompt"


def test_another_size_keeps_the_shape_and_the_info(cli, model, tmp_path):
    assert cli("picture", "apple", "--model", "dots", "--size", 40, "-o", "a.png").code == 0
    picture = Picture.read(tmp_path / "a.png")
    assert (picture.width, picture.height, picture.info["seed"]) == (40, 40, 0)


def test_a_background_lies_behind_what_is_clear(cli, monkeypatch, tmp_path):
    monkeypatch.setattr("cymatic.pipelines.load.load_prompted", lambda name, device: Pictures(clear=True))
    for colour in ("#00ff00", "lime"):
        assert cli("picture", "apple", "--model", "dots", "--background", colour, "-o", "a.png").code == 0
        picture = Picture.read(tmp_path / "a.png")
        assert picture.pixels.shape == (8, 8, 3) and tuple(picture.pixels[6, 0]) == (0, 1, 0)
    assert cli("picture", "apple", "--model", "dots", "-o", "a.png").code == 0
    assert Picture.read(tmp_path / "a.png").pixels[6, 0, 3] == 0, "without one it stays clear"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "a.png"], "neither words nor --prompts were given; give one of them, such as cymatic picture"),
        (["apple", "--prompts", "p.txt", "-o", "out"], "both words and --prompts were given"),
        (["--prompts", "p.txt", "-o", "a.png"], "a.png is the name of one file, and --prompts makes several"),
        (["--prompts", "p.txt", "-o", "no/out"], "there is no folder no"),
        (["--prompts", "bad.txt", "-o", "out"], r'bad.txt, "word word.*too long'),
        (["--prompts", "latin.txt", "-o", "out"], "latin.txt is not UTF-8"),
        (["apple", "-o", "a.gif"], 'unknown extension ".gif"; use one of .png'),
        (["apple", "-o", "a.png", "--size", "0"], "--size is 0; give a number of pixels from 1 to 8192"),
        (["apple", "-o", "a.png", "--size", "20000"], "--size is 20000"),
        (["apple", "-o", "a.png", "--background", "blu"], '--background "blu" is no colour'),
        (["apple", "-o", "a.png", "--background", "blue"], "pictures without anything clear in them"),
        (["apple", "-o", "a.png", "--top-k", "3"], "takes no --top-k; it takes --guidance, --steps"),
        (["apple", "-o", "a.png", "--grid", "a.jpg"], 'unknown extension ".jpg"; use one of .png'),
        (["apple", "-o", "a.png", "-n", "401", "--grid", "s.png"], "401 pictures don't fit on one sheet"),
        (["apple", "-o", "a.png", "-n", "0"], "0 were asked for"),
        (["apple", "-o", "a.png", "--seed", "-1"], "the seed is -1"),
        (["", "-o", "a.png"], "empty"),
    ],
)
def test_what_is_refused(refuses, model, tmp_path, arguments, said):
    (tmp_path / "p.txt").write_text("apple\n")
    (tmp_path / "bad.txt").write_text("apple\n" + "word " * 200)
    (tmp_path / "latin.txt").write_bytes("übel".encode("latin-1"))
    assert re.search(said, refuses("picture", *arguments, "--model", "dots"))


def test_a_model_of_sounds_makes_no_picture_and_the_reverse(refuses, tiny_run, monkeypatch):
    said = refuses("picture", "low tone", "--model", tiny_run, "-o", "a.png")
    assert "makes sounds and no pictures; say cymatic sound, or give a model of pictures" in said
    monkeypatch.setattr("cymatic.pipelines.load.load_prompted", lambda name, device: Pictures())
    said = refuses("sound", "apple", "--model", "dots", "-o", "a.wav")
    assert "dots makes pictures and no sounds; say cymatic picture" in said


def test_sounds_of_a_file_of_prompts(cli, tiny_run, tmp_path):
    (tmp_path / "prompts.txt").write_text("low tone\nhigh tone\n", encoding="utf-8")
    ran = cli("sound", "--prompts", "prompts.txt", "--model", tiny_run, "-o", "out", "--plot", "drawn")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["high-tone.wav", "low-tone.wav"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["high-tone.png", "low-tone.png"]


def test_a_model_of_pictures_that_was_trained_here(cli, tiny_pictures_run, tmp_path):
    arguments = ["red circle", "--model", tiny_pictures_run, "-n", 2, "--seed", 5, "--temperature", 0.5, "-o", "a.png"]
    assert cli("picture", *arguments).code == 0
    first = Picture.read(tmp_path / "a-2.png")
    assert first.info["prompt"] == "red circle" and first.info["seed"] == 6 and first.info["temperature"] == 0.5
    assert cli("picture", "red circle", *arguments[1:3], "--seed", 6, "--temperature", 0.5, "-o", "b.png").code == 0
    assert np.array_equal(Picture.read(tmp_path / "b.png").pixels, first.pixels), "the same seed, the same picture"


class Ranker:
    """Says that a redder picture is more what was asked for, as aligned encoders would."""


class Ranked(Pictures):
    ranker, has_ranker = Ranker(), True

    def __call__(self, prompt, *, n, keep, ranker, **how):
        assert ranker is self.ranker
        made = super().__call__(prompt, n=n, **how)
        for one in made:
            one.info["score"] = float(one.pixels[0, 0, 0])
        return made[::-1][:keep]


def test_the_best_are_kept_and_their_scores_shown(cli, monkeypatch, tmp_path):
    model = Ranked()
    monkeypatch.setattr("cymatic.pipelines.load.load_prompted", lambda name, device: model)
    ran = cli("picture", "apple", "--model", "dots", "-n", 20, "--keep", 2, "-o", "a.png", "--grid", "g.png")
    assert ran.out.splitlines() == [
        "a-1.png  8 x 8, seed 19, score 0.190", "a-2.png  8 x 8, seed 18, score 0.180", "g.png",
    ]  # fmt: skip
    assert [(n, seed) for _, n, seed, _ in model.asked] == [(20, 0)], "the best of all, not of each sixteen"
    assert not (tmp_path / "a-3.png").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-n", "4", "--keep", "5"], "--keep is 5 of -n 4; give a number from 1 to that"),
        (["--keep", "0"], "--keep is 0 of -n 1"),
        (["-n", "4", "--keep", "2"], "has nothing to choose the best by; leave --keep out, or give --ranker"),
        (["-n", "4", "--ranker", "x"], "--ranker chooses what --keep keeps"),
    ],
)
def test_keeping_needs_something_to_choose_by(refuses, tiny_pictures_run, arguments, said):
    assert said in refuses("picture", "red circle", "-o", "a.png", "--model", tiny_pictures_run, *arguments)


def test_a_ranker_that_aligns_nothing_is_refused(refuses, tiny_pictures_run):
    how = ["-n", "4", "--keep", "2", "--ranker", tiny_pictures_run]
    said = refuses("picture", "red circle", "-o", "a.png", "--model", tiny_pictures_run, *how)
    assert "aligns nothing, so it can't choose" in said


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e308", "-1e308"])
def test_numbers_that_no_model_takes(refuses, tiny_pictures_run, value):
    for option in ("--guidance", "--temperature", "--top-p"):
        said = refuses("picture", "a", "-o", "a.png", "--model", tiny_pictures_run, f"{option}={value}")
        assert "; give one that is " in said
