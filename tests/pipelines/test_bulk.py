"""Work in bulk: every sound once, whatever happens to the workers; the same bytes, whoever did the work."""

import io
import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from tests.conftest import installed
from tests.data.test_tar import written as tar_of
from tests.helpers import numbered_tones, quiet, tone

from cymatic.data.bulk_units import read_inputs
from cymatic.data.shards import Shards
from cymatic.errors import Error, ModelError
from cymatic.pipelines.bulk import Totals, done_before, encode_in_bulk
from cymatic.pipelines.bulk_encoder import BulkEncoder, BulkJob
from cymatic.pipelines.load import load_codec
from cymatic.pipelines.sound_codec import SoundCodec


def contents(out):
    return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def test_each_sound_is_there_once(sounds, codec_folder, tmp_path):
    said = []
    totals = encode_in_bulk(sounds, tmp_path / "out", codec_folder, 0.4, clips=4, say=said.append)
    assert (totals.shards, totals.before, totals.sounds, totals.skipped) == (3, 0, 11, [])
    assert [line.split()[0] for line in said] == ["shard-000000", "shard-000001", "shard-000002"]
    found = list(Shards(tmp_path / "out"))
    assert [one.source for one in found] == sorted(path.name for path in sounds.iterdir())
    codec = load_codec(codec_folder)
    for one in found:
        assert np.array_equal(one.codes, codec.encode(_read(sounds / one.source), 0.4).codes)
        assert one.caption == f"tone {one.source[5]}" and one.header.sha256 == codec.sha256
        assert one.seconds == pytest.approx(0.3 + 0.01 * int(one.source[7:10]), abs=0.001)
    assert {one.split for one in found} == {"train", "valid"}
    assert totals.seconds == pytest.approx(sum(one.seconds for one in found))
    assert totals.bytes == sum(path.stat().st_size for path in (tmp_path / "out").glob("*.tar"))


def _read(path):
    from cymatic.media.sound import Sound

    return Sound.read(path)


def test_what_is_done_is_not_done_again(sounds, codec_folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    whole = encode_in_bulk(sounds, out, codec_folder, clips=3, say=quiet)
    before = contents(out)
    (out / "shard-000001.json").unlink()  # killed between a shard and its summary
    (out / "shard-000002.tar").write_bytes(before["shard-000002.tar"][:700])  # a disk that lost its end
    (out / "shard-000003.tar").unlink()
    (out / ".cymatic-dead.tmp").write_bytes(b"half a shard")
    done = []
    usual = BulkEncoder.__call__
    monkeypatch.setattr(BulkEncoder, "__call__", lambda self, unit: done.append(unit.number) or usual(self, unit))
    again = encode_in_bulk(sounds, out, codec_folder, clips=3, say=quiet)
    assert done == [1, 2, 3] and again.before == 1
    assert contents(out) == before
    assert (again.sounds, again.seconds, again.bytes) == (whole.sounds, whole.seconds, whole.bytes)


def test_what_is_broken_is_named_skipped_and_counted(sounds, codec_folder, tmp_path):
    (sounds / "broken_1.wav").write_bytes((sounds / "tone-a_000.wav").read_bytes()[:200])
    (sounds / "empty_1.flac").write_bytes(b"")
    (sounds / "notes.md").write_text("not a sound")
    out, said = tmp_path / "out", []
    totals = encode_in_bulk(sounds, out, codec_folder, clips=4, say=said.append)
    assert totals.sounds == 11
    assert [(one.name, one.broken) for one in totals.skipped] == [
        ("broken_1.wav", True), ("empty_1.flac", True), ("notes.md", False),
    ]  # fmt: skip
    first = json.loads((out / "shard-000000.json").read_text())
    assert [name for name, *_ in first["skipped"]] == ["broken_1.wav", "empty_1.flac"] and first["sounds"] == 2
    assert str(tmp_path) not in json.dumps(first)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["sounds"], summary["skipped"], len(summary["such_as"])) == (11, 3, 3)
    assert any(line.startswith("skipped broken_1.wav: is damaged or cut short") for line in said)
    again = encode_in_bulk(sounds, out, codec_folder, clips=4, say=quiet)
    assert again.skipped == totals.skipped and again.before == again.shards
    with pytest.raises(Error, match=r"broken_1.wav: .*; mend or remove it, or leave out --strict"):
        encode_in_bulk(sounds, tmp_path / "strict", codec_folder, strict=True, say=quiet)
    assert list((tmp_path / "strict").glob("*.tar")) == []


def test_another_plan_is_refused(sounds, codec_folder, tmp_path):
    out = tmp_path / "out"
    encode_in_bulk(sounds, out, codec_folder, 0.4, clips=4, say=quiet)
    for settings, what in (({"clips": 5}, "clips a shard"), ({"kbps": 0.2}, "kbps"), ({"entropy": True}, "entropy")):
        with pytest.raises(Error, match=f"holds the codes of another plan .other .*{what}.*; give another folder"):
            encode_in_bulk(sounds, out, codec_folder, **{"kbps": 0.4, "clips": 4, **settings}, say=quiet)
    (sounds / "tone-a_000.wav").rename(sounds / "tone-z_000.wav")
    with pytest.raises(Error, match=r"another plan .other sounds.; give another"):
        encode_in_bulk(sounds, out, codec_folder, 0.4, clips=4, say=quiet)
    (out / "plan.json").unlink()
    with pytest.raises(Error, match=r"holds archives and no plan.json; give another folder"):
        encode_in_bulk(sounds, out, codec_folder, 0.4, clips=4, say=quiet)


def test_none_that_can_be_used(codec_folder, tmp_path):
    (tmp_path / "sounds").mkdir()
    with pytest.raises(Error, match="holds no sound"):
        encode_in_bulk(tmp_path / "sounds", tmp_path / "out", codec_folder, say=quiet)
    (tmp_path / "sounds" / "a.wav").write_bytes(b"RIFF")
    with pytest.raises(Error, match=r"none of the sounds in .* could be encoded; summary.json in .* says why"):
        encode_in_bulk(tmp_path / "sounds", tmp_path / "out", codec_folder, say=quiet)
    with pytest.raises(Error, match="holds the sounds; give another folder"):
        encode_in_bulk(tmp_path / "sounds", tmp_path / "sounds", codec_folder, say=quiet)


def test_another_machine_with_another_model(sounds, codec_folder, tmp_path):
    with pytest.raises(ModelError, match=r"is another model here .* than where the work was planned \(00000000\)"):
        BulkEncoder(BulkJob(str(codec_folder), "0" * 64, 0.6, sounds, tmp_path))


def test_a_unit_of_many_bytes_is_cut(sounds, monkeypatch):
    monkeypatch.setattr("cymatic.data.bulk_units.MOST_BYTES", 4000)
    units = read_inputs(sounds, 100).units
    assert sum(len(unit.files) for unit in units) == 11 and all(1 <= len(unit.files) <= 3 for unit in units)


# --- archives of sounds, as webdataset has them


def archive(path, count, begin=0, extra=()):
    files = {}
    for i in range(begin, begin + count):
        data = io.BytesIO()
        import soundfile

        soundfile.write(data, tone(100 + 10 * i, 0.3, 2000, seed=i).samples.T, 2000, format="FLAC")
        files[f"clips/{i:04}.flac"] = data.getvalue()
        files[f"clips/{i:04}.json"] = json.dumps({"text": f"hum  number {i}", "split": "dev"}).encode()
    files.update(extra)
    path.write_bytes(tar_of(files))


def test_archives_go_in_too(codec_folder, tmp_path):
    source, out = tmp_path / "tars", tmp_path / "out"
    source.mkdir()
    hum = (numbered_tones(tmp_path / "x", 1) / "tone-a_000.wav").read_bytes()
    archive(source / "a.tar", 3, extra={
        "late.txt": b"a caption\nfrom a text", "late.wav": hum, "low-hum_3.wav": hum, "alone.txt": b"nothing to hear",
        "broken.mp3": b"no sound", "picture.png": b"",
    })  # fmt: skip
    archive(source / "b.tar", 2, begin=3)
    (source / "c.tar").write_bytes((source / "b.tar").read_bytes()[:-3000])
    totals = encode_in_bulk(source, out, codec_folder, say=quiet)
    found = list(Shards(out))
    assert [(one.key, one.source, one.caption) for one in found[:5]] == [
        *((f"000000-{i:06}", f"a.tar:clips/{i:04}.flac", f"hum number {i}") for i in range(3)),
        ("000000-000003", "a.tar:late.wav", "a caption from a text"),
        ("000000-000004", "a.tar:low-hum_3.wav", "low hum"),
    ]
    assert [one.source for one in found[5:]] == [
        "b.tar:clips/0003.flac", "b.tar:clips/0004.flac", "c.tar:clips/0003.flac",
    ]  # fmt: skip
    assert {one.split for one in found if "clips" in one.source} == {"valid"}
    assert totals.sounds == 8 and totals.shards == 3
    named = {one.name: one.why for one in totals.skipped}
    assert set(named) == {"a.tar:alone", "a.tar:broken.mp3", "a.tar:picture.png", "c.tar"}
    assert "is cut short" in named["c.tar"]
    assert encode_in_bulk(source / "b.tar", tmp_path / "one", codec_folder, say=quiet).sounds == 2


# --- engines


@pytest.mark.slow
def test_processes_write_the_same_bytes(sounds, codec_folder, tmp_path):
    encode_in_bulk(sounds, tmp_path / "two", codec_folder, clips=3, workers=2, say=quiet)
    work = read_inputs(sounds, 3)
    codec = load_codec(codec_folder)
    assert isinstance(codec, SoundCodec)
    (tmp_path / "here").mkdir()
    encoder = BulkEncoder(BulkJob(str(codec_folder), codec.sha256, codec.kbps, sounds, tmp_path / "here"))
    for unit in work.units:
        encoder(unit)
        assert done_before(tmp_path / "here", unit) == done_before(tmp_path / "two", unit)
    made = contents(tmp_path / "two")
    assert {name: made[name] for name in contents(tmp_path / "here")} == contents(tmp_path / "here")
    assert set(made) - set(contents(tmp_path / "here")) == {"plan.json", "summary.json"}


def test_without_ray_there_is_a_sentence(sounds, codec_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("cymatic.pipelines.bulk_ray.find_spec", lambda name: None)
    with pytest.raises(Error, match=r'Ray is not installed; pip install "cymatic\[cluster\]"'):
        encode_in_bulk(sounds, tmp_path / "out", codec_folder, engine="ray", say=quiet)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the processes below this one are asked of Linux")
def test_a_worker_that_is_killed_costs_nothing(codec_folder, tmp_path, monkeypatch):
    installed("ray", "cluster")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # or Ray would leave a token in the home
    monkeypatch.setenv("RAY_worker_niceness", "0")  # of 15, beside other tests they would hardly get a turn
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    sounds = numbered_tones(tmp_path / "sounds", 48, seconds=20.0)
    killed: list[int] = []

    def kill():
        """One worker, as soon as a shard is there, while others are being made."""
        while not list((tmp_path / "ray").glob("shard-*.json")):
            time.sleep(0.05)
        killed.append(_workers()[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    said = []
    totals = encode_in_bulk(sounds, tmp_path / "ray", codec_folder, engine="ray", workers=2, clips=4, say=said.append)
    killer.join(1)
    assert killed and len(list((tmp_path / "ray").glob("*.tar"))) == 12
    assert isinstance(totals, Totals) and totals.sounds == 48 and totals.skipped == []
    found = [one.source for one in Shards(tmp_path / "ray")]
    assert found == sorted(path.name for path in sounds.iterdir())
    encode_in_bulk(sounds, tmp_path / "local", codec_folder, workers=2, clips=4, say=quiet)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def _workers():
    """The processes of Ray's actors below this one, as /proc has them."""
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                with open(f"/proc/{process}/cmdline", "rb") as file:
                    title = file.read().decode("utf-8", "replace")
                with open(f"/proc/{process}/status", encoding="utf-8") as file:
                    below = _is_below(int(process))
            except OSError:
                continue
            if below and "ray::" in title and "RayEncoder" in title:
                found.append(int(process))
    return sorted(found)


def _is_below(process):
    while process > 1:
        if process == os.getpid():
            return True
        with open(f"/proc/{process}/stat", encoding="utf-8") as file:
            process = int(file.read().rpartition(")")[2].split()[1])
    return False


def test_captions_of_names_as_asked_for(tmp_path):
    for name in ("Kit A/KickDeep-1.wav", "Kit B/KickDeep-1.wav"):
        (tmp_path / name).parent.mkdir(parents=True)
        tone(300, 0.1).write(tmp_path / name)
    (unit,) = read_inputs(tmp_path, 10, "file").units
    assert [one.caption for one in unit.files] == ["Kick Deep", "Kick Deep"]
