"""Which layout of a folder is read, and what its rows say."""

import csv
import json
import os
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import tone

from cymatic.data.captions_by_name import caption_of
from cymatic.data.folder import read_folder
from cymatic.data.layouts import read_layout
from cymatic.data.rows import Layout, check_strictly
from cymatic.data.table_lines import MANIFESTS
from cymatic.errors import Error

NAMES = ["дождь.wav", "雨 音.wav", "🎵.flac", 'it\'s a "dog" & $HOME;.ogg', "a,b;c.wav", "[red].wav", "-x.wav", "é.wav"]


def sounds(root: Path, *names: str) -> Path:
    """Files that are sounds by their names; no layout opens them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def rows(layout: Layout, root: Path) -> list[tuple[str, str, str | None]]:
    return [(os.path.relpath(row.files["audio"], root), row.caption, row.split) for row in layout.rows]


def jsonl(path: Path, *values: object) -> None:
    path.write_text("\n".join(json.dumps(value) for value in values), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("dog-bark_03", "dog bark"),
        ("george says seven (2)", "george says seven"),
        ("Rain", "Rain"),
        ("808", "808"),
        ("808_kick_1_2", "808 kick"),
        ("дождь_01", "дождь"),
        ("it's a “dog”", "it's a “dog”"),
        (unicodedata.normalize("NFD", "café_1"), "café"),
    ],
)
def test_names_as_captions(name, caption):
    assert caption_of(name) == caption


@given(st.text(min_size=1).filter(str.strip))
def test_every_name_has_a_caption(name):
    assert caption_of(name) or not name.strip("_- \t\n\r")


def test_the_first_layout_that_is_found_is_the_only_one(tmp_path):
    root = sounds(tmp_path, "dog/bark_1.wav", "cat/meow_2.wav")
    assert {row.caption for row in read_layout(root).rows} == {"dog", "cat"}
    (root / "dog/bark_1.txt").write_text("a dog barks")
    assert rows(read_layout(root), root) == [("dog/bark_1.wav", "a dog barks", None)]
    wanted = []
    for name in reversed(MANIFESTS):  # each is read though all later ones are there
        wanted.append(name)
        if name.endswith("jsonl"):
            jsonl(root / name, {"file_name": "cat/meow_2.wav", "text": name})
        else:
            (root / name).write_text(f"file,caption\ncat/meow_2.wav,{name}\n")
        layout = read_layout(root)
        assert (layout.name, rows(layout, root)) == (name, [("cat/meow_2.wav", name, None)])
    assert wanted == ["captions.csv", "metadata.csv", "metadata.jsonl", "manifest.jsonl"]


def test_a_manifest_decides(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        tone(300).write(tmp_path / name)
    jsonl(
        tmp_path / "manifest.jsonl",
        {"audio": "a.wav", "caption": "one", "split": "train"},
        {"audio": "b.wav", "caption": "two", "split": "validation", "more": 1},
        {"audio": "c.wav", "caption": "three", "split": "test", "group": 7},
        {"audio": "../d.wav", "caption": "four", "split": "train"},
        {"audio": "c.wav"},
        {"audio": "c.wav", "caption": "five", "split": "holdout"},
    )
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('\n\nnot json\n[]\n{"audio": "a\\u0000.wav", "caption": "x"}\n{"audio": "..", "caption": "x"}')
    folder = read_folder(tmp_path)
    assert folder.layout == "manifest.jsonl"
    assert [(item.caption, item.split, item.group) for item in folder.items] == [
        ("one", "train", None),
        ("two", "valid", None),
        ("three", "test", "7"),
    ]
    assert folder.items[1].fields["more"] == 1
    said = {skipped.name.removeprefix("manifest.jsonl line "): skipped.why for skipped in folder.skipped}
    assert list(said) == ["4", "5", "6", "8", "9", "10", "11"]
    assert "lies outside the folder" in said["4"] and "lies outside the folder" in said["11"]
    assert said["6"] == 'split "holdout" is none of train, valid, test'
    assert "names a file that can't be" in said["10"]
    assert all(skipped.broken for skipped in folder.skipped)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    root = sounds(tmp_path / "given", "in.wav")
    sounds(tmp_path, "out.wav", "elsewhere/out.wav")
    (root / "link.wav").symlink_to(tmp_path / "out.wav")
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "fine.wav").symlink_to(root / "in.wav")
    names = ("in.wav", "link.wav", "folder/out.wav", "fine.wav", str(tmp_path / "out.wav"), str(root / "in.wav"))
    jsonl(root / "manifest.jsonl", *({"audio": name, "caption": "x"} for name in names))
    layout = read_layout(root)
    assert [row.files["audio"].name for row in layout.rows] == ["in.wav", "fine.wav", "in.wav"]
    assert len(layout.skipped) == 3


@pytest.mark.parametrize("name", ["metadata.jsonl", "captions.csv"])
def test_names_of_any_kind_in_manifests(tmp_path, name):
    sounds(tmp_path, *NAMES)
    if name.endswith("jsonl"):
        jsonl(tmp_path / name, *({"file_name": sound, "transcription": sound} for sound in NAMES))
    else:
        with (tmp_path / name).open("w", encoding="utf-8-sig", newline="") as file:  # as spreadsheets write it
            csv.writer(file).writerows([("File", "Caption"), *((sound, sound) for sound in NAMES)])
    layout = read_layout(tmp_path)
    assert rows(layout, tmp_path) == [(sound, sound, None) for sound in NAMES]
    assert layout.skipped == []


def test_names_of_any_kind_as_captions(tmp_path):
    sounds(tmp_path, *NAMES)
    captions = {os.path.relpath(row.files["audio"], tmp_path): row.caption for row in read_layout(tmp_path).rows}
    assert captions == {name: caption_of(Path(name).stem) for name in NAMES}
    assert captions["雨 音.wav"] == "雨 音" and captions["🎵.flac"] == "🎵"


def test_a_manifest_from_a_mac_finds_its_files(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "café.wav") for form in ("NFC", "NFD"))
    sounds(tmp_path, composed)
    jsonl(tmp_path / "manifest.jsonl", {"audio": decomposed, "caption": "x"})
    assert read_folder(tmp_path).items[0].content is not None


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_captions_csv(tmp_path, delimiter):
    table = [
        ("audio", "text", "split", "group", "licence"),
        ("a.wav", "rain, on a roof", "train", "g", "CC0"),
        ("b.wav", 'a "loud"\nbang', "", "", "MIT"),
    ]
    with (tmp_path / "captions.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(table)
    first, second = read_layout(tmp_path).rows
    assert (first.files["audio"].name, first.caption, first.split, first.group) == (
        "a.wav",
        "rain, on a roof",
        "train",
        "g",
    )
    assert (second.caption, second.split, second.group) == ('a "loud"\nbang', None, None)
    assert second.fields["licence"] == "MIT"


def test_broken_lines_of_a_csv_are_named(tmp_path):
    lines = ["audio,caption", "a.wav,one", "b.wav", "", "c.wav,rain, on a roof", "x" * 200_000 + ",long", "d.wav,two"]
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    layout = read_layout(tmp_path)
    assert [row.caption for row in layout.rows] == ["one", "two"]
    assert [skipped.name for skipped in layout.skipped] == [f"captions.csv line {n}" for n in (3, 5, 6)]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("captions.csv", b"a.wav,rain\n", r'begins with "a.wav,rain"; give it a header line'),
        ("captions.csv", b"audio,caption\n\xff\xfe,x\n", "should be UTF-8 with a header line"),
        ("manifest.jsonl", b"\xff", "should be UTF-8 with one JSON object a line"),
        ("manifest.jsonl", b"", "holds no sound to train on"),
        ("captions.csv", b"", "holds no sound to train on"),
        ("captions.csv", b"audio,caption\n", "holds no sound to train on"),
        ("manifest.jsonl", b"[" * 99_999, "holds no sound to train on .*line 1"),
    ],
)
def test_manifests_that_cannot_be_read(tmp_path, name, data, said):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(Error, match=said) as error:
        read_folder(tmp_path)
    assert "\n" not in str(error.value)


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
names = st.sampled_from(["audio", "file_name", "file", "caption", "text", "split", "group", "more"])
row = st.dictionaries(names, scalar | st.lists(scalar, max_size=2), max_size=6)


@given(st.lists(row, max_size=6))
def test_any_rows_are_read_or_named(values):
    with TemporaryDirectory() as folder:
        jsonl(Path(folder) / "manifest.jsonl", *values)
        layout = read_layout(Path(folder))
    assert len(layout.rows) + len(layout.skipped) == len(values)
    assert all(row.caption.strip() and row.split in (None, "train", "valid", "test") for row in layout.rows)


cell = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


pair = st.tuples(cell, cell).filter(lambda cells: any(one.strip() for one in cells))  # a blank line says nothing


@given(st.lists(pair, min_size=1, max_size=6))
def test_what_a_csv_writer_writes_is_read_back(pairs):
    with TemporaryDirectory() as folder:
        with (Path(folder) / "captions.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("file", "caption"), *pairs])
        layout = read_layout(Path(folder))
    captions = {row.caption for row in layout.rows}
    assert len(layout.rows) + len(layout.skipped) == len(pairs)
    assert captions <= {caption for _, caption in pairs}


@given(st.binary(max_size=300))
def test_any_bytes_as_a_csv(data):
    with TemporaryDirectory() as folder:
        (Path(folder) / "captions.csv").write_bytes(b"file,caption\n" + data)
        try:
            read_layout(Path(folder))
        except Error as error:
            assert "\n" not in str(error)


def test_texts_beside_sounds(tmp_path):
    root = sounds(tmp_path, "a.wav", "b/b.v2.flac", "c.wav", "d.wav", "e.wav")
    (root / "a.txt").write_bytes("\ufeff  rain\n on a roof\n".encode())
    (root / "b/b.v2.txt").write_text("дождь", encoding="utf-8")
    (root / "c.txt").write_text(" \n")
    (root / "d.txt").write_bytes(b"\xff\xfe")
    (root / "readme.txt").write_text("about these")
    layout = read_layout(root)
    assert layout.name == "a .txt beside each sound"
    assert rows(layout, root) == [("a.wav", "rain on a roof", None), ("b/b.v2.flac", "дождь", None)]
    assert [(skipped.name, skipped.broken) for skipped in layout.skipped] == [
        ("c.wav", True),
        ("d.wav", True),
        ("e.wav", True),
        ("readme.txt", False),
    ]
    assert "empty caption" in layout.skipped[0].why and "not UTF-8" in layout.skipped[1].why
    assert "has no .txt" in layout.skipped[2].why


def test_class_folders(tmp_path):
    root = sounds(tmp_path, "dog-bark/1.wav", "dog-bark/2.wav", "rain_on_roof/x/1.wav", "cat/1.wav", "readme.md")
    layout = read_layout(root)
    assert layout.name == "class folders"
    assert {row.files["audio"].parent.name: row.caption for row in layout.rows} == {
        "dog-bark": "dog bark", "x": "x", "cat": "cat",
    }  # fmt: skip
    assert layout.rows[0].fields == {"label": "cat"}
    assert [(skipped.name, skipped.broken) for skipped in layout.skipped] == [("readme.md", False)]


@pytest.mark.parametrize("names", [("sub/dog-bark_1.wav", "sub/cat_1.wav"), ("a/dog-bark_1.wav", "b/x.wav", "cat.wav")])
def test_one_folder_or_a_sound_outside_is_no_class(tmp_path, names):
    layout = read_layout(sounds(tmp_path, *names))
    assert layout.name == "file names"
    assert {"dog bark", "cat"} <= {row.caption for row in layout.rows}


def test_folders_named_as_splits_are_splits(tmp_path):
    classes = sounds(
        tmp_path / "classes", "train/dog/1.wav", "train/cat/1.wav", "Validation/dog/2.wav", "test/cat/2.wav"
    )
    assert {(row.caption, row.split) for row in read_layout(classes).rows} == {
        ("dog", "train"), ("cat", "train"), ("dog", "valid"), ("cat", "test"),
    }  # fmt: skip
    named = sounds(tmp_path / "named", "train/dog_1.wav", "valid/dog_2.wav")
    assert rows(read_layout(named), named) == [("train/dog_1.wav", "dog", "train"), ("valid/dog_2.wav", "dog", "valid")]
    other = sounds(tmp_path / "other", "test/1.wav", "dog/1.wav")
    assert {row.split for row in read_layout(other).rows} == {None}, "a class may be called test"


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    root = sounds(tmp_path, "dog_1.wav", ".hidden.wav", ".git/x.wav")
    (root / "notes.txt").write_text("no sound")
    layout = read_layout(root)
    assert rows(layout, root) == [("dog_1.wav", "dog", None)]
    assert [(skipped.name, skipped.broken) for skipped in layout.skipped] == [("notes.txt", False)]


def test_strictly_the_first_broken_one_is_named_with_the_count(tmp_path):
    jsonl(sounds(tmp_path, "a.wav") / "manifest.jsonl", {"audio": "a.wav", "caption": "x"}, 3, 4)
    with pytest.raises(Error, match=r"^manifest.jsonl line 2: needs .*\(2 in all are broken\); mend or remove it"):
        check_strictly(read_layout(tmp_path).skipped)
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / "notes.md").write_text("fine")
    check_strictly(read_layout(tmp_path).skipped)
