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
    monkeypatch.setattr("cymatic.pipelines.load.load_generator", lambda name, device: made)
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
    monkeypatch.setattr("cymatic.pipelines.load.load_generator", lambda name, device: Pictures(clear=True))
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


def test_no_model_of_pictures_comes_with_it_yet(refuses, monkeypatch):
    monkeypatch.setattr("cymatic.pipelines.load.starters", dict)
    assert "no model of pictures comes with cymatic yet; give one with --model" in refuses(
        "picture", "a", "-o", "a.png"
    )


def test_a_model_of_sounds_makes_no_picture_and_the_reverse(refuses, tiny_run, monkeypatch):
    said = refuses("picture", "low tone", "--model", tiny_run, "-o", "a.png")
    assert "makes sounds and no pictures; say cymatic sound, or give a model of pictures" in said
    monkeypatch.setattr("cymatic.pipelines.load.load_generator", lambda name, device: Pictures())
    said = refuses("sound", "apple", "--model", "dots", "-o", "a.wav")
    assert "dots makes pictures and no sounds; say cymatic picture" in said


def test_sounds_of_a_file_of_prompts(cli, tiny_run, tmp_path):
    (tmp_path / "prompts.txt").write_text("low tone\nhigh tone\n", encoding="utf-8")
    ran = cli("sound", "--prompts", "prompts.txt", "--model", tiny_run, "-o", "out", "--plot", "drawn")
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["high-tone.wav", "low-tone.wav"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["high-tone.png", "low-tone.png"]
