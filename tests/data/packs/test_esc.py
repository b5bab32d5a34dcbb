"""esc10 and esc50: no recording on two sides of a split, and the starters' ids, captions and splits."""

import hashlib
import io
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile

from cymatic.data.published import esc
from cymatic.data.published.esc import Clip, Credit
from cymatic.data.published.originals import InFolder
from cymatic.errors import Error

LICENCE = """\
101 - Dog:
- [1-100032-A.ogg]: clip derived from rose_bark.wav (http://www.freesound.org/people/nfrae/sounds/100032/) by nfrae [CC0]
- [5-9032-A.ogg]:  clip derived from A (b) c.wav (http://www.freesound.org/people/M%20T/sounds/9032/) by M T [CC-BY]
102 - Rooster:
- [1-40730-A.ogg]: clip derived from rooster2.wav (http://www.freesound.org/people/pionium/sounds/40730/) by pionium [CC-Sampling+]
Something else.
"""  # noqa: E501


def wave(hz: float, seconds: float) -> bytes:
    """A tone, and zeros up to 5 s."""
    signal = np.zeros(5 * 44_100)
    signal[: int(seconds * 44_100)] = 0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * 44_100)) / 44_100)
    buffer = io.BytesIO()
    soundfile.write(buffer, signal, 44_100, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A clone with three clips, one of them under CC Sampling+."""
    (tmp_path / "clone" / "audio").mkdir(parents=True)
    (tmp_path / "clone" / "LICENSE").write_text(LICENCE)
    clips = []
    for name, hz in (("1-100032-A-0", 200), ("5-9032-A-0", 400), ("1-40730-A-1", 800)):
        data = wave(hz, 1.0)
        (tmp_path / "clone" / "audio" / f"{name}.wav").write_bytes(data)
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()[:8]
        clips.append(Clip(name, md5, "test" if name[0] == "5" else "train"))
    monkeypatch.setattr(esc, "table", lambda: clips)
    return tmp_path / "clone"


def test_the_table_is_that_of_esc50():
    clips = esc.table()
    assert len(clips) == len({clip.id for clip in clips}) == 2000
    assert Counter(clip.fold for clip in clips) == dict.fromkeys(range(1, 6), 400)
    assert Counter(clip.target for clip in clips) == dict.fromkeys(range(50), 40)
    assert set(esc.CLASSES) == set(range(50)) and len(set(esc.CLASSES.values())) == 50
    # The licence file names clips without their class.
    assert len({clip.name.rsplit("-", 1)[0] for clip in clips}) == 2000


def test_no_recording_lies_on_two_sides():
    sides = defaultdict(set)
    for clip in esc.table():
        sides[clip.recording].add(clip.split)
    assert all(len(splits) == 1 for splits in sides.values())
    assert all(clip.split == "test" for clip in esc.table() if clip.fold == 5)
    assert sum(clip.split == "test" for clip in esc.table() if clip.fold != 5) == 2
    counts = Counter(clip.split for clip in esc.table())
    assert 0.08 < counts["valid"] / (counts["valid"] + counts["train"]) < 0.12


def test_esc10_is_as_the_starters_heard_it(heard):
    theirs = {row["id"]: row for row in heard("effects") if row["id"].startswith("esc10/")}
    sampling = {name: Credit("", esc.SAMPLING, "", "") for name in ("1-40730-A-1", "2-96460-A-1")}
    ours = {clip.id: clip for clip in esc.chosen(esc.table(), sampling)}
    assert len(ours) == 397 and sum(clip.fold == 5 for clip in ours.values()) == 80
    assert {name for name, clip in ours.items() if clip.fold != 5} == set(theirs)
    for name, row in theirs.items():
        clip = ours[name]
        made = esc._row(clip, row["seconds"], None)
        same = ("id", "audio", "caption", "label", "group", "fold", "split", "source_rate")
        assert {key: made[key] for key in same} == {key: row[key] for key in same}


def test_credits_are_read(source, heard):
    credits = esc.credits_in(LICENCE)
    assert credits["5-9032-A-0"] == Credit(
        "M T", "CC-BY-3.0", "http://www.freesound.org/people/M%20T/sounds/9032/", "A (b) c.wav"
    )
    row = next(row for row in heard("effects") if row["id"] == "esc10/1_100032_a")
    credit = credits["1-100032-A-0"]
    assert (credit.author, credit.licence, credit.source, credit.title) == (
        row["author"], row["licence"], row["source_url"], row["source_title"],
    )  # fmt: skip


def test_ten_leaves_out_what_is_not_free(source, writer):
    made = writer("esc10")
    rows, text = esc.make(made, InFolder(source), ten=True)
    assert [(row["id"], row["split"]) for row in rows] == [("esc10/1_100032_a", "train"), ("esc10/5_9032_a", "test")]
    assert text == LICENCE and rows[0]["licence"] == "CC0-1.0" and rows[0]["author"] == "nfrae"
    signal, rate = soundfile.read(made.work / rows[0]["audio"])
    assert (rate, signal.ndim) == (24_000, 1) and abs(len(signal) / rate - 1.0) < 0.01  # without the zeros
    assert rows[0]["seconds"] == round(len(signal) / rate, 4)


def test_fifty_keeps_all_and_says_the_licence(source, writer):
    rows, _ = esc.make(writer("esc50"), InFolder(source), ten=False)
    assert [row["licence"] for row in rows] == ["CC0-1.0", "CC-BY-3.0", "CC-Sampling+"]


def test_other_bytes_are_named_and_what_is_there_is_kept(source, writer):
    place = source / "audio" / "5-9032-A-0.wav"
    right = place.read_bytes()
    place.write_bytes(wave(401, 1.0))
    with pytest.raises(Error, match=r"5-9032-A-0\.wav is not what was published: its MD5 begins .* fetch it again"):
        esc.make(writer("esc10"), InFolder(source), ten=True)
    place.write_bytes(right)
    (source / "audio" / "1-100032-A-0.wav").unlink()
    assert len(esc.make(writer("esc10"), InFolder(source), ten=True)[0]) == 2


def test_another_licence_file_is_refused(source, writer):
    (source / "LICENSE").write_text("MIT\n")
    with pytest.raises(Error, match="LICENSE credits 0 of 3 clips, so it is not that of ESC-50"):
        esc.make(writer("esc10"), InFolder(source), ten=True)


def test_a_clip_of_nothing_but_zeros_is_kept_whole(source, writer):
    data = wave(200, 0.0)
    (source / "audio" / "1-100032-A-0.wav").write_bytes(data)
    esc.table()[0] = Clip("1-100032-A-0", hashlib.md5(data, usedforsecurity=False).hexdigest()[:8], "train")
    assert esc.make(writer("esc10"), InFolder(source), ten=True)[0][0]["seconds"] == 5.0
