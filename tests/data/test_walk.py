"""Folders with links in them: what is there is found once, and nothing goes round in circles."""

import os

import pytest
from tests.helpers import tone

from cymatic.data.layouts import read_layout
from cymatic.data.walk import walk

pytestmark = pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")


def files(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tone(300, 0.1).write(root / name)
    return root


def named(root, paths):
    return [str(path.relative_to(root)) for path in paths]


def test_linked_class_folders_are_classes(tmp_path):
    root = files(tmp_path / "root", "dog/1.wav", "dog/2.wav")
    files(tmp_path / "elsewhere", "rain/1.wav", "rain/below/2.wav", "2.wav")
    (root / "rain").symlink_to(tmp_path / "elsewhere" / "rain")
    (root / "dog" / "3.wav").symlink_to(tmp_path / "elsewhere" / "2.wav")
    layout = read_layout(root)
    assert layout.name == "class folders" and layout.skipped == []
    assert sorted((str(row.files["audio"].relative_to(root)), row.caption) for row in layout.rows) == [
        ("dog/1.wav", "dog"), ("dog/2.wav", "dog"), ("dog/3.wav", "dog"),
        ("rain/1.wav", "rain"), ("rain/below/2.wav", "below"),
    ]  # fmt: skip


def test_a_root_that_is_a_link_and_texts_beside_linked_sounds(tmp_path):
    files(tmp_path / "data", "a/1.wav")
    (tmp_path / "data/a/1.txt").write_text("a dog barks")
    (tmp_path / "given").mkdir()
    (tmp_path / "given/more").symlink_to("../data")
    (tmp_path / "root").symlink_to("given")
    layout = read_layout(tmp_path / "root")
    assert [(str(row.files["audio"].relative_to(tmp_path)), row.caption) for row in layout.rows] == [
        ("root/more/a/1.wav", "a dog barks")
    ]


@pytest.mark.parametrize(
    ("link", "to"),
    [("dog/loop", "."), ("dog/loop", ".."), ("loop", "../.."), ("all", "dog"), ("cat/below/up", "../../dog")],
)
def test_loops_and_second_names_are_left_out_and_named(tmp_path, link, to):
    root = files(tmp_path / "in" / "root", "dog/1.wav", "cat/below/2.wav")
    files(tmp_path, "private.wav", "in/beside.wav")
    (root / link).symlink_to(to)
    found = walk(root)
    assert named(root, found.files) == ["cat/below/2.wav", "dog/1.wav"]
    assert named(root, found.doubled) == [link]
    layout = read_layout(root)
    assert len(layout.rows) == 2
    assert [(skipped.name, skipped.broken) for skipped in layout.skipped] == [(link, False)]


def test_a_loop_elsewhere_and_links_that_double_each_other(tmp_path):
    """Thirty folders, each of which links twice to the next, are a billion paths."""
    for i in range(30):
        files(tmp_path, f"chain/{i}/{i}.wav")
        for name in "ab":
            (tmp_path / f"chain/{i}/{name}").symlink_to(f"../{(i + 1) % 30}")
    root = files(tmp_path / "root", "1.wav")
    (root / "start").symlink_to("../chain/0")
    found = walk(root)
    assert sorted(path.name for path in found.files) == sorted(["1.wav", *(f"{i}.wav" for i in range(30))])
    assert len(found.doubled) == 31


def test_what_links_to_nothing_is_named(tmp_path):
    root = files(tmp_path, "dog.wav")
    (root / "cat.wav").symlink_to("gone.wav")
    (root / "itself").symlink_to("itself")
    layout = read_layout(root)
    assert [row.caption for row in layout.rows] == ["dog"]
    assert [(skipped.name, skipped.why, skipped.broken) for skipped in layout.skipped] == [
        ("cat.wav", "is a link to nothing", True)
    ]


def test_hidden_names_are_found_where_asked_for(tmp_path):
    files(tmp_path, ".a.wav", ".hidden/b.wav", "c.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    assert named(tmp_path, walk(tmp_path).files) == ["c.wav"]
    assert named(tmp_path, walk(tmp_path, hidden=True).files) == [".a.wav", ".hidden/b.wav", "c.wav"]


@pytest.mark.parametrize("mark", ["pipeline.json", "recipe.yaml", "report.html"])
def test_what_was_made_is_no_data(tmp_path, mark):
    """A run or a report inside the folder that is trained on: its clips are no recordings."""
    root = files(tmp_path / "root", "dog.wav", "report/made/dog.wav", "report of mine/cat.wav")
    (root / "report" / mark).touch()
    layout = read_layout(root)
    assert named(root, [row.files["audio"] for row in layout.rows]) == ["dog.wav", "report of mine/cat.wav"]
    (left,) = layout.skipped
    assert (left.name, left.why, left.broken) == ("report", "holds a model or a report, and no data", False)
    assert len(walk(root).files) == 4, "other commands read all that there is"
    (root / mark).touch()
    assert len(read_layout(root).rows) == 2, "what is asked for is read, whatever it holds"
