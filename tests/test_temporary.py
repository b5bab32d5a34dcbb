"""A folder for temporary files that can't be written is blamed itself, and not what was to be read or written."""

import errno
import io
import tarfile
import tempfile

import pytest

from cymatic.errors import TemporaryError
from cymatic.files import writing
from cymatic.media import audio_files, pipes
from tests.helpers import tone

BLAMED = r"the folder for temporary files, .*, can't be written: {}; free some space there, or let the variable TMPDIR"


class Full(io.BytesIO):
    """A file on a disk without room."""

    def write(self, data: object, /) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def flac(tmp_path):
    return tone(440, 0.5).write(tmp_path / "a.flac")


@pytest.fixture
def missing(tmp_path, monkeypatch):
    """The folder for temporary files was removed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))


def test_a_pipe_without_a_place_for_what_it_holds(flac, tmp_path, missing):
    output = tmp_path / "out.cym"
    with (
        flac.open("rb") as stream,
        pytest.raises(TemporaryError, match=BLAMED.format("no such file or directory")) as error,
        writing(output) as file,
    ):
        for block, _ in pipes.blocks(stream):
            file.write(block.tobytes())
    assert "out.cym" not in str(error.value) and sorted(path.name for path in tmp_path.iterdir()) == ["a.flac"]


def test_a_pipe_into_a_full_place(flac, monkeypatch):
    monkeypatch.setattr(pipes, "open", lambda *_: Full(), raising=False)
    with flac.open("rb") as stream, pytest.raises(TemporaryError, match=BLAMED.format("no space left on device")):
        list(pipes.blocks(stream))


def test_ffmpeg_without_a_place_for_what_it_decodes(tmp_path, missing, monkeypatch):
    monkeypatch.setattr(audio_files.shutil, "which", lambda name: "/bin/false")
    (tmp_path / "a.ape").write_bytes(b"MAC " + bytes(1000))
    with pytest.raises(TemporaryError, match="the folder for temporary files"):
        audio_files.read(tmp_path / "a.ape")


def test_ffmpeg_into_a_full_place(tmp_path, monkeypatch):
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho '[out] Error writing trailer: No space left on device' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(audio_files.shutil, "which", lambda name: str(program))
    (tmp_path / "a.ape").write_bytes(b"MAC " + bytes(1000))
    with pytest.raises(TemporaryError, match=BLAMED.format("no space left on device")):
        audio_files.read(tmp_path / "a.ape")


def test_archives_are_not_called_broken_for_it(flac, tmp_path, codec_folder, missing):
    from cymatic.pipelines.bulk import encode_in_bulk

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(flac, "a.flac")
    with pytest.raises(TemporaryError, match="the folder for temporary files"):
        encode_in_bulk(tmp_path / "a.tar", tmp_path / "out", codec_folder, say=lambda line: None)
