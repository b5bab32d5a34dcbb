"""One writer at a time in a folder, and a lock that nobody has to remove."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cymatic.errors import Error
from cymatic.folder_lock import LOCK, only_writer

HOLD = """
import sys, time
from pathlib import Path
from cymatic.folder_lock import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the folder `tmp_path / "out"`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "out"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_writer_is_refused_until_the_first_is_gone_however(holder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(Error, match=rf"another cymatic \(process {holder.pid}\) is writing to .*out; wait"):
        only_writer(out).__enter__()
    assert (out / LOCK).exists(), "the one who is refused takes nothing away"
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_writer(out):
        (out / "a").touch()
    assert [path.name for path in out.iterdir()] == ["a"]


def test_folders_in_which_nothing_was_written_are_gone_again(tmp_path):
    (tmp_path / "there").mkdir()
    for place in ("new/a/b", "there", "there/c"):
        with only_writer(tmp_path / place):
            assert (tmp_path / place / LOCK).read_bytes() == str(os.getpid()).encode()
            with pytest.raises(Error, match="is writing"):
                only_writer(tmp_path / place).__enter__()
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_that_cannot_be_made_is_said_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file/below", Path(f"{tmp_path}/a\0b")):
        with pytest.raises(Error, match=r"can't be written: .*; give a folder that you may write to"):
            only_writer(place).__enter__()


def test_a_file_system_without_locks_goes_on_without(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def none(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with only_writer(tmp_path / "out"), only_writer(tmp_path / "out"):
        pass
