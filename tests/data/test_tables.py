"""Tables wherever they lie, as Hugging Face's folder builders, Windows and spreadsheets write them."""

import json
import os
import unicodedata

import pytest
from tests.helpers import tone

from cymatic.data.folder import read_folder
from cymatic.data.layouts import read_layout
from cymatic.data.packs import read_packs
from cymatic.data.settings import Pack
from cymatic.errors import Error


def nfd(text):
    return unicodedata.normalize("NFD", text)


def sounds(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def rows(root, **how):
    layout = read_layout(root, **how)
    return sorted(
        (os.path.relpath(row.files[layout.role], root), row.caption, row.split) for row in layout.rows
    ), layout


@pytest.mark.parametrize("place", ["{}", "data/{}"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_in_each_split(tmp_path, place, kind):
    wanted = []
    for name, split in [("train", "train"), ("test", "test"), ("validation", "valid")]:
        folder = place.format(name)
        sounds(tmp_path, f"{folder}/0000.wav", f"{folder}/sub/0001.wav")
        lines = [("0000.wav", f"a {name} dog"), ("sub/0001.wav", f"a {name} cat")]
        wanted += [(f"{folder}/{file}", caption, split) for file, caption in lines]
        if kind == "csv":
            text = "file_name,transcription\n" + "".join(f"{file},{caption}\n" for file, caption in lines)
        else:
            text = "".join(json.dumps({"file_name": file, "text": caption}) + "\n" for file, caption in lines)
        (tmp_path / folder / f"metadata.{kind}").write_text(text)
    found, layout = rows(tmp_path)
    assert found == sorted(wanted) and layout.skipped == []
    assert layout.name == f"metadata.{kind} in " + ", ".join(place.format(p) for p in ("test", "train", "validation"))


def test_one_table_for_the_splits(tmp_path):
    sounds(tmp_path, "train/a.wav", "test/b.wav")
    (tmp_path / "metadata.csv").write_text("file_name,label\ntrain/a.wav,dog\ntest/b.wav,cat\n")
    assert rows(tmp_path)[0] == [("test/b.wav", "cat", "test"), ("train/a.wav", "dog", "train")]
    (tmp_path / "metadata.csv").write_text("file_name,label,split\ntrain/a.wav,dog,valid\ntest/b.wav,cat,train\n")
    assert rows(tmp_path)[0] == [("test/b.wav", "cat", "train"), ("train/a.wav", "dog", "valid")], "what is said counts"


def test_what_is_in_no_table_is_named(tmp_path):
    sounds(tmp_path, "train/a.wav", "train/b.wav", "other/c.wav", "train/more.parquet")
    (tmp_path / "train/metadata.csv").write_text("file_name,text\na.wav,a dog\n")
    found, layout = rows(tmp_path)
    assert found == [("train/a.wav", "a dog", "train")] and layout.name == "train/metadata.csv"
    assert [(one.name, one.why, one.broken) for one in layout.skipped[:2]] == [
        ("other/c.wav", "is in no manifest", True), ("train/b.wav", "is in no manifest", True),
    ]  # fmt: skip
    assert layout.skipped[2].name == "train/more.parquet" and "Parquet" in layout.skipped[2].why


def test_parquet_alone_is_named(tmp_path):
    sounds(tmp_path, "data/train-00000-of-00001.parquet")
    with pytest.raises(Error, match=r"is a Parquet table, which is not read; save it as metadata\.csv"):
        read_folder(tmp_path)


def test_tables_of_both_kinds_beside_each_other_and_columns_for_several_files(tmp_path):
    sounds(tmp_path, "train/a.wav", "train/a.png")
    line = {"audio_file_name": "a.wav", "image_file_name": "a.png", "text": "a dog"}
    (tmp_path / "train/metadata.jsonl").write_text(json.dumps(line))
    (tmp_path / "train/metadata.csv").write_text("file_name,text\na.wav,another\n")
    layout = read_layout(tmp_path, role="audio")
    (row,) = layout.rows
    assert row.caption == "a dog" and sorted(row.files) == ["audio", "picture"]


def test_a_table_lies_where_a_link_leads(tmp_path):
    sounds(tmp_path / "elsewhere", "a.wav")
    (tmp_path / "elsewhere/metadata.csv").write_text("file_name,text\na.wav,a dog\n../private.wav,a secret\n")
    sounds(tmp_path, "private.wav", "root/test/b.wav")
    (tmp_path / "root/test/metadata.csv").write_text("file_name,text\nb.wav,a cat\n")
    (tmp_path / "root/train").symlink_to(tmp_path / "elsewhere")
    found, layout = rows(tmp_path / "root")
    assert found == [("test/b.wav", "a cat", "test"), ("train/a.wav", "a dog", "train")]
    assert [one.why for one in layout.skipped] == ["../private.wav lies outside the folder"]


@pytest.mark.parametrize(("disk", "table"), [(nfd, str), (str, nfd)])
def test_all_parts_of_a_path_are_compared_in_one_form(tmp_path, disk, table):
    tone(300).write(sounds(tmp_path, disk("Tür/Ächzen/é.wav")) / disk("Tür/Ächzen/é.wav"))
    name = table("Tür/Ächzen/é.wav")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"audio": name, "caption": "x"}), encoding="utf-8")
    assert [item.content is not None for item in read_folder(tmp_path).items] == [True]
    (tmp_path / "manifest.jsonl").unlink()
    (tmp_path / disk("Tür/Ächzen/metadata.csv")).write_text(table("file_name,text\né.wav,Tür"), encoding="utf-8")
    assert [item.content is not None for item in read_folder(tmp_path).items] == [True]
    found = read_packs([Pack(folder=table("Tür/Ächzen"))], tmp_path)
    assert [item.caption for item in found.of("train")] == [table("Tür")]


@pytest.mark.parametrize(("sound", "text"), [(nfd, str), (str, nfd)])
def test_texts_and_pictures_beside_sounds_in_another_form(tmp_path, sound, text):
    sounds(tmp_path, sound("Tür_0.wav"), text("Tür_0.png"), sound("größe/Tür.wav"))
    (tmp_path / text("Tür_0.txt")).write_text("a door")
    (tmp_path / sound("größe") / text("Tür.txt")).write_text("a big door")
    layout = read_layout(tmp_path, role="audio")
    assert sorted((row.caption, sorted(row.files)) for row in layout.rows) == [
        ("a big door", ["audio"]), ("a door", ["audio", "picture"]),
    ]  # fmt: skip
    assert layout.skipped == []


def test_class_folders_in_two_forms_are_one_class(tmp_path):
    sounds(tmp_path, "Tür/1.wav", nfd("Tür/2.wav"), "Katze/1.wav")
    assert {row.caption for row in read_layout(tmp_path).rows} == {"Tür", "Katze"}


def test_windows_paths_are_found(tmp_path):
    sounds(tmp_path, "takes/001.wav", nfd("takes/Tür.wav"), "a\\b.wav")
    text = "file;caption\r\ntakes\\001.wav;one\r\n.\\takes\\Tür.wav;two\r\na\\b.wav;three\r\n"
    (tmp_path / "captions.csv").write_text(text, encoding="utf-8-sig", newline="")
    found, layout = rows(tmp_path)
    assert {(os.path.normpath(name), caption) for name, caption, _ in found} == {
        ("takes/001.wav", "one"), (nfd("takes/Tür.wav"), "two"), ("a\\b.wav", "three"),
    }  # fmt: skip
    assert all(row.files["audio"].is_file() for row in layout.rows) and layout.skipped == []


@pytest.mark.parametrize("name", ["C:\\Users\\me\\001.wav", "c:/sounds/001.wav", "\\\\server\\share\\001.wav"])
def test_places_on_a_windows_disk_are_named(tmp_path, name):
    sounds(tmp_path, "001.wav")
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"audio": name, "caption": "x"}))
    with pytest.raises(Error, match=r"names a place on a Windows disk .*; name files from the folder on"):
        read_folder(tmp_path)


def test_backslashes_that_json_does_not_know_are_named(tmp_path):
    sounds(tmp_path, "takes/kick.wav")
    (tmp_path / "manifest.jsonl").write_text('{"audio": "takes\\kick.wav", "caption": "x"}')
    assert [one.why for one in read_layout(tmp_path).skipped] == [
        "is no JSON object; write / in paths, or each backslash twice"
    ]


@pytest.mark.parametrize(
    "data",
    [
        "file;caption\r\na.wav;rain, on a roof\r\n".encode("utf-8-sig"),
        "sep=;\r\nfile;caption\r\na.wav;rain, on a roof\r\n".encode("utf-8-sig"),
        "file\tcaption\r\na.wav\train, on a roof\r\n".encode("utf-16"),
        b'"file";"caption"\r\n"a.wav";"rain, on a roof";;\r\n;;;\r\n',
        b"file;caption\ra.wav;rain, on a roof\r",
    ],
    ids=["semicolons", "sep", "utf-16", "empty cells", "old mac"],
)
def test_tables_as_spreadsheets_write_them(tmp_path, data):
    sounds(tmp_path, "a.wav")
    (tmp_path / "captions.csv").write_bytes(data)
    found, layout = rows(tmp_path)
    assert [row[:2] for row in found] == [("a.wav", "rain, on a roof")] and layout.skipped == []
