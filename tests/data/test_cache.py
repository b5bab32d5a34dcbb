"""The cache of what can be computed again: whole or not there, shared by many, and never in the way."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cymatic.data.cache import Cache, cache_folder, largest
from cymatic.errors import Error


def test_where_it_lies(monkeypatch, tmp_path):
    monkeypatch.delenv("CYMATIC_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == Path.home() / ".cache/cymatic"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cymatic"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == Path.home() / ".cache/cymatic", "a relative one is to be ignored"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == Path.home() / "Library/Caches/cymatic"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache_folder() == tmp_path / "cymatic/cache"
    monkeypatch.setenv("CYMATIC_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_what_was_put_is_found(tmp_path):
    cache = Cache(tmp_path)
    assert cache.get("a") is None
    cache.put("a", b"")
    cache.put("b", b"12")
    cache.put("\udcff", b"3")  # a name that is no text
    assert [cache.get(key) for key in ("a", "b", "\udcff", "c")] == [b"", b"12", b"3", None]
    assert cache.size() == (3, 3 + 3 * 4)
    assert cache.trouble is None
    cache.clear()
    assert cache.size() == (0, 0) and cache.get("b") is None
    cache.clear()


@pytest.mark.parametrize("harm", [lambda data: data[:-1], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_entry_is_as_good_as_none(tmp_path, harm):
    cache = Cache(tmp_path)
    cache.put("a", b"12345")
    path = Path(cache.path("a"))
    path.write_bytes(harm(path.read_bytes()))
    assert cache.get("a") is None
    cache.put("a", b"12345")
    assert cache.get("a") == b"12345"


def test_a_full_disk_is_met_once(tmp_path, monkeypatch):
    calls = []

    def full(*arguments):
        calls.append(arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = Cache(tmp_path)
    monkeypatch.setattr("cymatic.files.open", full, raising=False)
    cache.put("a", b"1")
    cache.put("b", b"2")
    assert cache.trouble == "can't be written: no space left on device"
    assert len(calls) == 1 and cache.size() == (0, 0)


def test_a_file_in_its_place_is_met_once(tmp_path):
    (tmp_path / "features").write_text("x")
    cache = Cache(tmp_path)
    cache.put("a", b"1")
    assert cache.get("a") is None
    assert cache.trouble is not None and cache.trouble.startswith("can't be written: ")


WORKER = """
import sys
from pathlib import Path
from cymatic.data.cache import Cache
cache = Cache(Path(sys.argv[1]))
for i in range(300):
    key = str(i % 10)
    cache.put(key, key.encode() * 10_000)
    assert cache.get(key) == key.encode() * 10_000
assert cache.trouble is None
"""


def test_many_processes_may_write_the_same_entries(tmp_path):
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, tmp_path]) for _ in range(3)]
    assert [worker.wait(300) for worker in workers] == [0, 0, 0]
    assert Cache(tmp_path).size()[0] == 10, "no temporary file is left"


def test_what_was_written_longest_ago_makes_room(tmp_path):
    cache = Cache(tmp_path)
    for number in range(10):
        cache.put(str(number), bytes(96))
        os.utime(cache.path(str(number)), ns=(number, number))
    cache.trim(1000)
    assert cache.size()[0] == 10
    cache.trim(550)  # each entry takes 100 bytes: four are left, under nine tenths of 550
    assert [cache.get(str(number)) is not None for number in range(10)] == [False] * 6 + [True] * 4


def test_the_largest_size_can_be_said(tmp_path, monkeypatch):
    monkeypatch.setenv("CYMATIC_CACHE_GB", "0.0000001")
    monkeypatch.setattr("cymatic.data.cache.LOOK_EVERY", 0.0)
    cache = Cache(tmp_path)
    for number in range(9):
        cache.put(str(number), bytes(60))
    assert cache.size()[0] <= 2 and cache.get("8") is not None and cache.trouble is None
    monkeypatch.setenv("CYMATIC_CACHE_GB", "many")
    with pytest.raises(Error, match="number of gigabytes"):
        largest()
