"""Captions from a manifest's fields: names, aliases, keywords, names by language; drawn anew each epoch."""

import json
from collections import Counter

import numpy as np
import pytest
import torch

from cymatic.data.batches import Bucketed
from cymatic.data.caption_fields import groups_of
from cymatic.data.captions_by_name import captions_setting
from cymatic.data.examples import Reading, captions_of, load_examples
from cymatic.data.folder import read_folder
from cymatic.data.settings import DataSettings
from cymatic.errors import Error
from cymatic.media.picture import Picture, PictureSpec

LINES = [
    {"name": "red apple", "names": {"de": "roter Apfel", "fr": "pomme rouge"}, "aliases": ["apple"],
     "keywords": ["fruit", "Fruit", "  healthy  snack "], "split": "train"},
    {"name": "frog", "names": {"de": "Frosch", "fr": "grenouille"}, "aliases": [], "keywords": [], "split": "train"},
    {"name": "fire", "names": {"de": "Feuer"}, "aliases": ["flame"], "keywords": ["hot"], "split": "valid"},
]  # fmt: skip


@pytest.fixture
def emoji(tmp_path):
    draws = np.random.default_rng(0)
    rows = []
    for i, line in enumerate(LINES):
        Picture(draws.random((8, 8, 4))).write(tmp_path / f"{i}.png")
        rows.append({"picture": f"{i}.png", **line})
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "manifest.jsonl").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_field_holds_a_text_a_list_or_texts_by_language():
    line = LINES[0]
    assert groups_of(line, ("name", "aliases", "keywords")) == (
        ("red apple",), ("apple",), ("fruit", "healthy snack"),
    )  # fmt: skip
    assert groups_of(line, ("names",)) == (("roter Apfel", "pomme rouge"),)
    assert groups_of(line, ("names.fr", "names.xx", "nothing")) == (("pomme rouge",),)
    assert groups_of({"a.b": "first", "a": {"b": "second"}}, ("a.b",)) == (("first",),)


def test_the_setting_on_the_command_line():
    assert captions_setting("both") == "both"
    assert captions_setting("name, names.de") == ("name", "names.de")
    for wrong in ("files", "name,,aliases", ""):
        with pytest.raises(Error, match="captions can't be made by"):
            captions_setting(wrong)


def test_an_item_has_all_its_captions_and_the_first_for_its_own(emoji):
    folder = read_folder(emoji, captions_by=("names.de", "name", "aliases"))
    assert [item.caption for item in folder.items] == ["roter Apfel", "Frosch", "Feuer"]
    assert folder.items[1].captions == (("Frosch",), ("frog",))


def test_what_is_wrong_with_fields_is_said(emoji, tmp_path):
    with pytest.raises(Error, match=r'no line of manifest.jsonl has a text in "nane"; did you mean "name"\?'):
        read_folder(emoji, captions_by=("nane",))
    with pytest.raises(Error, match=r'no line .* has a text in "names.dee"; did you mean "names.de"'):
        read_folder(emoji, captions_by=("names.dee",))
    with pytest.raises(Error, match=r"--captions names the fields that are captions, of name, names, aliases"):
        read_folder(emoji)
    skipped = read_folder(emoji, captions_by=("aliases",)).skipped
    assert [(one.name, one.why) for one in skipped] == [("manifest.jsonl line 2", "has no text in aliases")]
    (tmp_path / "bare").mkdir()
    Picture(np.eye(8)).write(tmp_path / "bare" / "frog.png")
    with pytest.raises(Error, match=r'has no manifest whose lines could have the field "name"'):
        read_folder(tmp_path / "bare", captions_by=("name",))


def test_each_epoch_draws_a_field_and_then_a_text_of_it(emoji):
    settings = DataSettings(folder=str(emoji), captions=("name", "keywords"))
    data = load_examples(settings, Reading("picture", PictureSpec(size=4)), captions=True, say=lambda line: None)
    assert captions_of(data.train) == ["frog", "red apple", "fruit", "healthy snack"]
    batches = Bucketed(data.epoch, 2, seed=3)
    met = [caption for epoch in range(200) for caption in batches[epoch].captions]
    counts = Counter(met)
    assert counts["frog"] == 200, "what has one name keeps it"
    assert 80 < counts["red apple"] < 120 and 30 < counts["fruit"] < 70 and 30 < counts["healthy snack"] < 70
    again = Bucketed(data.epoch, 2, seed=3)
    assert again[7].captions == batches[7].captions, "a batch is a function of the seed and the step"
    shares = [Bucketed(data.epoch, 2, seed=3, rank=rank, ranks=2)[7].captions for rank in (0, 1)]
    assert sorted([*shares[0], *shares[1]]) == sorted(batches[7].captions)


def test_the_plan_and_an_inspection_count_texts(emoji):
    from cymatic.apps.inspect_command import report
    from cymatic.data.inspection import inspect_folder
    from cymatic.training.plan import describe_data

    settings = DataSettings(folder=str(emoji), captions=("name", "keywords"))
    data = load_examples(settings, Reading("picture", PictureSpec(size=4)), captions=True, say=lambda line: None)
    assert describe_data(data)[0] == "data   2 items to train on (2 captions in 4 texts), 1 held out"
    lines = list(report(inspect_folder(emoji, captions_by=("name", "keywords"))))
    assert "texts     6, of which each clip has one or more" in lines


def test_texts_that_no_prompt_could_be_are_never_drawn(emoji):
    row = json.loads((emoji / "manifest.jsonl").read_text().splitlines()[0])
    row["aliases"] = ["word " * 100, "apple"]
    (emoji / "manifest.jsonl").write_text(json.dumps(row))
    settings = DataSettings(folder=str(emoji), captions=("name", "aliases"))
    data = load_examples(settings, Reading("picture", PictureSpec(size=4)), captions=True, say=lambda line: None)
    assert data.train[0].captions == (("red apple",), ("apple",))


def test_other_captions_are_other_data(emoji):
    def fingerprint(*fields):
        settings = DataSettings(folder=str(emoji), captions=fields)
        reading = Reading("picture", PictureSpec(size=4))
        return load_examples(settings, reading, captions=True, say=lambda line: None).fingerprint

    assert fingerprint("name") != fingerprint("name", "aliases")
    assert fingerprint("name", "aliases") == fingerprint("name", "aliases")


def test_classes_are_all_that_an_example_may_be_called(emoji):
    from cymatic.encoders.classes import ClassConfig, ClassEncoder

    settings = DataSettings(folder=str(emoji), captions=("name", "names.de"))
    data = load_examples(settings, Reading("picture", PictureSpec(size=4)), captions=True, say=lambda line: None)
    encoder = ClassEncoder(ClassConfig(dim=4).fitted(data.train))
    assert encoder(["Frosch", "frog"]).vector.shape == (2, 4)
    assert torch.isfinite(encoder(["roter Apfel"]).vector).all()


def test_a_manifest_of_another_name_is_given_itself(tmp_path):
    lines = []
    for i, (english, german) in enumerate((("A frog.", "Ein Frosch."), ("A house.", "Ein Haus."))):
        Picture(np.random.default_rng(i).random((8, 8, 3))).write(tmp_path / f"{i}.png")
        lines.append({"picture": f"{i}.png", "captions": {"en": english, "de": german}})
    (tmp_path / "sounds.jsonl").write_text("{}")
    (tmp_path / "pictures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = read_folder(tmp_path / "pictures.jsonl", captions_by=("captions.de",))
    assert (folder.root, folder.layout) == (tmp_path, "pictures.jsonl")
    assert [item.caption for item in folder.items] == ["Ein Frosch.", "Ein Haus."]
    with pytest.raises(Error, match="is a file; give the folder"):
        read_folder(tmp_path / "0.png")
