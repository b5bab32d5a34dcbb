"""digits: the very samples and the very manifest that the starters heard."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cymatic.data.published import digits
from cymatic.data.published.get import get
from cymatic.data.published.originals import InFolder
from cymatic.errors import Error

TWO = ["0_george_5", "0_george_6"]


def wav_of(digits_dir: Path, clip: str) -> bytes:
    samples, rate = soundfile.read(digits_dir / "audio" / clip.split("_")[1] / f"{clip}.flac", dtype="int16")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


@pytest.fixture
def two(digits_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with two recordings, and a table of these."""
    pinned = digits.hashes()
    monkeypatch.setattr(digits, "hashes", lambda: {clip: pinned[clip] for clip in TWO})
    clone = tmp_path / "clone" / "recordings"
    clone.mkdir(parents=True)
    for clip in TWO:
        (clone / f"{clip}.wav").write_bytes(wav_of(digits_dir, clip))
    return tmp_path / "clone"


def test_the_table_is_of_2700_clips():
    pinned = digits.hashes()
    assert len(pinned) == 2700 and all(len(digest) == 8 for digest in pinned.values())


def test_ids_and_rows_are_those_that_the_starters_heard(heard):
    rows = heard("digits")
    assert [digits._row(row["id"], round(row["seconds"] * 8000)) for row in rows] == rows
    assert list(digits.hashes()) == [row["id"] for row in rows]


@pytest.mark.slow
def test_the_whole_pack_comes_from_an_archive(digits_dir, tmp_path):
    archive = tmp_path / "fsdd.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for clip in digits.hashes():
            file.writestr(f"free-spoken-digit-dataset-1306d2c/recordings/{clip}.wav", wav_of(digits_dir, clip))
    made = get("digits", tmp_path / "data", archive)
    folder = tmp_path / "data" / "digits"
    assert (folder / "manifest.jsonl").read_bytes() == (digits_dir / "manifest.jsonl").read_bytes()
    assert {path.name for path in folder.iterdir()} == {"audio", "manifest.jsonl", "README.md", "LICENSE"}
    assert "ShareAlike 4.0" in (folder / "LICENSE").read_text() and not made.was_there
    again = get("digits", tmp_path / "data")
    assert again.was_there and again.rows == made.rows


def test_samples_are_kept_bit_for_bit(two, writer, digits_dir, monkeypatch):
    monkeypatch.setattr(digits, "ALL_SAMPLES", total_of(digits_dir))
    made = writer("digits")
    digits.make(made, InFolder(two))
    for clip in TWO:
        ours, rate = soundfile.read(made.work / "audio" / "george" / f"{clip}.flac", dtype="int16")
        theirs, _ = soundfile.read(digits_dir / "audio" / "george" / f"{clip}.flac", dtype="int16")
        assert rate == 8000 and np.array_equal(ours, theirs)


def test_what_is_there_and_right_is_kept(two, writer, digits_dir, monkeypatch):
    monkeypatch.setattr(digits, "ALL_SAMPLES", total_of(digits_dir))
    first = writer("digits")
    digits.make(first, InFolder(two))
    damaged, whole = (first.work / "audio" / "george" / f"{clip}.flac" for clip in TWO)
    damaged.write_bytes(damaged.read_bytes()[:500])
    (two / "recordings" / f"{TWO[1]}.wav").unlink()  # so it can only be kept
    before = whole.stat().st_mtime_ns
    assert len(digits.make(writer("digits"), InFolder(two))) == 2
    assert whole.stat().st_mtime_ns == before and soundfile.info(damaged).frames > 0


def test_other_samples_are_named(two, writer):
    samples = np.zeros(4000, dtype=np.int16)
    soundfile.write(two / "recordings" / f"{TWO[1]}.wav", samples, 8000)
    with pytest.raises(Error, match=r"0_george_6\.wav holds other samples than were published: .* fetch it again"):
        digits.make(writer("digits"), InFolder(two))


def test_another_rate_and_what_is_no_sound(two, writer):
    place = two / "recordings" / f"{TWO[0]}.wav"
    soundfile.write(place, np.zeros((400, 2)), 44_100)
    with pytest.raises(Error, match=r"0_george_5\.wav has 2 channels at 44100 Hz, and one at 8000 Hz was expected"):
        digits.make(writer("digits"), InFolder(two))
    place.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(Error, match=r"0_george_5\.wav is not a sound that can be read"):
        digits.make(writer("digits"), InFolder(two))


def total_of(digits_dir):
    import hashlib

    lines = []
    for clip in TWO:
        samples, _ = soundfile.read(digits_dir / "audio" / "george" / f"{clip}.flac", dtype="int16")
        lines.append(f"{clip} {hashlib.sha256(samples.astype('<i2').tobytes()).hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
