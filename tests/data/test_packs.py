"""Several folders as one dataset: filters, copies, and where relative folders lie."""

import json

import pytest
from tests.helpers import tone

from cymatic.config import Config
from cymatic.data.examples import Reading, load_examples
from cymatic.data.packs import Pack, fingerprint, read_packs, whole_folder
from cymatic.errors import Error, ModelError
from cymatic.signal.mel import PRESETS
from cymatic.training.data import noticed, remember_data, remembered
from cymatic.training.recipe import make_recipe

ROWS = [
    {"caption": "one", "licence": "CC0", "label": 1, "tags": ["a", "b"], "loop": True, "split": "train"},
    {"caption": "two", "licence": "GPL", "label": 2, "tags": ["b"], "split": "train"},
    {"caption": "three", "licence": "MIT", "label": 3, "tags": [], "split": "valid"},
]


@pytest.fixture
def base(tmp_path):
    """`first` with a manifest of three clips, `second` with two clips by their names."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    lines = []
    for i, row in enumerate(ROWS):
        tone(200 + 50 * i, seed=i).write(tmp_path / f"first/{i}.wav")
        lines.append(json.dumps({"audio": f"{i}.wav", **row}))
    (tmp_path / "first/manifest.jsonl").write_text("\n".join(lines))
    tone(500).write(tmp_path / "second/four.wav")
    tone(600, 0.4).write(tmp_path / "second/five.wav")
    return tmp_path


def captions(base, *packs):
    return [
        item.caption for source in read_packs([Pack(**pack) for pack in packs], base).packs for item in source.items
    ]


def test_packs_come_in_their_order(base):
    assert captions(base, {"folder": "first"}, {"folder": "second"}) == ["one", "two", "three", "five", "four"]
    assert captions(None, {"folder": str(base / "second")}) == ["five", "four"]


@pytest.mark.parametrize(
    ("filters", "left"),
    [
        ({"where": {"licence": ["CC0", "MIT"]}}, ["one", "three"]),
        ({"where": {"licence": "CC0"}}, ["one"]),
        ({"where_not": {"licence": ["GPL"]}}, ["one", "three"]),
        ({"where": {"licence": ["CC0", "GPL"]}, "where_not": {"label": ["2"]}}, ["one"]),
        ({"where": {"label": [1, 2]}}, ["one", "two"]),
        ({"where": {"tags": ["a", "c"]}}, ["one"]),
        ({"where_not": {"tags": ["a"]}}, ["two", "three"]),
        ({"where": {"loop": True}}, ["one"]),
        ({"where_not": {"loop": "true"}}, ["two", "three"]),
        ({"where": {"split": "train"}}, ["one", "two"]),
        ({"where_not": {"caption": ["two"]}}, ["one", "three"]),
    ],
)
def test_filters(base, filters, left):
    assert captions(base, {"folder": "first", **filters}) == left


@pytest.mark.parametrize(
    ("pack", "said"),
    [
        ({"where": {"license": ["CC0"]}}, r'first have no field "license"; did you mean "licence"\?'),
        ({"where_not": {"zzz": [1]}}, 'have no field "zzz"; known: audio, caption'),
        ({"where": {"licence": ["CC1"]}}, "the filters leave none of the 3 clips"),
        ({"where": {"split": ["valid"]}}, "holds no sound to train on, for every clip is held out"),
        ({"folder": "third"}, "third does not exist"),
    ],
)
def test_packs_that_cannot_be_used(base, pack, said):
    with pytest.raises(Error, match=said):
        captions(base, {"folder": "first", **pack})


def test_a_relative_pack_needs_a_place():
    with pytest.raises(Error, match="where is the pack digits"):
        read_packs([Pack(folder="digits")], None)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.packs=[{folder: a, wher: {}}]", "wher"),
        ("data.packs=[{folder: a, repeat: 0}]", "repeat"),
        ("data.packs=[{folder: a, long: trim}]", "'skip' or 'cut'"),
        ("data.packs=[{where: {}}]", "folder"),
        ("data.long=trim", "'skip' or 'cut'"),
        ("data.packs=[{folder: a, where: {licence: {a: b}}}]", "licence"),
    ],
)
def test_settings_that_are_wrong_are_named(setting, said):
    with pytest.raises(ModelError, match=said) as error:
        make_recipe(None, [setting])
    assert "\n" not in str(error.value)


def test_exact_copies_are_left_out_and_other_captions_stay(base):
    (base / "second/copy.wav").write_bytes((base / "first/0.wav").read_bytes())
    (base / "second/copy.wav").rename(base / "second/one.wav")
    (base / "second/six.wav").write_bytes((base / "first/1.wav").read_bytes())
    sources = read_packs([Pack(folder="first"), Pack(folder="second")], base)
    assert [item.caption for source in sources.packs for item in source.items] == [
        *("one", "two", "three"), *("five", "four", "six"),
    ]  # fmt: skip
    (note,) = sources.notes
    assert "1 exact copies under the same caption are left out, such as" in note
    assert str(base / "second/one.wav") in note and str(base / "first/0.wav") in note


def test_a_held_out_clip_that_is_also_trained_on_is_told(base):
    (base / "first/2.wav").write_bytes((base / "first/1.wav").read_bytes())
    (note,) = read_packs([Pack(folder="first")], base).notes
    assert "1 held-out clips are also trained on" in note


def test_all_clips_the_same_leave_one(base):
    for i in range(12):
        (base / f"second/dog_{i}.wav").write_bytes((base / "first/0.wav").read_bytes())
    assert captions(base, {"folder": "second"}).count("dog") == 1


def recipe_of(base, *settings):
    return make_recipe(None, [f"data.folder={base}", *settings])


def load_data(recipe, **how):
    return load_examples(recipe.data, Reading("audio", PRESETS["voice-8k"]), captions=True, **how)


def test_a_recipe_of_packs(base):
    tone(300, 9.0).write(base / "second/rain.wav")
    said = []
    packs = "[{folder: first, repeat: 3, where_not: {licence: GPL}}, {folder: second, long: cut, longest: 2}]"
    data = load_data(recipe_of(base, f"data.packs={packs}"), say=said.append)
    assert [clip.caption for clip in data.epoch] == ["one"] * 3 + ["five", "four"] + ["rain"] * 4
    assert len(data.train) == 7, "each is read once"
    assert [clip.caption for clip in data.valid] == ["three"]
    assert f"reading 2 of 3 sounds of {base / 'first'} (by manifest.jsonl), each 3 times an epoch" in said
    assert f"reading 3 sounds of {base / 'second'} (by file names)" in said


def test_a_folder_on_its_own_is_one_pack(base, monkeypatch):
    monkeypatch.chdir(base)
    data = load_data(recipe_of("second"), say=lambda line: None)
    assert {clip.caption for clip in data.train} == {"four", "five"}
    assert whole_folder("second").folder == str(base / "second")
    assert isinstance(whole_folder("second"), Config)


def test_strictly_nothing_may_be_broken(base):
    (base / "second/notes.md").write_text("no sound, and no harm")
    recipe = recipe_of(base, "data.packs=[{folder: first}, {folder: second}]")
    load_data(recipe, strict=True, say=lambda line: None)
    for name in ("x", "y"):
        (base / f"second/{name}.wav").write_text("this is no sound")
    with pytest.raises(Error, match=r"x.wav: is not a sound.*\(2 in all are broken\); .* leave out --strict"):
        load_data(recipe, strict=True, say=lambda line: None)
    assert len(load_data(recipe, say=lambda line: None).train) == 4


def test_a_fingerprint_tells_what_a_run_was_trained_on(base, tmp_path):
    def load():
        return load_data(recipe_of(base / "second"), say=lambda line: None)

    data = load()
    run = tmp_path / "run"
    run.mkdir()
    assert remembered(run) is None, "an older run says nothing about its data"
    remember_data(run, data)

    def changes():
        return noticed(remembered(run), load(), "prior", None)

    assert changes() == []
    (base / "second/five.wav").rename(base / "second/five_2.wav")
    assert changes() == [], "the same content under the same caption"
    tone(700).write(base / "second/seven.wav")
    assert changes() == [
        "the items have changed since this run began with 2 items to train on and 0 held out; it goes on with the 3 "
        "and 0 that are there now"
    ]
    (run / "data.json").write_text("[")
    assert remembered(run) is None
    assert len(fingerprint([])) == 64
