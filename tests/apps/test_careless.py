"""Full disks, closed folders, interrupts and results among the data: one sentence, and nothing lost or half-written."""

import errno
import os
from pathlib import Path

import pytest
from tests.helpers import tone, tone_folder

from cymatic.apps import convert_command
from cymatic.media.sound import Sound

NAMES = ("kit one/a.wav", "kit one/b.wav", *(f"kit two/{name}.wav" for name in "cdefgh"))
WAYS = {"convert": "wav", "encode": "cym"}


@pytest.fixture
def pack(tmp_path):
    for i, name in enumerate(NAMES):
        (tmp_path / "pack" / name).parent.mkdir(parents=True, exist_ok=True)
        tone(200 + 30 * i, 0.3, 2000).write(tmp_path / "pack" / name)
    return tmp_path / "pack"


@pytest.fixture
def command(pack, codec_folder):
    """What converts or encodes `pack` into `out`, one file after the other."""

    def arguments(verb):
        model = ["--model", codec_folder] if verb == "encode" else []
        return [verb, pack, "-o", "out", "--workers", 1, *model]

    return arguments


def left(root="out"):
    return sorted(str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file())


@pytest.mark.parametrize("verb", WAYS)
def test_a_disk_that_fills_ends_the_work(cli, command, monkeypatch, verb):
    replace, made = os.replace, []

    def nearly_full(*paths):
        made.append(paths)
        if len(made) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(*paths)

    monkeypatch.setattr("cymatic.files.os.replace", nearly_full)
    ran = cli(*command(verb))
    assert ran.code == 2 and "skipped" not in ran.err + ran.out
    last = ran.err.splitlines()[-1]
    assert last.startswith(f"cymatic: out/kit two/c.{WAYS[verb]} can't be written: no space left on device; free some")
    assert last.endswith("; 2 of 8 files are done") and "Errno" not in ran.err
    assert left() == [f"kit one/{name}.{WAYS[verb]}" for name in "ab"]


@pytest.mark.parametrize("verb", WAYS)
def test_a_folder_that_can_not_be_made(cli, command, monkeypatch, verb):
    mkdir = Path.mkdir

    def closed(self, *given, **more):
        if self.name == "kit two":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        mkdir(self, *given, **more)

    monkeypatch.setattr(Path, "mkdir", closed)
    ran = cli(*command(verb))
    assert ran.code == 2 and ran.err.splitlines()[-1] == (
        "cymatic: out/kit two can't be made: permission denied; give a folder that you may write to; 2 of 8 files are "
        "done"
    )


@pytest.mark.parametrize("verb", WAYS)
def test_a_file_where_a_folder_should_be_costs_what_belongs_there(cli, command, verb):
    Path("out").mkdir()
    Path("out/kit two").write_text("somebody's")
    ran = cli(*command(verb))
    assert ran.code == 0 and "6 skipped" in ran.out and "Errno" not in ran.err
    assert ran.err.count("out/kit two can't be made: file exists; give another path") == 6
    assert Path("out/kit two").read_text() == "somebody's" and len(left()) == 3


def test_an_interrupt_leaves_whole_files(cli, pack, monkeypatch):
    write, begun = convert_command._write, []

    def interrupted(source, place, *rest):
        begun.append(place)
        if len(begun) == 3:
            raise KeyboardInterrupt
        return write(source, place, *rest)

    monkeypatch.setattr(convert_command, "_write", interrupted)
    ran = cli("convert", pack, "-o", "out", "--workers", 1)
    assert (ran.code, ran.err) == (130, "") and "kit two/c.wav" not in left()
    assert left()[:2] == ["kit one/a.wav", "kit one/b.wav"]
    assert all(Sound.read(f"out/{name}").seconds == 0.3 for name in left())


def test_a_sheet_among_the_data_is_refused(refuses, cli, tmp_path):
    tone_folder(tmp_path / "tones")
    for where in ("tones/sheet.png", "tones/../tones/sheet.png"):
        said = refuses("data", "inspect", "tones", "-o", where)
        assert f"{where} lies in the folder that is read, and would be among its files" in said
    assert cli("data", "inspect", "tones", "-o", "sheet.png").code == 0
