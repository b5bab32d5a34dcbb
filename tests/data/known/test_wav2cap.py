"""Tables of a sound, a picture and a caption a line, whatever their columns are called."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import disc, tone

from cymatic.data.folder import read_folder
from cymatic.data.known.known_layout import FileIndex
from cymatic.data.layouts import read_layout

ROWS = [("wavs/a_0.wav", "Images/a.jpg", "a dog"), ("wavs/a_1.wav", "Images/a.jpg", "a dog, running")]
ROWS += [("wavs/b_0.wav", "Images/b.jpg", "a cat")]


def files(root: Path, rows=ROWS) -> Path:
    for wav, picture, _ in rows:
        for path in (wav, picture):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
        tone(300, 0.1).write(root / wav)
        disc(0.5, size=8).write((root / picture).with_suffix(".png")).rename(root / picture)
    return root


def table(header: str, rows=ROWS) -> str:
    return "\n".join([*([header] if header else []), *(f'{wav},{picture},"{said}"' for wav, picture, said in rows)])


@pytest.mark.parametrize(
    "header",
    ["wav,image,caption", "wav_path,img_path,text", "Audio File,Image Name,Transcript", "speech,picture,sentence", ""],
)
def test_whatever_the_columns_are_called(tmp_path, header):
    root = files(tmp_path)
    (root / "wav2cap.csv").write_text(table(header))
    folder = read_folder(root, role="audio", given=["picture"])
    assert "(wav2cap.csv)" in folder.layout and not folder.skipped
    assert [item.caption for item in folder.items] == ["a dog", "a dog, running", "a cat"]
    assert [item.group for item in folder.items] == ["a", "a", "b"]
    assert folder.items[1].path("picture") == root / "Images" / "a.jpg"
    given_alone = read_folder(root / "wav2cap.csv")
    assert [item.path() for item in given_alone.items] == [item.path() for item in folder.items]


def test_splits_speakers_and_other_columns(tmp_path):
    root = files(tmp_path)
    rows = ["wavs/a_0.wav,Images/a.jpg,a dog,train,7,x", "wavs/b_0.wav,Images/b.jpg,a cat,dev,8,"]
    (root / "all.csv").write_text("\n".join(["wav,image,caption,set,speaker,more", *rows]))
    items = read_folder(root).items
    assert [(item.split, item.fields["speaker"]) for item in items] == [("train", "7"), ("valid", "8")]
    assert items[0].fields["more"] == "x"


def test_a_table_a_split(tmp_path):
    root = files(tmp_path)
    for name, rows in (("train", ROWS[:2]), ("val", ROWS[2:])):
        (root / f"{name}.csv").write_text(table("wav,image,caption", rows))
    assert [item.split for item in read_folder(root).items] == ["train", "train", "valid"]


def test_paths_of_another_machine_and_names_alone(tmp_path):
    root = files(tmp_path)
    rows = [("/content/drive/data/wavs/a_0.wav", "/content/drive/data/Images/a.jpg", "one")]
    rows += [("D:\\data\\wavs\\a_1.wav", "a.jpg", "two"), ("b_0.wav", "elsewhere/b.jpg", "three")]
    (root / "t.csv").write_text(table("wav,image,caption", rows))
    layout = read_layout(root, role="audio", given=["picture"])
    assert [row.caption for row in layout.rows] == ["one", "two"]
    assert "names the picture elsewhere/b.jpg, which is not here" in layout.skipped[0].why


def test_missing_files_and_broken_lines_are_named(tmp_path):
    root = files(tmp_path)
    text = table("wav,image,caption", [*ROWS, ("gone.wav", "Images/a.jpg", "gone")])
    (root / "t.csv").write_text(text + "\nwavs/a_0.wav,Images/a.jpg,a dog, unquoted\n../out.wav,,outside\n")
    layout = read_layout(root)
    assert len(layout.rows) == 3
    assert [one.name for one in layout.skipped] == ["t.csv line 5", "t.csv line 6", "t.csv line 7"]
    assert "put captions with commas in quotes" in layout.skipped[1].why


def test_other_tables_are_no_layout(tmp_path):
    root = files(tmp_path)
    for text in ("id,label\n1,dog\n", "wav,score\nwavs/a_0.wav,3\n", "wav,caption\n17,a dog\n", "", "\xff"):
        (root / "t.csv").write_text(text, encoding="latin-1")
        assert "t.csv" not in read_layout(root, role="audio").name
    (root / "given.csv").write_text("audio,caption\nwavs/a_0.wav,a dog\n")
    assert read_layout(root / "given.csv").name == "given.csv", "a manifest of another name stays one"


NAMES = st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=3).map("/".join)


@given(st.sets(NAMES, max_size=8), NAMES, NAMES, st.booleans())
def test_what_is_found_is_certain(paths, name, place, unique):
    root = Path("/root")
    index = FileIndex(root, [root / path for path in sorted(paths)])
    found = index.find(name, place, unique=unique)
    assert found is None or (found in paths and found.rpartition("/")[2] == name.rpartition("/")[2])
    if f"{place}/{name}" in paths:
        assert found == f"{place}/{name}"
    ends = [path for path in paths if f"/{path}".endswith(f"/{name}")]
    if len(ends) == 1 and f"{place}/{name}" not in paths:
        assert found == ends[0]
    if not ends and not unique:
        assert found is None
