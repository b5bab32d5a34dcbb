"""How far a long work is and how long it will take, on stderr: a bar on a terminal, plain lines elsewhere.

What is done within two seconds shows nothing. Standard output is left alone, whatever it is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import RLock, Timer
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cymatic.apps.terminal import printable

if TYPE_CHECKING:
    from cymatic.media.audio_streams import Blocks

PATIENCE = 2.0  # seconds before anything is shown
SELDOM = 60.0  # seconds between two plain lines at most; they begin `PATIENCE` apart, and each gap doubles


class ProgressBar:
    """Shows what it is told by calls, from `with` to its end. A work of several phases has one after the other.

        with ProgressBar("encoding", "files") as progress:
            progress(0, 400)

    what: the work. unit: of the numbers, where a call gives no words of its own. stream: text goes there, by default to
    stderr.
    """

    def __init__(
        self,
        what: str,
        unit: str = "",
        *,
        stream: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what, self.unit = what, unit
        self._stream = sys.stderr if stream is None else stream  # None where stderr was closed
        self._clock = clock
        self._began = clock()
        self._first: tuple[float, float] | None = None  # when it was told for the first time, and how far it was
        self._done, self._total, self._words = 0.0, None, ""  # type: float, float | None, str
        self._gap, self._next = PATIENCE, self._began + PATIENCE
        self._bar: _Bar | None = None
        self._lock = RLock()
        self._timer: Timer | None = None

    def __enter__(self) -> ProgressBar:
        if self._on_terminal():  # a first step of minutes is seen to be at work, too
            self._timer = Timer(PATIENCE, self._show)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._stream = None
            if self._bar is not None:
                self._bar.stop()
                self._bar = None

    def __call__(self, done: float, total: float | None = None, words: str = "") -> None:
        """`done` of `total`, which may be unknown. The first call says where the work begins, such as at 0.

        words: instead of "`done` of `total` `unit`", where the numbers are of something else.
        """
        with self._lock:
            self._done, self._total, self._words = done, total, words
            if self._first is None:
                self._first = (self._clock(), done)
            self._show()

    @property
    def line(self) -> str:
        """What is shown: `encoding: 12 of 400 files, 3 %, about 5 min to go`."""
        total, now = self._total, self._clock()
        of = f" of {total:,.10g}" if total is not None else ""
        unit = f" {self.unit}" if self.unit else ""
        parts = [self._words or f"{self._done:,.10g}{of}{unit}"] if self._first is not None else []
        if total and self._first is not None:
            parts.append(f"{100 * self._done / total:.0f} %")
        left = self._left(now)
        parts.append(f"{_time(now - self._began)} so far" if left is None else f"about {_time(left)} to go")
        return printable(f"{self.what}: {', '.join(parts)}")

    def _left(self, now: float) -> float | None:
        """Seconds to go, as fast as it went so far; None where nobody can know."""
        if self._first is None or self._total is None:
            return None
        began, at = self._first
        if self._done <= at or now <= began:
            return None
        return max(0.0, self._total - self._done) * (now - began) / (self._done - at)

    def _on_terminal(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # closed
            return False

    def _show(self) -> None:
        with self._lock:
            stream, now = self._stream, self._clock()
            if stream is None or now < self._began + PATIENCE:
                return
            if self._on_terminal():
                if self._bar is None:
                    self._bar = _Bar(stream)
                self._bar.show(self.line, self._done, self._total)
            elif now >= self._next and self._done != self._total:
                self._gap = min(SELDOM, 2 * self._gap)
                self._next = now + self._gap
                with suppress(OSError, ValueError):  # nobody reads on; the work is worth more than its progress
                    print(self.line, file=stream, flush=True)


class Phases:
    """One `ProgressBar` after another: a call that names another work ends the one before.

    with Phases() as show:
        show("generating", 0, 100)
    """

    def __init__(self, unit: str = "") -> None:
        self._unit = unit
        self._now: ProgressBar | None = None

    def __enter__(self) -> Phases:
        return self

    def __exit__(self, *how: Any) -> None:
        self.end()

    def end(self) -> None:
        """Nothing is shown until the next call, so that something may be said."""
        if self._now is not None:
            self._now.__exit__(None, None, None)
            self._now = None

    def __call__(self, what: str, done: float, total: float | None = None, words: str = "") -> None:
        """See `ProgressBar`."""
        if self._now is None or self._now.what != what:
            self.end()
            self._now = ProgressBar(what, self._unit).__enter__()
        self._now(done, total, words)


def by_items(progress: ProgressBar, begin: int, some: int, n: int) -> Callable[[int, int], None]:
    """What follows the steps of items `begin` to `begin + some` of `n`, which are made side by side."""
    progress(begin, n, f"{begin} of {n}" if n > 1 else "")

    def follow(step: int, steps: int) -> None:
        progress(begin + some * step / steps, n, f"{begin} of {n}" if n > 1 else f"step {step} of {steps}")

    return follow


def by_seconds(blocks: Blocks, progress: ProgressBar, audio: Path | None) -> Blocks:
    """The pieces of a sound, which are seen to go on; audio: the file that they come from."""
    done, seconds = 0.0, None if audio is None else _seconds(audio)
    for block, rate in blocks:
        progress(round(done, 1), seconds)
        yield block, rate
        done += block.shape[1] / rate


def _seconds(audio: Path) -> float | None:
    """How long a file says that it is; None where it can't be asked."""
    import soundfile

    try:
        seconds = soundfile.info(str(audio)).duration
    except (soundfile.SoundFileError, OSError, ValueError):
        return None
    return round(seconds, 1) if 0 < seconds < 10**6 else None


class _Bar:
    """The display on a terminal, gone without a trace at its end."""

    def __init__(self, stream: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        # Lines that go to the same terminal are put above the bar; piped ones stay where they go.
        shared = sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()
        self._progress = Progress(
            BarColumn(bar_width=20), TextColumn("{task.description}", markup=False),
            console=Console(file=stream, force_terminal=True), transient=True,
            redirect_stdout=shared, redirect_stderr=stream is sys.stderr,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def show(self, line: str, done: float, total: float | None) -> None:
        self._progress.update(self._task, description=line, completed=done, total=total)

    def stop(self) -> None:
        self._progress.stop()


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
