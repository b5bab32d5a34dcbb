"""Reading and writing sound files: every way a file can be wrong has its sentence, and odd but valid files are read."""

import builtins
import copy
import errno
import io
import json
import os
import stat
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cymatic.data.cache import Cache
from cymatic.errors import Error, SoundError
from cymatic.files import write_atomically
from cymatic.media import containers
from cymatic.media.audio_files import FORMATS
from cymatic.media.sound import Sound
from cymatic.training import state

EXTENSIONS = list(FORMATS)


def wave(channels: int = 1, samples: int = 12_000, rate: int = 24_000) -> np.ndarray:
    time = np.arange(samples) / rate
    return np.stack([0.4 * np.sin(2 * np.pi * 330 * (i + 1) * time) for i in range(channels)]).astype(np.float32)


def encoded(container: str = "WAV", subtype: str = "PCM_16", samples: np.ndarray | None = None) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal(24_000) * 0.1
    soundfile.write(buffer, noise if samples is None else samples, 24_000, subtype, format=container)
    return buffer.getvalue()


def refused(path, *, said: str, raises: type[Exception] = SoundError) -> None:
    """Reading `path` fails with one sentence that names it and holds `said`."""
    with pytest.raises(raises) as caught:
        Sound.read(path)
    message = str(caught.value)
    assert said in message and str(path) in message
    assert "\n" not in message and "; " in message  # what came; what to do


# --- writing and reading back


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("extension", "tolerance"), [(".wav", 1e-4), (".flac", 1e-4), (".ogg", 0.05), (".mp3", 0.05)])
def test_round_trip(tmp_path, extension, tolerance, channels):
    sound = Sound(wave(channels), 24_000).fade(0.05, 0.05)
    back = Sound.read(sound.write(tmp_path / f"a{extension}"))
    assert back.rate == 24_000 and back.samples.shape == sound.samples.shape
    assert np.abs(back.samples - sound.samples).max() < tolerance


@pytest.mark.parametrize(("rate", "expected"), [(24_000, 24_000), (22_050, 24_000), (8_000, 8_000), (96_000, 48_000)])
def test_opus_and_its_few_rates(tmp_path, rate, expected):
    sound = Sound(wave(rate=rate, samples=rate), rate)
    back = Sound.read(sound.write(tmp_path / "a.opus"))
    assert back.rate == expected and back.seconds == pytest.approx(1, abs=1e-3)
    spectrum = np.abs(np.fft.rfft(back.samples[0] * np.hanning(len(back))))
    assert spectrum.argmax() == pytest.approx(330, abs=2)
    assert back.loudness() == pytest.approx(sound.loudness(), abs=1)


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize(
    "info",
    [
        {"prompt": 'a "dog" barks, 狗叫 🐕', "seed": 3, "model": None, "parts": ["a", {"b": 0.5}]},
        {"prompt": "long " * 2000},
        {"prompt": "nul\0 and\nline"},
        {},
    ],
    ids=["json", "long", "control", "none"],
)
def test_info_travels_in_the_file(tmp_path, extension, info):
    path = Sound(wave(), 24_000, info).write(tmp_path / f"a{extension}")
    assert Sound.read(path).info == info
    if extension == ".wav" and "seed" in info:
        tags = soundfile.SoundFile(path).copy_metadata()
        assert tags["title"] == info["prompt"] and tags["software"].startswith("cymatic")
        assert json.loads(tags["comment"]) == info


def test_comments_of_others_are_not_info(tmp_path):
    for comment in ("recorded by Ann", "[1, 2]", "{" * 1500):
        with soundfile.SoundFile(tmp_path / "a.wav", "w", 24_000, 1) as file:
            file.comment = comment
            file.write(wave()[0])
        assert Sound.read(tmp_path / "a.wav").info == {}


def test_info_that_is_not_json(tmp_path):
    for info in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises(SoundError, match="JSON"):
            Sound(wave(), 24_000, info).write(tmp_path / "a.wav")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extension", [".wav", ".flac"])
def test_loud_samples_are_scaled_not_clipped(tmp_path, extension):
    loud = wave() * 5
    back = Sound.read(Sound(loud, 24_000).write(tmp_path / f"a{extension}"))
    assert np.abs(back.samples).max() == pytest.approx(1, abs=1e-4)
    assert back.samples == pytest.approx(loud / np.abs(loud).max(), abs=1e-4)


@pytest.mark.parametrize(
    "name", ["a.wav", "A.WAV", "two words.flac", 'it\'s "quoted".ogg', "žlutý 🐕 狗.mp3", "a.b.opus"]
)
def test_any_name(tmp_path, name):
    assert Sound.read(Sound(wave(), 24_000).write(tmp_path / name)).channels == 1


@pytest.mark.parametrize("name", ["a.xyz", "a", "a.wav.txt"])
def test_unknown_extension(tmp_path, name):
    with pytest.raises(SoundError, match=r"\.wav, \.flac, \.ogg, \.opus, \.mp3"):
        Sound(wave(), 24_000).write(tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_more_channels_than_the_format_holds(tmp_path):
    sound = Sound(wave(9), 24_000)
    for name, most in (("a.mp3", 2), ("a.flac", 8)):
        with pytest.raises(SoundError, match=f"{most} channels at most, not 9"):
            sound.write(tmp_path / name)
    assert Sound.read(sound.write(tmp_path / "a.wav")).channels == 9


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("rate", [1, 7999, 44_100, 192_000, 768_000])
def test_any_rate_is_written_in_any_format(tmp_path, extension, rate):
    sound = Sound(np.full(max(100, rate // 10), 0.1), rate)
    back = Sound.read(sound.write(tmp_path / f"a{extension}"))
    assert back.seconds == pytest.approx(sound.seconds, rel=0.05)


# --- writing that fails


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
@pytest.mark.parametrize("step", ["open", "write", "replace"])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, number, step):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")
    failure = OSError(number, os.strerror(number))

    def fail(*_, **__):
        raise failure

    real_open = builtins.open

    def opened(name, mode="r", *args, **kwargs):
        if mode != "xb":
            return real_open(name, mode, *args, **kwargs)
        if step == "open":
            fail()
        file = real_open(name, mode, *args, **kwargs)
        file.write(b"half")
        file.close()
        return _Failing(fail)

    with monkeypatch.context() as patched:
        if step == "replace":
            patched.setattr(os, "replace", fail)
        else:
            patched.setattr(builtins, "open", opened)
        with pytest.raises(SoundError) as caught:
            Sound(wave(), 24_000).write(path)
    assert str(path) in str(caught.value) and os.strerror(number).lower() in str(caught.value).lower()
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"] and path.read_bytes() == b"old"


class _Failing:
    def __init__(self, fail):
        self.write = fail

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", b"data")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def order(monkeypatch) -> list[tuple[str, str]]:
    """What is synced and renamed, in this order: ("sync", "a" or "folder"), ("rename", name)."""
    done: list[tuple[str, str]] = []
    real_sync, real_replace, real_rename = os.fsync, os.replace, os.rename

    def fsync(handle):
        place = Path(os.readlink(f"/proc/self/fd/{handle}"))
        done.append(("sync", place.name if place.is_dir() else "data"))
        real_sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("rename", Path(b).name)), real_replace(a, b)))
    monkeypatch.setattr(os, "rename", lambda a, b, **k: (done.append(("rename", Path(b).name)), real_rename(a, b, **k)))
    return done


needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs Linux to see what is synced")


@needs_proc
def test_data_are_on_the_disk_before_their_name_is(tmp_path, order):
    write_atomically(tmp_path / "a", b"data")
    assert order == [("sync", "data"), ("rename", "a"), ("sync", tmp_path.name)]
    order.clear()
    Cache(tmp_path / "cache").put("key", b"content")
    assert [what for what, _ in order] == ["rename"], "a cache does not wait for the disk"


@needs_proc
def test_a_state_is_on_the_disk_before_the_old_one_goes(tmp_path, order, monkeypatch):
    removed = []
    monkeypatch.setattr(
        state.shutil, "rmtree", lambda path, **_: (removed.append(Path(path).name), order.append("gone"))
    )
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    for step in (1, 2):
        order.clear()
        state.save_state(tmp_path / "state", network, copy.deepcopy(network), optimizer, state.Progress(step))
    renamed = order.index(("rename", "step-2"))
    synced = order.index(("sync", "state"), renamed)
    assert ("sync", "writing.tmp") in order[:renamed]
    assert removed[-1] == "step-1" and "gone" in order[synced:]


@pytest.mark.skipif(os.name == "nt", reason="folders are synced elsewhere")
def test_a_file_system_that_knows_no_sync_is_written_to(tmp_path, monkeypatch):
    def unknown(handle):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "fsync", unknown)
    assert write_atomically(tmp_path / "a", b"data").read_bytes() == b"data"


def test_a_disk_that_fails_while_data_are_synced_leaves_the_old_file(tmp_path, monkeypatch):
    def broken(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(Error, match=r"a can't be written: input/output error"):
        write_atomically(tmp_path / "a", b"data")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_impossible_places(tmp_path):
    sound = Sound(wave(), 24_000)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    for path, said in [
        (tmp_path / "missing" / "a.wav", "there is no folder"),
        (tmp_path / "file" / "a.wav", "can't be written"),
        (tmp_path / "folder.wav", "is a folder"),
        (tmp_path / ("x" * 300 + ".wav"), "too long"),
        (tmp_path / "nul\0.wav", "can't be written"),
    ]:
        with pytest.raises(SoundError) as caught:
            sound.write(path)
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.wav"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind root")
def test_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SoundError, match="permission denied"):
        Sound(wave(), 24_000).write(tmp_path / "a.wav")
    tmp_path.chmod(0o700)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
def test_permissions_and_links_are_the_users(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    write_atomically(tmp_path / "a", b"one")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    (tmp_path / "link").symlink_to("a")
    write_atomically(tmp_path / "link", b"two")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a").read_bytes() == b"two"


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="no /dev/null here")
def test_a_device_is_written_to_and_not_replaced():
    write_atomically("/dev/null", b"data")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_write_atomically_raises_the_family(tmp_path):
    with pytest.raises(Error):
        write_atomically(tmp_path / "missing" / "a", b"")


# --- files that are wrong


def test_missing_folder_and_strange_paths(tmp_path):
    refused(tmp_path / "missing.wav", said="does not exist", raises=FileNotFoundError)
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "a.wav", said="does not exist", raises=FileNotFoundError)
    refused(tmp_path, said="is a folder")
    with pytest.raises(SoundError, match="can't be read"):
        Sound.read("nul\0.wav")
    with pytest.raises(SoundError, match="too long"):
        Sound.read(tmp_path / ("x" * 300))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    refused(tmp_path / "pipe.wav", said="not a regular file")


def test_unreadable(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    path.write_bytes(encoded())
    real_open = builtins.open

    def denied(name, *args, **kwargs):
        if name == path:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", denied)
    refused(path, said="permission denied")


def test_empty_and_too_short(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"")
    refused(path, said="is empty (0 bytes)")
    for container in ("WAV", "AIFF"):
        path.write_bytes(encoded(container, samples=np.zeros(0)))
        refused(path, said="0 samples")
    path.write_bytes(encoded(samples=np.zeros(0)) + b"LIST" + struct.pack("<I", 2000) + bytes(2000))
    refused(path, said="0 samples")
    path.write_bytes(encoded(samples=np.zeros(1)))
    refused(path, said="1 sample,")
    path.write_bytes(encoded(samples=np.zeros(200)))
    refused(path, said="200 samples, 0.0083 s")
    path.write_bytes(encoded(samples=np.zeros(240)))
    assert len(Sound.read(path)) == 240


@pytest.mark.parametrize("data", [b"\0", b"hello", b"%PDF-1.4 " * 100, b"\x89PNG\r\n\x1a\n" + bytes(500), bytes(5000)])
@pytest.mark.parametrize("name", ["a.wav", "a.raw", "a.vox", "a.mp3", "noextension"])
def test_not_a_sound(tmp_path, monkeypatch, data, name):
    monkeypatch.setenv("PATH", str(tmp_path))  # no ffmpeg
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, said="install ffmpeg")


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "MS_ADPCM"),
        ("RF64", "PCM_16"),
        ("AIFF", "PCM_24"),
        ("AU", "PCM_16"),
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
        ("VOC", "PCM_16"),
        ("NIST", "PCM_24"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
@pytest.mark.parametrize("kept", [0.03, 0.5, 0.97])
def test_cut_short(tmp_path, monkeypatch, container, subtype, kept):
    monkeypatch.setenv("PATH", str(tmp_path))
    data = encoded(container, subtype)
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    assert len(Sound.read(path)) >= 24_000
    path.write_bytes(data[: int(len(data) * kept)])
    in_header = container in ("CAF", "NIST") and kept < 0.1
    refused(path, said="" if in_header else "cut short")


def test_a_hole_in_the_middle(tmp_path):
    for container, subtype in [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")]:
        noise = np.random.default_rng(0).standard_normal(96_000) * 0.1
        data = encoded(container, subtype, noise)
        for at in (len(data) // 2, data.rindex(data[:4])):  # within a page of Ogg; over the head of one
            (tmp_path / "a").write_bytes(data[:at] + bytes(20) + data[at + 20 :])
            refused(tmp_path / "a", said="damaged or cut short" if at else "")


def test_streamed_wav_without_lengths(tmp_path):
    data = bytearray(encoded())
    at = data.index(b"data") + 4
    for length in (0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000):
        data[at : at + 4] = struct.pack("<I", length)
        for whole in (data[4:8], struct.pack("<I", 0xFFFFFFFF)):
            (tmp_path / "a.wav").write_bytes(data[:4] + whole + data[8:])
            assert len(Sound.read(tmp_path / "a.wav")) == 24_000


def test_streamed_files_of_other_kinds(tmp_path):
    """Where the length is unknown: RF64 (0 and all ones), RIFX, CAF (-1), AIFF (0 and the largest)."""
    path, expected = tmp_path / "a", encoded()
    rf64 = bytearray(encoded("RF64"))
    at = rf64.index(b"ds64") + 16
    streamed = [rf64[:at] + length + rf64[at + 8 :] for length in (bytes(8), b"\xff" * 8)]
    rifx = io.BytesIO()
    soundfile.write(rifx, np.random.default_rng(0).standard_normal(24_000) * 0.1, 24_000, "PCM_16", "BIG", "WAV")
    for kind, data, lengths in [
        (b"data", rifx.getvalue(), (0, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)),
        (b"SSND", encoded("AIFF"), (0x7FFFFFFF, 0x7FFFF008)),
    ]:
        at = data.index(kind) + 4
        streamed += [data[:at] + struct.pack(">I", length) + data[at + 4 :] for length in lengths]
    caf = encoded("CAF")
    at = caf.index(b"data") + 4
    streamed.append(caf[:at] + b"\xff" * 8 + caf[at + 8 :])
    path.write_bytes(expected)
    samples = Sound.read(path).samples
    for data in streamed:
        path.write_bytes(data)
        assert np.array_equal(Sound.read(path).samples, samples), data[:4]


def test_a_recording_of_two_gigabytes_is_one_of_known_length(tmp_path):
    """A length near a mark is a length, where the file holds as much; what follows the samples is not heard."""
    data = bytearray(encoded(subtype="PCM_U8", samples=wave()[0]))
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0x7FFFF000)
    path = tmp_path / "a.wav"
    with open(path, "wb") as file:
        file.write(data)
        file.truncate(at + 4 + 0x7FFFF000)  # no room is taken where nothing was written
        file.seek(0, io.SEEK_END)
        file.write(b"LIST" + struct.pack("<I", 4) + b"INFO")
    with soundfile.SoundFile(path) as whole:
        assert whole.frames == 0x7FFFF000
    with path.open("rb") as file:
        assert containers.with_length(file) is file and containers.lacking(file, path.stat().st_size) == 0


def test_mp3_in_a_wav_is_read_whatever_its_header_counts(tmp_path):
    """The number of samples in the header is reckoned from the bytes, or that of what was encoded, without delays."""
    loud_then_quiet = np.concatenate([np.random.default_rng(0).standard_normal(4_000) * 0.2, np.zeros(20_000)])
    mp3 = encoded("MP3", "MPEG_LAYER_III", loud_then_quiet)
    mp3 = mp3[mp3.index(mp3[:2], 40) :]  # without the frame that says how many there are, as inside a WAV
    form = struct.pack("<HHIIHHHHIHHH", 0x55, 1, 24_000, 8000, 1, 0, 12, 1, 2, 192, 1, 1105)
    for count in (24_000, 26_000, 10**6):
        chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"fact" + struct.pack("<II", 4, count)
        chunks += b"data" + struct.pack("<I", len(mp3)) + mp3
        (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
        assert Sound.read(tmp_path / "a.wav").seconds == pytest.approx(1, abs=0.1)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-400])
    refused(tmp_path / "a.wav", said="damaged or cut short")


@pytest.mark.parametrize(("kind", "subtype", "code"), [("OGG", "VORBIS", 0x674F), ("FLAC", "PCM_16", 0xF1AC)])
def test_a_file_of_another_kind_in_a_wav_is_read_as_what_it_is(tmp_path, kind, subtype, code):
    inside = encoded(kind, subtype)
    (tmp_path / f"a.{kind.lower()}").write_bytes(inside)
    form = struct.pack("<HHIIHHH", code, 1, 24_000, 8000, 1, 8, 0)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"fact" + struct.pack("<II", 4, 7)
    chunks += b"data" + struct.pack("<I", len(inside)) + inside + b"\0" * (len(inside) % 2)
    whole = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks
    (tmp_path / "a.wav").write_bytes(whole)
    expected = Sound.read(tmp_path / f"a.{kind.lower()}").samples
    np.testing.assert_array_equal(Sound.read(tmp_path / "a.wav").samples, expected)
    (tmp_path / "a.wav").write_bytes(whole[:-400])
    refused(tmp_path / "a.wav", said="damaged or cut short")


def test_flac_headers_that_lie_about_their_length(tmp_path):
    data = bytearray(encoded("FLAC"))
    data[21] |= 0x0F  # 64 thousand million samples: must not be believed, nor allocated
    (tmp_path / "a.flac").write_bytes(data)
    refused(tmp_path / "a.flac", said="holds 24000")
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # 0: unknown, as an encoder writes into a pipe
    (tmp_path / "a.flac").write_bytes(data)
    assert len(Sound.read(tmp_path / "a.flac")) == 24_000


def test_mp3_without_a_length_is_read_to_its_end(tmp_path):
    """A variable bit rate and no Xing header: libsndfile alone would guess from the first, quiet seconds."""
    quiet_then_loud = np.concatenate([np.zeros(48_000), np.random.default_rng(0).standard_normal(96_000) * 0.2])
    data = encoded("MP3", "MPEG_LAYER_III", quiet_then_loud)
    at = data.index(b"Xing") - 13
    following = data.index(data[at : at + 2], at + 40)  # the first frame holds the header and no sound
    (tmp_path / "a.mp3").write_bytes(data[:at] + data[following:])
    assert Sound.read(tmp_path / "a.mp3").seconds == pytest.approx(6, abs=0.15)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_nan_and_infinity(tmp_path, bad, subtype):
    samples = wave()[0].copy()
    samples[77] = bad
    (tmp_path / "a.wav").write_bytes(encoded(subtype=subtype, samples=samples))
    refused(tmp_path / "a.wav", said="NaN or infinite")


def test_impossible_rates(tmp_path):
    data = bytearray(encoded())
    for rate in (0, 1_000_000, 0x7FFFFFFF):
        data[24:28] = struct.pack("<I", rate)
        (tmp_path / "a.wav").write_bytes(data)
        with pytest.raises(SoundError, match=r"a\.wav"):
            Sound.read(tmp_path / "a.wav")


# --- files that are unusual and right


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [
        ("PCM_U8", 0.01),
        ("PCM_16", 1e-4),
        ("PCM_24", 1e-6),
        ("PCM_32", 1e-6),
        ("FLOAT", 0),
        ("DOUBLE", 1e-7),
        ("ULAW", 0.02),
    ],
)
def test_any_width(tmp_path, subtype, tolerance):
    (tmp_path / "a.wav").write_bytes(encoded(subtype=subtype, samples=wave()[0]))
    assert np.abs(Sound.read(tmp_path / "a.wav").samples - wave()).max() <= tolerance


def test_eight_channels_stay_eight_until_mixed(tmp_path):
    path = Sound(wave(8), 24_000).write(tmp_path / "a.wav")
    assert Sound.read(path).channels == 8
    mixed = Sound.read(path, mono=True, rate=8000)
    assert (mixed.channels, mixed.rate) == (1, 8000)
    assert Sound.read(path, mono=True).samples == pytest.approx(Sound.read(path).mono().samples, abs=1e-6)


def test_content_counts_not_the_name(tmp_path):
    for name in ("a.mp3", "a.txt", "a.raw", "a"):
        (tmp_path / name).write_bytes(encoded("FLAC"))
        assert len(Sound.read(tmp_path / name)) == 24_000


def test_longer_than_one_block(tmp_path):
    samples = wave(2, 300_000)
    back = Sound.read(Sound(samples, 24_000).write(tmp_path / "a.wav"))
    assert np.abs(back.samples - samples).max() < 1e-4


# --- ffmpeg, played by a script


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """A function that puts a Python script named ffmpeg on PATH."""
    if os.name == "nt":
        pytest.skip("scripts need an extension here")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def install(body: str) -> Path:
        script = folder / "ffmpeg"
        script.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
        script.chmod(0o755)
        return script

    return install


def test_ffmpeg_reads_what_libsndfile_can_not(tmp_path, ffmpeg):
    (tmp_path / "decoded.wav").write_bytes(encoded(subtype="FLOAT"))
    source = tmp_path / "-odd name.m4a"
    source.write_bytes(b"not for libsndfile")
    ffmpeg(
        f"assert 'file:{source}' in sys.argv and '-nostdin' in sys.argv\n"
        f"sys.stdout.buffer.write(open({str(tmp_path / 'decoded.wav')!r}, 'rb').read())"
    )
    assert len(Sound.read(source)) == 24_000


def test_ffmpeg_reads_what_libsndfile_opens_and_can_not_decode(tmp_path, ffmpeg):
    """A container that libsndfile knows, with a codec inside that only looks like one that it knows."""
    (tmp_path / "decoded.wav").write_bytes(encoded(subtype="FLOAT"))
    data = bytearray(encoded("FLAC"))
    data[8:10], start = b"\x10\x00", data.index(b"\xff\xf8")
    source = tmp_path / "a.flac"
    source.write_bytes(data[:start] + bytes(len(data) - start))
    refused(source, said="damaged or cut short")
    ffmpeg(f"sys.stdout.buffer.write(open({str(tmp_path / 'decoded.wav')!r}, 'rb').read())")
    assert len(Sound.read(source)) == 24_000


def test_ffmpeg_that_fails_or_hangs(tmp_path, ffmpeg, monkeypatch):
    source = tmp_path / "a.m4a"
    source.write_bytes(b"not for libsndfile")
    ffmpeg("sys.exit('[mov @ 0x55] moov atom not found\\nError opening input')")
    refused(source, said="(ffmpeg: moov atom not found)")
    ffmpeg("")
    refused(source, said="no sound in it")
    monkeypatch.setattr("cymatic.media.audio_files.FFMPEG_SECONDS", 0.5)
    ffmpeg("import time; time.sleep(20)")
    refused(source, said="more than 0.5 s")


# --- anything at all

_SEEDS = [
    encoded("WAV", "PCM_16", wave()[0][:400]),
    encoded("WAV", "FLOAT", wave()[0][:400]),
    encoded("AIFF", "PCM_16", wave()[0][:400]),
    encoded("FLAC", "PCM_16", wave()[0][:400]),
    encoded("OGG", "VORBIS", wave()[0][:400]),
]


def read_or_refuse(folder: Path, data: bytes) -> None:
    path = folder / "fuzz"
    path.write_bytes(data)
    try:
        sound = Sound.read(path)
    except SoundError as error:
        assert "\n" not in str(error)
        return
    assert sound.samples.dtype == np.float32 and np.isfinite(sound.samples).all() and 1 <= sound.rate <= 768_000


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=600),
    head=st.sampled_from([b"", *[seed[:60] for seed in _SEEDS], b"\xff\xfb\x90\x00", b"ID3"]),
)
def test_random_bytes(tmp_path, monkeypatch, data, head):
    monkeypatch.setenv("PATH", str(tmp_path))
    read_or_refuse(tmp_path, head + data)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.sampled_from(_SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=8),
    kept=st.floats(0.02, 1.0),
)
def test_mutated_files(tmp_path, monkeypatch, seed, changes, kept):
    monkeypatch.setenv("PATH", str(tmp_path))
    data = bytearray(seed)
    for at, value in changes:
        data[at % len(data)] = value
    read_or_refuse(tmp_path, bytes(data[: max(1, int(len(data) * kept))]))
