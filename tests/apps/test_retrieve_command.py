"""`cymatic retrieve` and `cymatic evaluate` of aligned encoders: what is found, and how well."""

import json

import numpy as np
import pytest
from tests.helpers import quiet

import cymatic
from cymatic.apps import cli
from cymatic.errors import Error
from cymatic.media.picture import PICTURE, Picture
from cymatic.pipelines.retrieve import recalls, retrieve
from cymatic.training.recipe import Recipe
from cymatic.training.train import train

COLOURS = {
    "red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "black": (0, 0, 0), "grey": (0.5,) * 3
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six colours, a noisy picture of each to train on, and another one held out."""
    root = tmp_path_factory.mktemp("pictures") / "colours"
    root.mkdir()
    rows = []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for split in ("train", "valid"):
            noise = np.random.default_rng([number, split == "valid"]).normal(0, 0.03, (16, 16, 3))
            Picture(np.asarray(colour) + noise).write(root / f"{name}-{split}.png")
            rows.append({"picture": f"{name}-{split}.png", "caption": name, "split": split})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """Encoders that have learned the six."""
    picture = {"kind": "picture", "picture": {"size": 8}, "halvings": 2, "width": 16, "depth": 1, "heads": 2, "dim": 16}
    stage = {
        "task": "alignment", "parts": {"picture": picture, "caption": {"kind": "text", "dim": 16}},
        "training": {"steps": 60, "batch": 6, "warmup": 2, "learning_rate": 1e-2, "ema": 0.5},
    }  # fmt: skip
    place = tmp_path_factory.mktemp("runs") / "colours"
    recipe = Recipe.parse({"data": {"folder": str(folder)}, "stages": {"space": stage}}, "the test")
    assert train(recipe, place, say=quiet).finished
    return place


def lines_of(capsys, *words):
    code = cli.run(list(map(str, words)))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out.splitlines()


def test_words_find_pictures(run, folder, capsys):
    lines = lines_of(capsys, "retrieve", "red", folder, "--model", run, "-n", "2")
    assert len(lines) == 2 and all(line.endswith("  red") and str(folder) in line for line in lines)
    scores = [float(line.split()[0]) for line in lines]
    assert 1 >= scores[0] >= scores[1] > 0


def test_a_picture_finds_words_and_pictures(run, folder, capsys):
    (best, *_) = lines_of(capsys, "retrieve", folder / "blue-valid.png", folder, "--model", run)
    assert best.split()[1:] == ["blue"], "each caption is found once, without a file"
    lines = lines_of(
        capsys, "retrieve", folder / "blue-valid.png", folder, "--model", run, "--find", "picture", "-n", "2"
    )
    assert {line.split()[1] for line in lines} == {str(folder / f"blue-{split}.png") for split in ("train", "valid")}


def test_recall_is_measured_among_what_is_held_out(run, folder, tmp_path, capsys):
    lines = lines_of(capsys, "evaluate", run, "-o", tmp_path / "report")
    report = json.loads((tmp_path / "report" / "recall.json").read_text())
    found = {(one["given"], one["found"], one["first"]): one for one in report["recall"]}
    assert report["items"] == 6 and len(found) == 6 and len(lines) == 7
    for way in (("picture", "caption"), ("caption", "picture")):
        assert found[(*way, 1)]["share"]["value"] >= 5 / 6
        assert found[(*way, 5)]["share"]["value"] == found[(*way, 10)]["share"]["value"] == 1
        assert [found[(*way, k)]["chance"] for k in (1, 5, 10)] == pytest.approx([1 / 6, 5 / 6, 1], abs=1e-5)


def test_items_of_one_caption_count_as_one(run, folder):
    """Of twelve pictures two and two have one caption, so either will do."""
    from cymatic.data.folder import read_folder

    items = read_folder(folder, role="picture").items
    measured = recalls(cymatic.load(run), items)
    assert [one.chance for one in measured if one.first == 1] == pytest.approx([1 / 6] * 2)
    assert min(one.share.value for one in measured) > 0.8
    assert {one.share.n for one in measured} == {12}


def test_what_can_not_be_found_is_said(run, folder, tmp_path, capsys):
    model = cymatic.load(run)
    with pytest.raises(Error, match='has no encoder for "pictur"; did you mean "picture"'):
        retrieve(model, "red", None, folder, find="pictur")
    with pytest.raises(Error, match="0 matches were asked for"):
        retrieve(model, "red", None, folder, count=0)
    with pytest.raises(Error, match="has no encoder that reads sounds"):
        retrieve(model, "red.wav", "audio", folder)
    broken = tmp_path / "broken"
    broken.mkdir()
    PICTURE.write(Picture(np.full((8, 8, 3), 0.5)), broken / "grey_1.png")
    (broken / "cut_1.png").write_bytes((broken / "grey_1.png").read_bytes()[:40])
    (broken / "manifest.jsonl").write_text(
        "".join(
            json.dumps({"picture": f"{name}.png", "caption": name}) + "\n" for name in ("grey_1", "cut_1", "absent")
        )
    )
    matches, skipped = retrieve(model, "grey", None, broken)
    assert [match.path.name for match in matches] == ["grey_1.png"]
    assert len(skipped) == 2 and all(name in str(skipped) for name in ("absent.png", "cut_1.png"))
    for words, said in (
        (("retrieve", "nowhere.png", folder, "--model", run), "nowhere.png does not exist"),
        (("retrieve", "red", folder, "--model", "starter-codec"), "finds and ranks nothing"),
        (("retrieve", "red", tmp_path / "none", "--model", run), "does not exist"),
    ):
        assert cli.run(list(map(str, words))) == 2
        assert said in capsys.readouterr().err
