"""A folder's items: splits, contents, and folders that can't be used."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import tone_folder

from cymatic.data.contents import Contents
from cymatic.data.folder import read_folder
from cymatic.data.rows import Skipped
from cymatic.data.splits import FEWEST, held_out, place
from cymatic.errors import Error

UNITS = st.lists(st.integers(0, 300).map(str), max_size=200)


def files(root, count, start=0):
    """`count` files of different content, which `read_folder` takes for sounds: it decodes none."""
    root.mkdir(exist_ok=True)
    for i in range(start, start + count):
        (root / f"clip-{i}x.wav").write_bytes(f"sound {i}".encode())
    return root


def splits_of(root):
    return {item.path().name: item.split for item in read_folder(root).items}


def test_a_plain_folder(tmp_path):
    tone_folder(tmp_path / "sounds/sub")
    (tmp_path / "sounds/notes.txt").write_text("no sound")
    folder = read_folder(tmp_path / "sounds")
    assert folder.layout == "file names"
    assert {item.caption for item in folder.items} == {"low tone", "high tone"}
    assert folder.skipped == [Skipped("notes.txt", "is not a sound by its extension", broken=False)]


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.wav").write_bytes(b"x")
    for path, said in (
        ("missing", "does not exist"),
        ("file.wav", "is a file"),
        ("empty", "holds no sound"),
        ("x" * 999, "can't be read"),
    ):
        with pytest.raises(Error, match=said):
            read_folder(tmp_path / path)


def test_a_tenth_is_held_out():
    units = [f"unit {i}" for i in range(2000)]
    assert 150 < len(held_out(units)) < 250


@given(UNITS, UNITS)
def test_adding_clips_moves_none_of_the_others(before, added):
    """Unless the folder is so small that one of the three exceptions held before."""
    chosen = {unit for unit in before if place(unit) < 0.1}
    if chosen and held_out(before) == chosen:
        after = held_out(before + added)
        assert after & set(before) == chosen or not after


@given(UNITS, st.booleans())
def test_there_is_always_something_to_train_on(units, enough):
    chosen = held_out(units, enough=enough)
    assert chosen <= set(units)
    held = sum(unit in chosen for unit in units)
    assert 2 * held <= len(units)
    assert held < len(units) or not units
    if len(set(units)) == len(units) >= FEWEST and not enough:
        places = sorted(place(unit) for unit in units)
        assert held or places[len(units) // 2] < 0.1, "something is held out"


def test_splits_go_by_content_not_by_name(tmp_path):
    before = splits_of(files(tmp_path / "a", 60))
    assert set(before.values()) == {"train", "valid"}
    for path in sorted((tmp_path / "a").iterdir()):
        path.rename(path.with_name(f"new-{path.name}"))
    assert splits_of(tmp_path / "a") == {f"new-{name}": split for name, split in before.items()}
    for name in before:
        (tmp_path / "a" / f"copy-{name}").write_bytes((tmp_path / "a" / f"new-{name}").read_bytes())
    after = splits_of(tmp_path / "a")
    assert all(after[f"copy-{name}"] == after[f"new-{name}"] == split for name, split in before.items())
    files(tmp_path / "a", 60, start=60)
    assert {f"new-{name}": splits_of(tmp_path / "a")[f"new-{name}"] for name in before} == {
        f"new-{name}": split for name, split in before.items()
    }


def test_groups_stay_together_and_a_split_wins(tmp_path):
    files(tmp_path, 100)
    rows = [{"audio": f"clip-{i}x.wav", "caption": "x", "group": f"series {i // 5}"} for i in range(99)]
    rows.append({"audio": "clip-99x.wav", "caption": "x", "group": "series 1", "split": "test"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    items = read_folder(tmp_path).items
    assert items[-1].split == "test"
    by_group = {}
    for item in items[:-1]:
        by_group.setdefault(item.group, set()).add(item.split)
    assert all(len(splits) == 1 for splits in by_group.values())
    assert set.union(*by_group.values()) == {"train", "valid"}


@pytest.mark.parametrize("count", [1, 3, 7])
def test_a_handful_is_trained_on(tmp_path, count):
    assert set(splits_of(files(tmp_path / "a", count)).values()) == {"train"}


@pytest.mark.parametrize("start", range(0, 80, 8))
def test_from_eight_clips_on_one_is_held_out(tmp_path, start):
    splits = list(splits_of(files(tmp_path / "a", 8, start=start)).values())
    assert 1 <= splits.count("valid") <= 4


def test_all_clips_the_same_are_trained_on(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}x.wav").write_bytes(b"the same")
    assert set(splits_of(tmp_path).values()) == {"train"}


def test_what_cannot_be_read_stays_listed_so_that_it_is_named_later(tmp_path):
    files(tmp_path, 3)
    (tmp_path / "manifest.jsonl").write_text('{"audio": "gone.wav", "caption": "x"}\n{"audio": ".", "caption": "y"}')
    assert [item.content for item in read_folder(tmp_path).items] == [None, None]


def test_contents_are_remembered_by_size_and_time(tmp_path, monkeypatch):
    root = files(tmp_path / "a", 3)
    for path in root.iterdir():
        os.utime(path, (1e9, 1e9))
    with Contents(root) as contents:
        first = {path.name: contents.of(path) for path in root.iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr("cymatic.data.contents.sha256_of", lambda path: pytest.fail(f"{path} was read again"))
        with Contents(root) as contents:
            assert {path.name: contents.of(path) for path in root.iterdir()} == first
    (root / "clip-1x.wav").write_bytes(b"other 1")  # as long as before, and changed just now
    for _ in range(2):
        with Contents(root) as contents:
            assert contents.of(root / "clip-1x.wav") != first["clip-1x.wav"]
            assert contents.of(root / "clip-2x.wav") == first["clip-2x.wav"]


def test_ten_thousand_captions_of_one_clip_each(tmp_path):
    lines = []
    for i in range(10_000):
        (tmp_path / f"{i}.wav").write_bytes(str(i).encode())
        lines.append(json.dumps({"file_name": f"{i}.wav", "text": f"caption number {i} of many"}))
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    folder = read_folder(tmp_path)
    assert len({item.caption for item in folder.items}) == len({item.content for item in folder.items}) == 10_000
    assert 800 < len(folder.of("valid")) < 1200
