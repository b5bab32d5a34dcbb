"""Names of files that are no text are called so, and not bad prompts."""

import os
import sys

import pytest
from tests.helpers import tone

from cymatic.data.inspection import inspect_folder
from cymatic.data.layouts import read_layout
from cymatic.encoders.text import normalise
from cymatic.errors import PromptError

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are UTF-8 on this system")
ODD = os.fsdecode(b"caf\xe9")  # Latin-1


def test_a_file_whose_name_is_no_text(tmp_path):
    for name in ("dog_1", "cat_1", ODD):
        tone(440).write(tmp_path / f"{name}.wav")
    layout = read_layout(tmp_path)
    assert [row.caption for row in layout.rows] == ["cat", "dog"]
    (skipped,) = layout.skipped
    assert (skipped.name, skipped.why, skipped.broken) == (
        f"{ODD}.wav",
        "has a name that is not UTF-8; rename it",
        True,
    )
    assert len(read_layout(tmp_path, captions=False).rows) == 3, "a codec needs no names"
    assert [one.why for one in inspect_folder(tmp_path).broken] == ["has a name that is not UTF-8; rename it"]


def test_a_class_whose_name_is_no_text(tmp_path):
    for name in ("dog", "cat", ODD):
        (tmp_path / name).mkdir()
        tone(440).write(tmp_path / name / "1.wav")
    layout = read_layout(tmp_path)
    assert [row.caption for row in layout.rows] == ["cat", "dog"]
    assert "not UTF-8" in layout.skipped[0].why


def test_a_name_that_is_no_text_beside_its_caption(tmp_path):
    tone(440).write(tmp_path / f"{ODD}.wav")
    (tmp_path / f"{ODD}.txt").write_text("a tone")
    assert [row.caption for row in read_layout(tmp_path).rows] == ["a tone"]


def test_a_prompt_that_is_no_text():
    with pytest.raises(PromptError, match=r"'caf\\udce9' is not UTF-8; give text in UTF-8"):
        normalise(ODD)


def test_a_name_that_is_no_text_is_no_name_in_a_shard(tmp_path, codec_folder):
    from cymatic.pipelines.bulk import encode_in_bulk

    (tmp_path / "in").mkdir()
    for name in ("dog", ODD):
        tone(440).write(tmp_path / f"in/{name}.wav")
        (tmp_path / f"in/{name}.txt").write_text("a tone")
    said: list[str] = []
    totals = encode_in_bulk(tmp_path / "in", tmp_path / "out", codec_folder, say=said.append)
    assert totals.sounds == 1 and [(one.name, one.why) for one in totals.skipped] == [
        (f"{ODD}.wav", "has a name that is not UTF-8; rename it")
    ]
    assert r"caf\udce9.wav: has a name" in (tmp_path / "out/summary.json").read_text()
