"""Damaged headers crash nothing; and the tool that says so sees crashes, hangs and memory where there are some.

`CYMATIC_FUZZ=10000` reads so many files of each kind, which takes a quarter of an hour.
"""

import importlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cymatic.errors import Error
from tests.conftest import REPOSITORY

COUNT = int(os.environ.get("CYMATIC_FUZZ", "40"))
KINDS = ["wav", "ogg", "flac", "mp3", "aiff", "caf", "cym"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are POSIX's")


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("fuzz")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_headers_are_read_or_refused(fuzz, kind):
    found = fuzz.fuzz(kind, COUNT)
    assert found.faults == {"crash": {}, "hang": {}, "memory": {}}
    assert sum(found.outcomes.values()) == COUNT
    assert min(found.outcomes["read"], found.outcomes["refused"]) > 0, "both happen"


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_the_same_file_everywhere_and_another_than_the_next(fuzz, kind):
    made = [fuzz.changed(kind, 3, number) for number in range(20)]
    assert made == [fuzz.changed(kind, 3, number) for number in range(20)]
    assert len(set(made)) > 15 and made != [fuzz.changed(kind, 4, number) for number in range(20)]


@pytest.mark.parametrize("kind", ["ogg", "cym"])
def test_checksums_are_made_right_again(fuzz, kind):
    for whole in fuzz.sound_files(kind):
        data = bytearray(whole)
        if kind == "ogg":
            data[22:26] = bytes(4)
            fuzz._renew_pages(data)
        else:
            data = fuzz._renew_records(whole[:-4] + bytes(4))
        assert bytes(data) == whole


def dies(kind: str, data: bytes, folder: Path) -> None:
    here = folder / "count"
    here.write_text(str(int(here.read_text()) + 1 if here.exists() else 0))
    number = int(here.read_text())  # 0: what the process begins with
    if number == 2:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 5:
        raise KeyError("surprise")
    if number == 6:
        raise Error("of one\nand another line")
    if number % 2:
        raise Error("no sound; give one")


def hangs(kind: str, data: bytes, folder: Path) -> None:
    if len(data) % 2:
        time.sleep(60)


def grows(kind: str, data: bytes, folder: Path) -> None:
    if len(data) % 2:
        bytes([1]) * 2**28


def test_crashes_are_found(fuzz):
    found = fuzz.fuzz("wav", 8, reader=dies)
    # What the first process begins with is counted as 0, then 1 is refused and 2 dies; the next begins with 3.
    assert {number: text[:12] for number, text in found.faults["crash"].items()} == {
        1: "the process ", 3: "KeyError: 's", 4: "a message of",
    }  # fmt: skip
    assert found.outcomes == {"refused": 3, "read": 2}


def test_hangs_and_memory_are_found(fuzz, monkeypatch):
    held = np.ones(2**26)  # what this process holds is no memory of the child's
    assert held.nbytes > 2**28
    odd = next(number for number in range(99) if len(fuzz.changed("wav", 0, number)) % 2)
    monkeypatch.setattr(fuzz, "BYTES", 2**27)
    assert list(fuzz.fuzz("wav", 1, reader=grows, first=odd).faults["memory"]) == [odd]
    monkeypatch.setattr(fuzz, "SECONDS", 0.5)
    assert list(fuzz.fuzz("wav", 1, reader=hangs, first=odd).faults["hang"]) == [odd]
