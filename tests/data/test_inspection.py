"""What an inspection finds, and what its contact sheet shows."""

import numpy as np
import pytest
from tests.helpers import tone, tone_folder

from cymatic.data.inspection import inspect_folder, sheet
from cymatic.media.sound import Sound


@pytest.fixture
def folder(tmp_path):
    """Eight tones, and one of each kind of trouble."""
    root = tone_folder(tmp_path / "sounds")
    (root / "broken.wav").write_text("this is no sound")
    (root / "_.wav").write_bytes((root / "low-tone_1.wav").read_bytes())
    (root / "low-tone_9.wav").write_bytes((root / "low-tone_1.wav").read_bytes())
    (root / "notes.md").write_text("neither is this")
    Sound(np.zeros(8000), 8000).write(root / "silence.wav")
    Sound(np.clip(9 * tone(300).samples, -1, 1), 8000).write(root / "clipped.wav")
    tone(300, rate=24_000).write(root / "fine.flac")
    return root


def names(found, items):
    return sorted(found.name(item) for item in items)


def test_each_kind_of_trouble_is_found(folder):
    for _ in range(2):  # measured, then from the cache
        found = inspect_folder(folder)
        assert [skipped.name for skipped in found.broken] == ["_.wav", "broken.wav"]
        assert [skipped.name for skipped in found.others] == ["notes.md"]
        assert names(found, found.empty) == ["silence.wav"]
        assert [(found.name(item), what[:10]) for item, what in found.problems] == [("clipped.wav", "is clipped")]
        assert [names(found, items) for items in found.copies] == [["low-tone_1.wav", "low-tone_9.wav"]]
        assert found.captions["low tone"] == 5 and len(found.clips) == 12
        assert found.hours == pytest.approx(sum(facts.length for _, facts in found.clips) / 3600)


def test_a_sheet_has_a_row_for_each_caption(folder):
    places, columns = sheet(inspect_folder(folder))
    assert columns == 4
    rows = [places[i : i + 4] for i in range(0, len(places), 4)]
    assert [[place and place[0] for place in row] for row in rows] == [
        ["low tone"] * 4, ["high tone"] * 4, ["clipped", None, None, None], ["fine", None, None, None],
    ]  # fmt: skip


def test_a_sheet_of_single_clips_is_a_grid(tmp_path):
    for i in range(45):
        tone(200 + i, 0.05, seed=i).write(tmp_path / f"{i}x.wav")
    found = inspect_folder(tmp_path)
    places, columns = sheet(found)
    assert (len(places), columns) == (40, 4)
    assert len({place[0] for place in places if place}) == 40
    assert any("no caption has a second clip" in remark for remark in found.remarks)


def test_captions_all_the_same_and_clips_all_the_same_are_remarked(tmp_path):
    for i in range(9):
        tone(300, 0.1, seed=i).write(tmp_path / f"dog_{i}.wav")
    found = inspect_folder(tmp_path)
    assert [remark[:26] for remark in found.remarks] == ["all clips have one caption"]
    data = (tmp_path / "dog_1.wav").read_bytes()
    for path in tmp_path.iterdir():
        path.write_bytes(data)
    found = inspect_folder(tmp_path)
    assert [remark[:22] for remark in found.remarks] == [
        *("all clips have one cap", "all clips are copies o", "no clip is held out, s")
    ]
    assert len(found.copies[0]) == 9


def test_of_a_long_sound_the_beginning_is_drawn(tmp_path):
    tone(300, 30.0).write(tmp_path / "rain.wav")
    ((place,), _) = sheet(inspect_folder(tmp_path))
    assert place is not None and place[1].seconds == 10


def test_frequent_captions_come_first_and_ties_from_all_over(tmp_path):
    for caption in range(30):
        for take in range(3 if caption == 7 else 2):
            tone(300, 0.05, seed=100 * caption + take).write(tmp_path / f"c{caption:02}x_{take}.wav")
    places, columns = sheet(inspect_folder(tmp_path))
    shown = [place[0] for place in places[::columns] if place]
    assert shown[0] == "c07x" and len(shown) == len(set(shown)) == 10
    assert shown[1] == "c00x" and shown[-1] > "c25x"
