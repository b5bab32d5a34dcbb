"""`cymatic data list` and `cymatic data get`, as typed; without a network they say what to put where."""

import shlex
import socket
import urllib.error
import urllib.request

import pytest

from cymatic.apps.cli import run
from cymatic.data.published import digits, get
from cymatic.data.published.catalogue import PACKS
from cymatic.data.published.dataset_writer import DatasetWriter

ROW = {"id": "a", "audio": "audio/a.flac", "caption": "a", "seconds": 1.0, "split": "train"}


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No network, and the current folder empty."""

    def fail(*_, **__):
        raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_names_sizes_licences_and_homes(capsys):
    assert run(["data", "list"]) == 0
    said = capsys.readouterr().out
    for pack in PACKS:
        assert f"\n{pack.name} " in f"\n{said}" and pack.licence in said and f"{pack.sounds} sounds" in said
    assert "effects has no single home" in said


@pytest.mark.parametrize("name", ["digits", "samples", "esc10", "esc50"])
def test_without_a_network_it_says_what_to_put_where(offline, capsys, name):
    assert run(["data", "get", name, "-o", "my data"]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert "can't be reached (the name is unknown here)" in line
    again = shlex.split(line.partition("and run: cymatic ")[2])
    assert again == ["data", "get", name, "-o", "my data", "--from", f"my data/downloads/{name}.zip"]
    (pack,) = [pack for pack in PACKS if pack.name == name]
    assert f"put {pack.address} (fetched elsewhere) at my data/downloads/{name}.zip" in line
    assert "licence: " in said.out and pack.licence in said.out
    assert not (offline / "my data" / name).exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["digit"], 'there is no pack "digit"; did you mean digits?'),
        (["effects"], "effects has no single home"),
        (["digits", "--from", "nowhere.zip"], "nowhere.zip does not exist; give --from a folder or an archive"),
        (["digits", "--from", "."], ". lacks 2700 of the 2700 files that are needed (0_george_5.wav, "),
        (["digits", "-o", "file"], "file/digits.part can't be made: not a directory"),
        (["digits", "-o", "taken"], "taken/digits is in the way; move it away or give another folder with -o"),
    ],
)
def test_what_goes_wrong_is_one_line(offline, capsys, arguments, complaint):
    (offline / "file").write_text("")
    (offline / "taken" / "digits").mkdir(parents=True)
    (offline / "taken" / "digits" / "mine.wav").write_text("")
    assert run(["data", "get", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert complaint in line
    assert (offline / "taken" / "digits" / "mine.wav").exists()


def test_a_pack_has_its_name_only_when_it_is_whole(offline, capsys, monkeypatch):
    def half(writer, originals):
        writer.put("audio/a.flac", b"fLaC")
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "make", half)
    assert run(["data", "get", "digits", "--from", "."]) == 130
    assert not (offline / "data" / "digits").exists() and (offline / "data" / "digits.part" / "audio").is_dir()
    monkeypatch.setattr(digits, "make", lambda writer, originals: [ROW])
    assert run(["data", "get", "digits", "--from", "."]) == 0
    assert "data/digits  1 sounds, 0.0 min (1 train)" in capsys.readouterr().out
    assert {path.name for path in (offline / "data").iterdir()} == {"digits"}


def test_a_pack_that_lost_a_file_is_not_taken_for_whole(tmp_path):
    (pack,) = [pack for pack in PACKS if pack.name == "digits"]
    writer = DatasetWriter(pack, tmp_path)
    writer.open()
    folder = writer.close([ROW] * pack.sounds, made="", licence_text="")
    assert not get._is_whole(pack, folder, [ROW] * pack.sounds)
    (folder / "audio").mkdir()
    (folder / "audio" / "a.flac").write_bytes(b"fLaC")
    assert get._is_whole(pack, folder, [ROW] * pack.sounds)
    assert not get._is_whole(pack, folder, [ROW])
