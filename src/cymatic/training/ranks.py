"""Several processes that train one model: started by Fabric, listened to, stopped and ended together.

Fabric spawns them anew (fork is unsafe once torch has threads, and on macOS at all; starting the same command again
works for scripts only), so what they are given is pickled. This process trains nothing: it hears what rank 0 says,
passes a Ctrl-C on, and sees to it that none is left behind.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_fabric import Fabric
from torch.multiprocessing.spawn import ProcessExitedException

from cymatic.errors import Error, Note
from cymatic.training.loop import Outcome, Report
from cymatic.training.stop import stop_on_signal

logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # how it sets up its processes is no news to a user

PAUSE = 0.05  # seconds between two looks at what was said
BROKEN = "a training process ended from outside"
GO_ON = "the last checkpoint is intact, and --resume goes on from it"


@runtime_checkable
class Work(Protocol):
    """What every process does with its Fabric; the rest of its arguments come with `functools.partial`."""

    def __call__(
        self,
        fabric: Fabric,
        *,
        say: Callable[[str], None],
        on_report: Callable[[Report], None],
        stopped: Callable[[], bool],
    ) -> Outcome: ...


@dataclass(frozen=True)
class Link:
    """A process's way to the one that started it: what it says goes up a queue, the wish to stop comes down."""

    queue: Any
    stop: Any

    def send(self, kind: str, value: object) -> None:
        with suppress(BrokenPipeError):  # nobody listens any more, which `stopped` is about to say
            self.queue.put((kind, value))

    def stopped(self) -> bool:
        """Whether to stop after this step: on a signal, and where the process that started this one is gone."""
        parent = multiprocessing.parent_process()
        return self.stop.is_set() or (parent is not None and not parent.is_alive())


def train_together(
    fabric: Fabric, work: Work, *, say: Callable[[str], None], on_report: Callable[[Report], None]
) -> Outcome:
    """Runs `work` in each process of `fabric` and gives what rank 0 returns.

    `say` and `on_report` are called here with what rank 0 says. An interrupt before the first report ends all
    processes at once, a later one after their step. Raises what a process raised first; Error where one was killed.
    """
    context = multiprocessing.get_context("spawn")
    link = Link(context.SimpleQueue(), context.Event())
    others = set(multiprocessing.active_children())
    failed: list[BaseException] = []
    heard: dict[str, list[Any]] = {"done": [], "error": [], "broken": []}

    def start() -> None:
        # A Ctrl-C reaches every process of a terminal. The others are to leave it to this one, and inherit the mask.
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            with _environment():
                fabric.launch(partial(_rank, work=work, link=link))
        except BaseException as error:
            failed.append(error)

    begun = False
    launcher = threading.Thread(target=start, name="ranks")
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    with stop_on_signal() as stopped:
        launcher.start()
        try:
            while launcher.is_alive() or not link.queue.empty():
                if stopped():
                    if not begun:
                        raise KeyboardInterrupt
                    link.stop.set()
                if link.queue.empty():
                    launcher.join(PAUSE)
                    continue
                kind, value = link.queue.get()
                if kind == "say":
                    say(value)
                elif kind == "report":
                    begun = True
                    on_report(value)
                elif kind == "note":
                    warnings.warn(Note(value), stacklevel=2)
                else:
                    heard[kind].append(value)
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()  # whatever is written is written whole
            raise
        finally:
            launcher.join()
    if heard["error"]:
        raise heard["error"][0]
    if failed:
        gone = failed[0] if isinstance(failed[0], ProcessExitedException) else None
        how = gone and gone.exit_code < 0 and gone.msg.rpartition(" ")[2]
        if how or heard["broken"]:
            raise Error(f"{BROKEN} ({how or heard['broken'][0]}), so all ended; {GO_ON}") from gone
        if gone:
            raise Error(f"a training process ended before its work, as it says above ({gone.msg})") from gone
        raise failed[0]
    return heard["done"][0]


def _rank(fabric: Fabric, work: Work, link: Link) -> None:
    """What each process runs: `work`, with its voice and its errors sent up the link."""
    first = fabric.is_global_zero

    def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if first and issubclass(category, Note):
            link.send("note", str(message))

    warnings.showwarning = note
    try:
        outcome = work(
            fabric,
            say=(lambda line: link.send("say", line)) if first else (lambda line: None),
            on_report=(lambda at: link.send("report", at)) if first else (lambda at: None),
            stopped=link.stopped,
        )
        if first:
            link.send("done", outcome)
    except Exception as error:
        link.send(*_described(error, fabric.global_rank))
        raise SystemExit(1) from None


def _described(error: Exception, rank: int) -> tuple[str, object]:
    """What the process that listens is to raise: the error itself where a user can mend it, else where it arose."""
    if isinstance(error, (Error, OSError, MemoryError)):
        return "error", error
    text = str(error)
    if isinstance(error, torch.distributed.DistError) or "gloo" in text or "closed by peer" in text:
        return "broken", "the connection to it broke"
    if isinstance(error, RuntimeError) and "memory" in text:
        return "error", MemoryError(text.splitlines()[0])
    return "error", RuntimeError(f"process {rank}:\n{''.join(traceback.format_exception(error))}")


@contextmanager
def _environment() -> Iterator[None]:
    """What the processes inherit, and the environment as it was after that.

    Fabric writes a port there, and the next run wants one of its own. Torch's own log is silent unless it was set: what
    it says of a connection that broke comes as an error, too, and the reader wants the sentence that broke it.
    """
    names = ("MASTER_PORT", "TORCH_CPP_LOG_LEVEL")
    before = {name: os.environ.get(name) for name in names}
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
