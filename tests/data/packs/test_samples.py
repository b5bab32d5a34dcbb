"""samples: captions and splits as the starters had them, sounds checked by their own sums and by the table."""

import io

import numpy as np
import pytest
import soundfile

from cymatic.data.published import samples
from cymatic.data.published.originals import InFolder
from cymatic.data.published.shaping import levels
from cymatic.errors import Error

RATE = 44_100


def flac(signal: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, signal, rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def bell(hz: float, seconds: float) -> np.ndarray:
    """Two channels, of which the mean is a decaying tone after 0.1 s of silence and before 0.6 s of it."""
    time = np.arange(int(seconds * RATE)) / RATE
    tone = 0.5 * np.sin(2 * np.pi * hz * time) * np.exp(-3 * time)
    padded = np.pad(tone, (RATE // 10, 6 * RATE // 10))
    return np.stack([padded * 1.5, padded * 0.5], axis=1)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A folder with two files, and the table that belongs to it."""
    folder = tmp_path / "etc" / "samples"
    folder.mkdir(parents=True)
    lines = []
    for name, hz, seconds in (("bell_low", 220, 0.8), ("bell_high", 880, 0.5)):
        (folder / f"{name}.flac").write_bytes(flac(bell(hz, seconds)))
        time = np.arange(int(seconds * 24_000)) / 24_000
        tone = 0.5 * np.sin(2 * np.pi * hz * time) * np.exp(-3 * time)
        whole = np.pad(tone, (480, 4800))
        lines.append(
            samples.Sample(name, f"a {name}", "bell", "me", "", len(whole) / 24_000, "train", tuple(levels(whole, 8)))
        )
    monkeypatch.setattr(samples, "table", lambda: lines)
    return folder


def test_rows_are_those_that_the_starters_heard(heard):
    rows = heard("samples")
    assert [samples._row(one, one.seconds) for one in samples.table()] == rows


def test_the_pack_s_own_sounds_pass_the_table(heard, data_dir):
    for one, row in zip(samples.table(), heard("samples"), strict=True):
        signal, rate = soundfile.read(data_dir / "samples" / row["audio"])
        assert rate == 24_000 and np.abs(np.subtract(levels(signal, samples.PARTS), one.levels)).max() <= 0.51


def test_sounds_become_mono_24k_without_silence(source, writer):
    made = writer("samples")
    rows = samples.make(made, InFolder(source))
    assert [row["id"] for row in rows] == ["bell_low", "bell_high"] and "source" not in rows[0]
    signal, rate = soundfile.read(made.work / "audio" / "bell_low.ogg")
    assert (rate, signal.ndim) == (24_000, 1)
    assert abs(len(signal) / rate - 1.02) < 0.03 and rows[0]["seconds"] == round(len(signal) / rate, 4)
    assert 0.4 < np.abs(signal).max() < 0.55


def test_what_is_there_is_kept(source, writer):
    first = writer("samples")
    rows = samples.make(first, InFolder(source))
    (first.work / "audio" / "bell_high.ogg").write_bytes(b"OggS and then nothing")
    (source / "bell_low.flac").unlink()
    assert samples.make(writer("samples"), InFolder(source)) == rows


def test_a_damaged_flac_is_named(source, writer):
    data = bytearray((source / "bell_low.flac").read_bytes())
    data[30] ^= 1  # of the MD5 that the file holds
    (source / "bell_low.flac").write_bytes(data)
    with pytest.raises(Error, match=r"bell_low\.flac is damaged: .* MD5"):
        samples.make(writer("samples"), InFolder(source))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (flac(bell(220, 3.0)), r"is \d\.\d\d s long, and 1\.02 s were expected"),
        (flac(0.01 * bell(220, 0.8)), "sounds otherwise"),
        (b"RIFF" + bytes(60), "is no FLAC file"),
        (b"fLaC" + bytes(10) + b"x" * 60, "is not a sound that can be read"),
    ],
)
def test_another_file_is_refused(source, writer, data, complaint):
    (source / "bell_low.flac").write_bytes(data)
    with pytest.raises(Error, match=rf"bell_low\.flac {complaint}"):
        samples.make(writer("samples"), InFolder(source))
