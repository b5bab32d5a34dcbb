"""`cymatic encode` and `cymatic decode`: files, pipes, folders, and what can be wrong with each."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.apps.conftest import contents
from tests.helpers import save_codec, tiny_codec, tone

from cymatic.media.cym import CymReader
from cymatic.media.sound import Sound


@pytest.fixture(scope="session")
def codec_folder(tmp_path_factory) -> Path:
    """A codec of 8 kHz that offers 0.2, 0.4 and 0.6 kbps, 0.4 by default."""
    return save_codec(tmp_path_factory.mktemp("models") / "tiny-codec", tiny_codec(rate=8000), kbps=0.4)


@pytest.fixture
def coding(cli, codec_folder):
    """A command with the tiny codec as its model."""
    return lambda verb, *arguments: cli(verb, *arguments, "--model", codec_folder)


@pytest.fixture
def pipe(monkeypatch):
    """`pipe(data)` is what the command finds in its standard input; the list holds what it writes, piece by piece."""

    def call(data: bytes = b"") -> list[bytes]:
        pieces: list[bytes] = []
        out = SimpleNamespace(write=pieces.append, flush=lambda: None)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        monkeypatch.setattr(
            sys, "stdout", SimpleNamespace(buffer=out, isatty=lambda: False, write=len, flush=lambda: None)
        )
        return pieces

    return call


def test_a_file_there_and_back(coding, tmp_path):
    tone(440, 0.5, 16_000).write("a.flac")
    ran = coding("encode", "a.flac", "-o", "a.cym")
    size = (tmp_path / "a.cym").stat().st_size
    assert ran == type(ran)(0, f"a.cym  0.50 s, 0.4 kbps, {size} bytes of codes\n", "")
    ran = coding("decode", "a.cym", "-o", "b.wav")
    assert (ran.code, ran.out, ran.err) == (0, f"b.wav  0.50 s, 0.4 kbps, {size} bytes of codes\n", "")
    sound = Sound.read("b.wav")
    assert (len(sound), sound.rate, sound.info["model"], sound.info["kbps"]) == (4000, 8000, "tiny-codec", 0.4)


def test_rates(coding):
    tone(440, 0.5).write("a.wav")
    assert coding("encode", "a.wav", "-o", "a.cym", "--kbps", "0.6").code == 0
    assert CymReader(io.BytesIO(Path("a.cym").read_bytes())).header.kbps == pytest.approx(0.6)
    assert coding("decode", "a.cym", "-o", "low.wav", "--kbps", "0.2").code == 0
    assert Sound.read("low.wav").info["kbps"] == 0.2
    ran = coding("encode", "a.wav", "-o", "b.cym", "--kbps", "0.1")
    assert ran.code == 2 and "tiny-codec offers 0.2, 0.4, 0.6; give at least 0.2" in ran.err
    assert not Path("b.cym").exists()


def test_entropy_loses_nothing(coding):
    Sound(np.zeros(16_000), 8000).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    coding("encode", "a.wav", "-o", "b.cym", "--entropy")
    assert Path("b.cym").stat().st_size < Path("a.cym").stat().st_size
    for name in "ab":
        coding("decode", f"{name}.cym", "-o", f"{name}.wav")
    assert np.array_equal(Sound.read("a.wav").samples, Sound.read("b.wav").samples)


def test_pipes_are_files(coding, pipe):
    tone(440, 2.5, 16_000).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    coding("decode", "a.cym", "-o", "b.wav")
    out = pipe(Path("a.wav").read_bytes())
    assert coding("encode", "-", "-o", "-").code == 0
    assert b"".join(out) == Path("a.cym").read_bytes()
    assert len(out) == 5, "the head, three blocks of a second, the end: each as soon as it is known"
    out = pipe(Path("a.cym").read_bytes())
    assert coding("decode", "-", "-o", "-").code == 0
    Path("c.wav").write_bytes(b"".join(out))
    assert np.array_equal(Sound.read("c.wav").samples, Sound.read("b.wav").samples)


def test_a_pipe_at_one_end(coding, pipe):
    tone(440, 0.5).write("a.flac")
    coding("encode", "a.flac", "-o", "a.cym")
    pipe(Path("a.flac").read_bytes())
    assert coding("encode", "-", "-o", "b.cym").code == 0
    assert Path("b.cym").read_bytes() == Path("a.cym").read_bytes()
    pipe(Path("a.cym").read_bytes())
    assert coding("decode", "-", "-o", "b.flac").code == 0
    assert len(Sound.read("b.flac")) == 4000
    out = pipe()
    assert coding("encode", "a.flac", "-o", "-").code == 0
    assert b"".join(out) == Path("a.cym").read_bytes()
    out = pipe()
    assert coding("decode", "a.cym", "-o", "-").code == 0
    assert b"".join(out)[:4] == b"RIFF"


def test_a_folder_there_and_back(coding, tmp_path):
    for name in ("in/a.wav", "in/b/c.flac", "in/b/c.wav", "in/.hidden.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        tone(440, 0.5).write(name)
    Path("in/broken.wav").write_bytes(Path("in/a.wav").read_bytes()[:2000])
    Path("in/no.txt").write_text("no sound")
    ran = coding("encode", "in", "-o", "codes", "--workers", "2")
    made = sorted(str(path.relative_to("codes")) for path in Path("codes").rglob("*") if path.is_file())
    assert made == [".hidden.cym", "a.cym", "b/c.flac.cym", "b/c.wav.cym"]
    assert ran.code == 0 and ran.out.splitlines()[-1].startswith("4 files, 2.00 s, ")
    assert ran.out.splitlines()[-1].endswith("; 1 skipped")
    assert ran.err.startswith("skipped   in/broken.wav: is damaged or cut short (") and ran.err.count("\n") == 1
    Path("codes/b/bad.cym").write_bytes(b"nonsense")
    ran = coding("decode", "codes", "-o", "back")
    assert ran.code == 0 and ran.err.startswith("skipped   codes/b/bad.cym: begins with b'nonsense', so it is no .cym")
    made = sorted(str(path.relative_to("back")) for path in Path("back").rglob("*") if path.is_file())
    assert made == [".hidden.wav", "a.wav", "b/c.flac.wav", "b/c.wav.wav"]
    coding("decode", "codes/a.cym", "-o", "one.wav")
    assert Path("one.wav").read_bytes() == Path("back/a.wav").read_bytes()


def test_however_many_workers_the_files_are_the_same(coding):
    Path("in").mkdir()
    for i in range(6):
        tone(200 + 100 * i, 0.4).write(f"in/{i}.wav")
    for workers in ("1", "3"):
        assert coding("encode", "in", "-o", workers, "--workers", workers).code == 0
    for i in range(6):
        assert Path(f"1/{i}.cym").read_bytes() == Path(f"3/{i}.cym").read_bytes()


def test_a_cut_file_is_decoded_with_a_note(coding):
    tone(440, 3.5).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    Path("a.cym").write_bytes(Path("a.cym").read_bytes()[:-30])
    ran = coding("decode", "a.cym", "-o", "b.wav")
    assert ran.code == 0 and 2.9 < Sound.read("b.wav").seconds < 3
    assert ran.err == "cymatic: note: a.cym is cut short after block 3 (3.00 s); what is there is used\n"


def test_channels_are_mixed_with_one_note(coding):
    Sound(np.random.default_rng(0).normal(0, 0.1, (100, 4000)), 8000).write("a.wav")
    ran = coding("encode", "a.wav", "-o", "a.cym")
    assert ran.code == 0 and ran.err.count("\n") == 1 and "has 100 channels where 1 is expected" in ran.err


def test_the_model_stands_in_the_file(coding, cli, codec_folder, monkeypatch):
    tone(440, 0.5).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    ran = cli("decode", "a.cym", "-o", "b.wav")
    assert ran.code == 2 and 'the model "tiny-codec", which is no starter; give its folder as --model' in ran.err
    monkeypatch.setattr("cymatic.pipelines.load.starters", lambda: {"tiny-codec": codec_folder})
    assert cli("decode", "a.cym", "-o", "b.wav").code == 0


# --- what can be wrong


@pytest.fixture
def fails(coding, tmp_path):
    """The sentence of a command that must fail: 2, one line, no file touched."""

    def call(*arguments):
        before = contents(tmp_path)
        ran = coding(*arguments)
        assert (ran.code, ran.out) == (2, ""), ran
        assert ran.err.startswith("cymatic: ") and len(ran.err.splitlines()) == 1, ran.err
        assert contents(tmp_path) == before
        return ran.err

    return call


def test_what_is_wrong_with_files_is_said(fails, tmp_path):
    tone(440, 0.5).write("a.wav")
    Path("empty").mkdir()
    Path("folder").mkdir()
    tone(440, 0.5).write("folder/a.wav")
    for arguments, said in (
        (("encode", "no.wav", "-o", "a.cym"), "no.wav does not exist"),
        (("encode", "a.wav", "-o", "a.wav"), 'unknown extension ".wav"; use one of .cym'),
        (("encode", "a.wav", "-o", "no/a.cym"), "there is no folder no"),
        (("encode", "a.wav", "-o", "folder"), "has an unknown name without an extension"),
        (("encode", "folder", "-o", "a.wav"), "folder is a folder, and a.wav is none"),
        (("encode", "folder", "-o", "-"), "folder is a folder, and - is none"),
        (("encode", "empty", "-o", "out"), "empty holds no sound file"),
        (("encode", "folder", "-o", "out", "--workers", "0"), "0 workers were asked for; give a number from 1 to 256"),
        (("decode", "folder", "-o", "out"), "folder holds no .cym file"),
        (("decode", "a.wav", "-o", "b.wav"), "a.wav begins with b'RIFF"),
        (("decode", "no.cym", "-o", "b.wav"), "no.cym does not exist"),
        (("decode", "a.wav", "-o", "b.txt"), 'unknown extension ".txt"'),
    ):
        assert said in fails(*arguments)


def test_damage_is_said(coding, fails):
    tone(440, 2.5).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    data = bytearray(Path("a.cym").read_bytes())
    data[-30] ^= 1
    Path("b.cym").write_bytes(data)
    assert "b.cym is damaged in block 3, at 2.00 s (its checksum differs); get the file again" in fails(
        "decode", "b.cym", "-o", "b.wav"
    )
    Path("c.cym").write_bytes(data[:100])
    assert "c.cym is cut short within its first block" in fails("decode", "c.cym", "-o", "c.wav")


@pytest.mark.slow
def test_a_model_that_is_no_codec(cli, tiny_run):
    tone(440, 0.5).write("a.wav")
    ran = cli("encode", "a.wav", "-o", "c.cym", "--model", tiny_run)
    assert ran.code == 2 and "is no codec; give a model that turns sounds into codes" in ran.err
    ran = cli("encode", "a.wav", "-o", "c.cym", "--model", "no-model")
    assert ran.code == 2 and "there is no model" in ran.err


def test_a_codec_makes_no_sounds_of_its_own(fails):
    tone(440, 0.5).write("a.wav")
    said = "makes nothing of its own; give a model with a prior, or use cymatic encode and cymatic decode"
    assert said in fails("sound", "low tone", "-o", "b.wav")
    assert said in fails("extend", "a.wav", "-o", "b.wav")


def test_nothing_that_could_be_used_is_an_error(coding):
    Path("in").mkdir()
    Path("in/a.wav").write_bytes(b"nonsense")
    ran = coding("encode", "in", "-o", "out")
    assert ran.code == 2 and "none of the 1 files of in could be used" in ran.err
    assert not [path for path in Path("out").rglob("*") if path.is_file()]


def test_codes_do_not_go_to_a_terminal(coding, monkeypatch):
    tone(440, 0.5).write("a.wav")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    ran = coding("encode", "a.wav", "-o", "-")
    assert ran.code == 2 and "would go to the terminal" in ran.err


def test_a_listener_who_leaves_is_no_mistake(coding, pipe, monkeypatch):
    tone(440, 0.5).write("a.wav")
    pipe()

    def gone(data):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys.stdout.buffer, "write", gone)
    with pytest.raises(SystemExit) as done:  # typer ends the process in silence
        coding("encode", "a.wav", "-o", "-")
    assert done.value.code == 1


@pytest.mark.slow
def test_real_pipes(codec_folder, tmp_path):
    tone(440, 2.5, 16_000).write(tmp_path / "a.wav")
    command = f"{sys.executable} -m cymatic"
    line = (
        f"cat a.wav | {command} encode - -o - --model {codec_folder} | {command} decode - -o - --model {codec_folder} "
        "> b.wav"
    )
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, env=os.environ)
    assert (done.returncode, done.stderr) == (0, b"")
    assert Sound.read(tmp_path / "b.wav").seconds == 2.5


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_in_a_folder_are_followed_and_those_to_nothing_named(coding):
    for name in ("in/a.wav", "elsewhere/b.wav"):
        Path(name).parent.mkdir()
        tone(440, 0.5).write(name)
    Path("in/more").symlink_to("../elsewhere")
    Path("in/loop").symlink_to(".")
    Path("in/gone.wav").symlink_to("nothing.wav")
    ran = coding("encode", "in", "-o", "codes")
    assert sorted(str(path) for path in Path("codes").rglob("*.cym")) == ["codes/a.cym", "codes/more/b.cym"]
    assert ran.code == 0 and ran.err.startswith("skipped   in/gone.wav") and ran.err.count("\n") == 1


@pytest.mark.parametrize("kbps", ["nan", "inf", "-inf", "-1", "0", "-1e308"])
def test_rates_that_are_none(coding, kbps):
    tone(440, 0.5).write("a.wav")
    assert coding("encode", "a.wav", "-o", "a.cym").code == 0
    for command in (("encode", "a.wav", "-o", "b.cym"), ("decode", "a.cym", "-o", "b.wav")):
        ran = coding(*command, f"--kbps={kbps}")
        assert ran.code == 2 and ran.err.count("\n") == 1 and "kbps were asked for" in ran.err
        assert not Path(command[-1]).exists()
