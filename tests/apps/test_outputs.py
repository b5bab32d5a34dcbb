"""Where results go: a name for each, none over an original, one command at a time, and standard streams or not."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.apps.conftest import contents
from tests.helpers import save_codec, tiny_codec, tone

from cymatic.apps import terminal
from cymatic.apps.outputs import places_of
from cymatic.errors import Error
from cymatic.folder_lock import only_writer
from cymatic.media.sound import Sound


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory) -> Path:
    """A codec of 8 kHz that offers 0.2, 0.4 and 0.6 kbps, 0.4 by default."""
    return save_codec(tmp_path_factory.mktemp("models") / "tiny-codec", tiny_codec(rate=8000), kbps=0.4)


@pytest.fixture
def coding(cli, codec_folder):
    """A command with the tiny codec as its model."""
    return lambda verb, *arguments: cli(verb, *arguments, "--model", codec_folder)


def named(*names: str) -> list[str]:
    folder = Path("in")
    return [str(place) for place in places_of(folder, [folder / name for name in names], Path("out"), ".cym").values()]


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.wav", "b.wav"], ["a.cym", "b.cym"]),
        (["a.flac", "a.wav"], ["a.flac.cym", "a.wav.cym"]),
        (["kick.flac", "kick.wav", "kick.wav.wav"], ["kick.flac.cym", "kick.wav.cym", "kick.wav.wav.cym"]),
        (["A.wav", "a.wav"], ["A.wav.cym", "a.wav-2.cym"]),
        (["A/x.wav", "a/x.wav"], ["A/x.wav.cym", "a/x.wav-2.cym"]),
        (["u\u0308.wav", "\u00fc.wav"], ["u\u0308.wav.cym", "\u00fc.wav-2.cym"]),
        (["A.wav", "a.wav", "a.wav-2.wav"], ["A.wav.cym", "a.wav-3.cym", "a.wav-2.cym"]),
        (["a.wav", "b/a.wav"], ["a.cym", "b/a.cym"]),
    ],
)
def test_each_result_has_a_name_of_its_own(names, wanted):
    assert named(*names) == [f"out/{name}" for name in wanted]


def test_nothing_is_lost_where_names_meet(coding):
    Path("in").mkdir()
    for i, name in enumerate(("kick.wav", "kick.flac", "kick.wav.wav", "Kick.wav")):
        tone(200 + 100 * i, 0.3 + 0.1 * i).write(f"in/{name}")
    there = len(os.listdir("in"))
    ran = coding("encode", "in", "-o", "codes")
    assert ran.code == 0 and len(os.listdir("codes")) == there
    assert coding("decode", "codes", "-o", "back").code == 0
    assert sorted(Sound.read(path).seconds for path in Path("back").iterdir()) == pytest.approx([0.3, 0.4, 0.5, 0.6])


def test_originals_are_not_replaced_unasked(coding):
    Path("in").mkdir()
    tone(440, 0.5).write("in/kick.wav")
    assert coding("encode", "in", "-o", "in").code == 0
    before = contents(Path("in"))
    ran = coding("decode", "in", "-o", "in")
    assert ran.code == 2 and ran.out == "" and contents(Path("in")) == before
    assert "in/kick.wav is there already, not made by this command; give another folder, or --overwrite" in ran.err
    assert coding("decode", "in", "-o", "in", "--overwrite").code == 0
    assert contents(Path("in")) != before
    assert coding("decode", "in", "-o", "in").code == 0, "what it made it may make again"
    assert coding("encode", "in", "-o", "in").code == 0


def test_several_originals_are_counted(coding):
    Path("in").mkdir()
    Path("out").mkdir()
    for name in ("a", "b", "c"):
        tone(440, 0.3).write(f"in/{name}.wav")
    coding("encode", "in", "-o", "codes")
    shutil.copy("in/a.wav", "out/a.wav")
    Path("out/c.wav").write_bytes(b"somebody's")
    ran = coding("decode", "codes", "-o", "out")
    assert ran.code == 2 and "out/a.wav and 1 more are there already" in ran.err
    assert Path("out/c.wav").read_bytes() == b"somebody's"


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_what_is_read_is_not_written(coding, link):
    tone(440, 0.5).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    link("a.wav", "b.cym")
    link("a.cym", "b.wav")
    before = contents(Path())
    for arguments in (["encode", "a.wav", "-o", "b.cym"], ["decode", "a.cym", "-o", "b.wav"]):
        ran = coding(*arguments)
        assert ran.code == 2 and "is what is read, which is" in ran.err and "--overwrite" in ran.err
    assert contents(Path()) == before
    assert coding("decode", "a.cym", "-o", "b.wav", "--overwrite").code == 0


def test_what_is_read_is_not_drawn_over(cli, tiny_codes_run):
    tone(440, 0.5).write("a.wav")
    Path("b.png").write_bytes(Path("a.wav").read_bytes())
    before = contents(Path())
    ran = cli("plot", "b.png", "-o", "b.png")
    assert ran.code == 2 and "b.png is what is read, and it would be lost; give another name" in ran.err
    ran = cli("extend", "a.wav", "-o", "a.wav", "--model", tiny_codes_run)
    assert ran.code == 2 and "a.wav is what is read, and it would be lost" in ran.err
    assert contents(Path()) == before


def test_a_sheet_is_not_drawn_over_a_picture_of_the_data(cli):
    from cymatic.media.picture import Picture

    Path("in").mkdir()
    for name in ("red", "blue"):
        Picture(np.zeros((8, 8, 3))).write(f"in/{name}.png")
    before = contents(Path("in"))
    ran = cli("data", "inspect", "in", "-o", "in/red.png")
    assert ran.code == 2 and "in/red.png is what is read" in ran.err and contents(Path("in")) == before


def test_one_command_at_a_time_writes_into_a_folder(coding, cli, tiny_run):
    Path("in").mkdir()
    tone(440, 0.5).write("in/a.wav")
    coding("encode", "in", "-o", "codes")
    commands = (
        ["encode", "in", "-o", "out"], ["decode", "codes", "-o", "out"],
        ["encode", "in", "-o", "out", "--engine", "local", "--workers", "1"],
    )  # fmt: skip
    with only_writer(Path("out")):
        for arguments in commands:
            ran = coding(*arguments)
            assert ran.code == 2 and "is writing to out; wait until it is done" in ran.err, ran
        for arguments in (["evaluate", tiny_run, "-o", "out"], ["classifier", "train", "in", "-o", "out"]):
            ran = cli(*arguments)
            assert ran.code == 2 and "is writing to out; wait until it is done" in ran.err, ran
    for arguments in commands:
        assert coding(*arguments).code == 0
    assert not [path for path in Path("out").iterdir() if path.name.startswith(".")]


def test_what_systems_leave_in_folders_is_passed_over(coding, cli):
    for name in (".DS_Store", "._a.wav", "Thumbs.db", "desktop.ini", "__MACOSX/a.wav", "@eaDir/a.wav", "b/._c.wav"):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Path("in", name).write_bytes(b"\0\5\26\7 what a system keeps")
    tone(440, 0.5).write("in/a.wav")
    ran = coding("encode", "in", "-o", "codes")
    assert (ran.code, ran.err) == (0, "") and ran.out.splitlines()[-1].startswith("1 files, ")
    ran = cli("data", "inspect", "in")
    assert ran.code == 0 and not any(word in ran.out for word in ("Thumbs", "desktop", "MACOSX", "eaDir", "._"))


# --- standard streams


def closed(stream: str, *arguments: object) -> int:
    """The exit code of a command in a copy of this process that has no such stream."""
    from cymatic.apps.cli import main

    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        os.close({"stdin": 0, "stdout": 1, "stderr": 2}[stream])
        setattr(sys, stream, None)
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    finally:
        os._exit(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_commands_work_without_standard_streams(coding, codec_folder, tiny_run, tones, tmp_path, stream):
    tone(440, 0.5).write("a.wav")
    coding("encode", "a.wav", "-o", "a.cym")
    coding("decode", "a.cym", "-o", "wanted.wav")
    model = ("--model", codec_folder)
    assert closed(stream, "--version") == 0
    assert closed(stream, "--help") == 0
    assert closed(stream, "sound", "low tone", "--steps", "2", "-o", "b.wav", "--model", tiny_run) == 0
    assert closed(stream, "plot", "a.wav", "-o", "a.png") == 0
    assert closed(stream, "encode", "a.wav", "-o", "b.cym", *model) == 0
    assert closed(stream, "decode", "b.cym", "-o", "c.wav", *model) == 0
    assert Path("b.cym").read_bytes() == Path("a.cym").read_bytes(), "nothing that is printed ends up in a file"
    assert Path("c.wav").read_bytes() == Path("wanted.wav").read_bytes()
    assert closed(stream, "data", "inspect", tones) == 0
    assert closed(stream, "encode", tones, "-o", "codes", *model) == 0
    assert closed(stream, "train", "--resume", "-o", shutil.copytree(tiny_run, tmp_path / "run")) == 0
    assert closed(stream, "plot", "nothing.wav", "-o", "a.png") == 2
    assert closed("stdout", "encode", "a.wav", "-o", "-", *model) == 2
    assert closed("stdin", "encode", "-", "-o", "d.cym", *model) == 2
    assert not Path("d.cym").exists()


def test_what_a_closed_stream_was_for_is_said(coding, monkeypatch):
    tone(440, 0.5).write("a.wav")
    monkeypatch.setattr(terminal, "_closed", {"stdin", "stdout"})
    assert "the standard output is closed; give -o FILE" in coding("encode", "a.wav", "-o", "-").err
    assert "the standard input is closed; give a file" in coding("encode", "-", "-o", "a.cym").err


def test_a_source_is_told_by_what_it_is(tmp_path):
    from cymatic.apps.outputs import check_not_source

    (tmp_path / "a").touch()
    check_not_source(tmp_path / "b", tmp_path / "a", tmp_path / "gone")
    with pytest.raises(Error, match="a is what is read, and it would be lost"):
        check_not_source(tmp_path / "a", tmp_path / "gone", tmp_path / "a")


def test_a_map_takes_the_place_of_no_picture(cli, codec_folder):
    Path("map.png").write_bytes(b"somebody's")
    ran = cli("codec", "map", codec_folder, "-o", "map.html")
    assert ran.code == 2 and "map.png is there already, and the picture of map.html would go there" in ran.err
    assert os.listdir() == ["map.png"]


def test_no_results_among_the_data(cli, tones, tiny_run):
    before = sorted(path.name for path in tones.iterdir())
    Path("link").symlink_to(tones)
    for arguments in (
        ["train", tones, "--steps", 1, "--out", tones],
        ["train", tones, "--steps", 1, "--out", "link"],
        ["evaluate", tiny_run, "--data", tones, "-o", tones],
        ["classifier", "train", tones, "-o", tones],
    ):
        ran = cli(*arguments)
        assert ran.code == 2 and "is the folder that is read" in ran.err, arguments
        assert ran.err.count("\n") == 1 or arguments[0] == "evaluate"
    assert sorted(path.name for path in tones.iterdir()) == before
