"""The starter for pictures: what a person sees first."""

import json
import subprocess
import sys

import numpy as np
import pytest
from benchmarks import emoji

import cymatic
from cymatic.media.picture import Picture

NAME = "starter-picture"


def test_a_red_apple(starter, tmp_path):
    """In a fresh process, with nothing but what generating needs."""
    code = "import sys\nfrom cymatic.apps.cli import run\ncode = run(sys.argv[1:])\nprint(*sys.modules)\nsys.exit(code)"
    command = ["picture", "a red apple", "--seed", "1", "-o", "apple.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done
    picture = Picture.read(tmp_path / "apple.png")
    assert picture.pixels.shape == (64, 64, 4)
    red, green, blue = (picture.pixels[..., :3] * picture.pixels[..., 3:]).sum((0, 1))
    assert red > 1.5 * green and red > 1.5 * blue
    assert (picture.pixels[:4, :4, 3] < 0.1).all() and picture.pixels[24:40, 24:40, 3].mean() > 0.8
    assert (picture.info["prompt"], picture.info["seed"], picture.info["model"]) == ("a red apple", 1, NAME)
    loaded = set(done.stdout.splitlines()[-1].split())
    unwanted = {"scipy", "lightning_fabric", "transformers", "pyloudnorm", "wordllama", "cymatic.training"}
    assert "torch" in loaded and not loaded & unwanted


def test_words_a_vector_or_a_picture_draw(starter):
    model = cymatic.load(NAME)
    both, tokens, vector = (model("blue heart", seed=1, by=by) for by in (None, "tokens", "vector"))
    again = model(both, seed=1)
    assert tokens.pixels[24:40, 24:40, 3].mean() > 0.8, "words alone are right in two of five prompts, and not in this"
    for one in (both, vector, again):
        red, _, blue = (one.pixels[..., :3] * one.pixels[..., 3:]).sum((0, 1))
        assert blue > 1.5 * red
    assert not np.array_equal(tokens.pixels, vector.pixels)


def test_the_best_of_several_come_with_their_scores(starter):
    model = cymatic.load(NAME)
    kept = model("pizza", n=4, keep=2, seed=3)
    assert len(kept) == 2 and kept[0].info["score"] >= kept[1].info["score"]


def test_what_it_was_trained_on_is_drawn(starter, data_dir):
    """Of names of the pack, the nearest of all its pictures is mostly the right one (the card has the figures)."""
    pack = emoji.Pack(data_dir / "emoji")
    for asked, least in zip(emoji.kinds(pack)[:3], LEAST, strict=True):
        some = emoji.Asked(asked.name, asked.prompts[:32], asked.right[:32], asked.first)
        assert some.score(pack, emoji.drawn(cymatic.load(NAME), some.prompts))[0].value >= least


def test_words_alone_and_a_vector_alone_draw(starter, data_dir):
    pack = emoji.Pack(data_dir / "emoji")
    asked = emoji.kinds(pack)[1]
    some = emoji.Asked(asked.name, asked.prompts[:32], asked.right[:32], asked.first)
    for by, least in (("tokens", 0.2), ("vector", 0.45)):
        assert some.score(pack, emoji.drawn(cymatic.load(NAME), some.prompts, by=by))[0].value >= least


LEAST = (0.65, 0.65, 0.6)  # toned, untoned, pairs that it never saw


@pytest.mark.parametrize("part", ["codec", "encoder", "prior", "space/caption", "space/picture"])
def test_its_parts_ship(starter, part):
    assert (starter / part / "model.safetensors").is_file()


def test_its_files_are_small(starter):
    weights = [path.stat().st_size for path in starter.rglob("*.safetensors")]
    assert sum(weights) <= 14_000_000 and max(weights) < 8_000_000
    said = json.loads((starter / "pipeline.json").read_text())
    assert said["version"] >= 1 and said["licence"] and said["space"] == "space"
