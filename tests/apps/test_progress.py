"""How far a long work is: nothing for what is short, a bar on a terminal, plain lines in logs, stdout left alone."""

import io
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cymatic.apps import progress as module
from cymatic.apps.progress import Phases, ProgressBar, by_items


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """Takes escape codes."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> Clock:
    return Clock()


def told(stream: io.StringIO, clock: Clock, seconds: int, each: float = 1.0, total: int | None = 1000) -> list[str]:
    """What a work says that does one of `total` files in `each` seconds."""
    with ProgressBar("encoding", "files", stream=stream, clock=clock) as progress:
        progress(0, total)
        for done in range(1, seconds + 1):
            clock.now += each
            progress(done, total)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_is_short_says_nothing(stream: io.StringIO, clock: Clock) -> None:
    assert told(stream, clock, 19, each=0.1) == []


def test_a_log_gets_plain_lines_less_and_less_often(clock: Clock) -> None:
    lines = told(io.StringIO(), clock, 300)
    assert lines[:3] == [
        "encoding: 2 of 1,000 files, 0 %, about 17 min to go",
        "encoding: 6 of 1,000 files, 1 %, about 17 min to go",
        "encoding: 14 of 1,000 files, 1 %, about 16 min to go",
    ]
    places = [int(line.split()[1]) for line in lines]
    assert places == [2, 6, 14, 30, 62, 122, 182, 242], "no more than a minute apart"
    assert not any("\x1b" in line or "\r" in line for line in lines)


def test_the_last_call_is_no_news(clock: Clock) -> None:
    assert [line.split(",")[0] for line in told(io.StringIO(), clock, 3, each=2.0, total=3)] == [
        "encoding: 1 of 3 files"
    ]


def test_where_the_whole_is_unknown_the_time_so_far_is_said(clock: Clock) -> None:
    assert told(io.StringIO(), clock, 2, each=60, total=None)[-1] == "encoding: 2 files, 2 min so far"


def test_what_was_there_before_counts_as_no_speed(clock: Clock) -> None:
    """A download that is taken up again at 950 of 1,000 MB and does one a second has 48 s to go after two."""
    stream = io.StringIO()
    with ProgressBar("fetching", stream=stream, clock=clock) as progress:
        for done in (950, 951, 952):
            progress(done, 1000, f"{done} MB")
            clock.now += 1
        progress(952, 1000, "952 MB")
    assert stream.getvalue().splitlines()[0] == "fetching: 952 MB, 95 %, about 48 s to go"


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end(clock: Clock) -> None:
    stream = Terminal()
    lines = told(stream, clock, 5)
    assert "encoding: 5 of 1,000 files" in stream.getvalue() and lines[-1].endswith("\x1b[1A\x1b[2K")


def test_a_terminal_shows_that_a_long_first_step_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    stream = Terminal()
    with ProgressBar("importing", stream=stream):
        time.sleep(0.4)
    assert "importing: 0 s so far" in stream.getvalue()


def test_a_stream_that_is_lost_costs_nothing(clock: Clock) -> None:
    class Lost(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert told(Lost(), clock, 9) == []
    closed = io.StringIO()
    with ProgressBar("x", stream=closed, clock=clock) as progress:
        closed.close()
        clock.now += 9
        progress(1, 2)


def test_without_stderr_nothing_is_shown(clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with ProgressBar("x", clock=clock) as progress:
        clock.now += 9
        progress(1, 2)
    assert capsys.readouterr().out == ""


def test_an_error_ends_the_bar(clock: Clock) -> None:
    stream = Terminal()
    with pytest.raises(KeyError), ProgressBar("x", stream=stream, clock=clock) as progress:
        clock.now += 9
        progress(1, 2)
        raise KeyError
    shown = stream.getvalue()
    assert shown.endswith("\x1b[1A\x1b[2K")
    progress(2, 2)
    assert stream.getvalue() == shown, "and it stays ended"


def test_a_name_can_not_move_the_cursor(clock: Clock) -> None:
    stream = io.StringIO()
    with ProgressBar("x", stream=stream, clock=clock) as progress:
        clock.now += 9
        progress(1, 2, "\x1b[2J[bold]a")
    assert stream.getvalue().startswith("x: \ufffd[2J[bold]a, 50 %")


def test_items_made_side_by_side_go_on_by_steps(clock: Clock) -> None:
    stream = io.StringIO()
    with ProgressBar("making sounds", stream=stream, clock=clock) as progress:
        for begin in (0, 16):
            follow = by_items(progress, begin, 16, 32)
            for step in (1, 2):
                clock.now += 2
                follow(step, 2)
    assert [line.removeprefix("making sounds: ") for line in stream.getvalue().splitlines()] == [
        "0 of 32, 25 %, about 6 s to go",
        "16 of 32, 75 %, about 2 s to go",
    ]


def test_phases_follow_each_other(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with Phases("clips") as show:
        show("reading", 1, 4)
        show("generating", 1, 2)
        show.end()
        show("generating", 1, 3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(", 0 s so far")[0] for line in lines] == [
        "reading: 1 of 4 clips, 25 %",
        "generating: 1 of 2 clips, 50 %",
        "generating: 1 of 3 clips, 33 %",
    ]


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", (0.1 * chance.standard_normal(12_000)).astype("f4"), 24_000)
    return folder


EAGER = "import sys, cymatic.apps.progress as p; p.PATIENCE = 0.0; from cymatic.apps.cli import main; main()"


def test_a_piped_stdout_stays_as_it_is_under_a_bar(sounds: Path, tmp_path: Path) -> None:
    """stderr is a terminal, stdout a file: no line of the one gets into the other."""
    theirs, ours = pty.openpty()
    command = [sys.executable, "-c", EAGER, "encode", str(sounds), "-o", str(tmp_path / "codes")]
    with open(tmp_path / "out.txt", "wb") as out:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=ours, timeout=120)
    os.close(ours)
    shown = os.read(theirs, 1 << 20).decode()
    os.close(theirs)
    assert done.returncode == 0, shown
    lines = (tmp_path / "out.txt").read_text().splitlines()
    assert len(lines) == 5 and lines[-1].startswith("4 files, 2.00 s") and "\x1b" not in "".join(lines)
    assert "encoding: 4 of 4 files, 100 %" in shown


@pytest.mark.parametrize(
    ("arguments", "work"),
    [
        (("encode", "sounds", "-o", "codes"), "encoding: 0 of 4 files"),
        (("encode", "sounds/0.wav", "-o", "one.cym"), "encoding: 0 of 0.5 s"),
        (("encode", "sounds", "-o", "shards", "--engine", "local", "--workers", "1"), "encoding: 0 of 1 shards"),
        (("data", "inspect", "sounds"), "reading: 1 of 4 clips"),
        (("sound", "dog bark", "-o", "dog.wav"), "making a sound: step 1 of "),
        (("sound", "dog bark", "-n", "2", "-o", "dog.wav"), "making sounds: 0 of 2"),
    ],
)
def test_each_long_command_says_how_far_it_is(
    sounds: Path, arguments: tuple[str, ...], work: str, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    ran = cli(*arguments)
    assert ran.code == 0, ran
    assert work in ran.err and work not in ran.out
