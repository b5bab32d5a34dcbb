"""One writer at a time in a folder, however many are started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cymatic.errors import Error
from cymatic.files import reason

LOCK = ".cymatic-lock"
_BEYOND = 2**20  # Windows locks bytes and lets nobody read them; these are none of the file's


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Keeps other processes that ask for the same out of `folder` until the block ends.

    The system lets go of the lock when the process is gone, however it ended, so none is left behind. `folder` is made
    where it is missing, and removed again where nothing was written into it. A file system without locks has none.

    Raises Error in one sentence where another process has the folder, and where it can't be made.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    file = None
    try:
        try:
            file = _held(folder)
        except (OSError, ValueError) as error:
            if isinstance(error, Error):
                raise
            why = reason(error) if isinstance(error, OSError) else str(error)
            raise Error(f"{str(folder)!r:.200} can't be written: {why}; give a folder that you may write to") from error
        yield
    finally:
        if file is not None:
            _let_go(file, folder / LOCK)
        for place in missing:
            with suppress(OSError, ValueError):  # something is in it, or it is no name at all
                place.rmdir()


def _held(folder: Path) -> IO[bytes]:
    """The locked file of `folder`. Raises Error where another process has it."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = open(path, "a+b", buffering=0)  # noqa: SIM115 (closed when the lock is let go)
        except FileNotFoundError:  # whoever had it before has just removed the folder again
            continue
        try:
            _lock(file)
            # Whoever had it before may have removed the file after it was opened here: then others lock a new one.
            if os.name == "nt" or (path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno()))):
                with suppress(OSError):  # only a message needs it
                    file.truncate(0)
                    file.write(str(os.getpid()).encode())
                    file.flush()
                return file
        except (BlockingIOError, PermissionError):
            with file:
                raise Error(
                    f"another cymatic{_process(file)} is writing to {folder}; wait until it is done, or give another "
                    "folder"
                ) from None
        except BaseException:
            file.close()
            raise
        file.close()


def _process(file: IO[bytes]) -> str:
    """` (process 1234)`, as the one that holds the lock wrote it down."""
    try:
        file.seek(0)
        number = file.read(20)
    except OSError:
        return ""
    return f" (process {int(number)})" if number.isdigit() else ""


def _lock(file: IO[bytes]) -> None:
    """Raises BlockingIOError or PermissionError where another process has the lock."""
    if os.name == "nt":
        import msvcrt

        file.seek(_BEYOND)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise
    except OSError:  # some network file systems know no locks
        return


def _let_go(file: IO[bytes], path: Path) -> None:
    # Removed before it is unlocked, so that nobody locks a file that is about to go; Windows has it the other way.
    if os.name == "nt":
        file.close()
    with suppress(OSError):
        path.unlink(missing_ok=True)
    file.close()
