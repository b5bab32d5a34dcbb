"""Writing a file so that it is there whole or not at all, even where the power fails."""

from __future__ import annotations

import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cymatic.errors import Error, OutputError, TemporaryError

_TEMPORARY = ".cymatic-"
_NO_ROOM, _CLOSED = (errno.ENOSPC, errno.EDQUOT), (errno.EACCES, errno.EPERM, errno.EROFS)
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# What a reader says of one, after the file's name.
IS_LFS_POINTER = "is a Git LFS pointer, which stands for the file and is not it; fetch the file with `git lfs pull`"


def write_atomically(path: str | os.PathLike[str], data: bytes, *, durable: bool = True) -> Path:
    """Writes `data` to `path`, whole or not at all (see `writing`); returns the path. Raises Error as that does."""
    with writing(path, durable=durable) as file:
        file.write(data)
    return Path(path)


@contextmanager
def writing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[BinaryIO]:
    """An open file that becomes `path` when the block ends, through a temporary file in the same folder and a rename.

    Whoever looks sees the old file or the new one, and a failure leaves nothing behind. A symbolic link is followed; a
    device or pipe (`/dev/stdout`) is written to directly, since replacing it would destroy it.

    `durable`: the data are on the disk before the rename and the rename is on the disk at the end (fsync), so a power
    cut leaves the old file or the new one, too. It costs milliseconds; False is for small files that can be made again
    and whose damage is found out.

    Raises Error in one sentence that names the path and the reason: missing folder, no permission, disk full; the last
    two are an OutputError.
    """
    path = Path(path)
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise Error(f"{path} is a folder, so no file can be written there; give the name of a file")
        if not stat.S_ISREG(mode):
            with open(target, "wb") as file:
                yield file
            return
        if not target.parent.is_dir():
            raise Error(f"{path} can't be written: {_missing(path.parent)}; create the folder or give another path")
        with _replacing(target, durable) as file:
            yield file
    except OSError as error:
        if error.errno is None:  # a sentence already, about what was to be read
            raise
        kind = OutputError if error.errno in (*_NO_ROOM, *_CLOSED) else Error
        raise kind(f"{path} can't be written: {reason(error)}; {_advice(error)}") from error
    except Error:
        raise
    except ValueError as error:  # a NUL in the name
        if "null" not in str(error):
            raise
        raise Error(f"{str(path)!r} can't be written: {error}; give another name") from error


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, where they are missing. Raises Error as `writing` does."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        kind = OutputError if error.errno in (*_NO_ROOM, *_CLOSED) else Error
        raise kind(f"{path} can't be made: {reason(error)}; {_advice(error)}") from error


def check_output(path: str | os.PathLike[str], extensions: Collection[str]) -> None:
    """Says before the work what would fail after it: an unknown extension, a missing or closed folder, one in the way.

    Raises Error in one sentence.
    """
    path = Path(path)
    if path.suffix.lower() not in extensions:
        named = f'extension "{path.suffix}"' if path.suffix else "name without an extension"
        raise Error(f"{path} has an unknown {named}; use one of {', '.join(extensions)}")
    if path.is_dir():
        raise Error(f"{path} is a folder, so no file can be written there; give the name of a file")
    if not path.parent.is_dir():
        raise Error(f"{path} can't be written: {_missing(path.parent)}; create the folder or give another path")
    if not os.access(os.path.dirname(os.path.realpath(path)), os.W_OK):
        raise Error(f"{path} can't be written: permission denied; give a folder that you may write to")


def remove_leftovers(folder: Path) -> None:
    """Removes what writers that were killed left below `folder`; nobody else may be writing there."""
    for left in folder.rglob(f"{_TEMPORARY}*.tmp"):
        with suppress(OSError):
            left.unlink()


def is_lfs_pointer(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is what Git LFS leaves in a file's place until the file itself was fetched."""
    try:
        with Path(path).open("rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


@contextmanager
def into_temporary() -> Iterator[None]:
    """Where writing to a temporary file fails in this block, a TemporaryError blames its folder, and no other file."""
    try:
        yield
    except OSError as error:
        try:
            place = tempfile.gettempdir()
        except OSError:  # none is usable
            place = os.environ.get("TMPDIR", "")
        raise TemporaryError(
            f"the folder for temporary files{f', {place},' if place else ''} can't be written: {reason(error)}; free "
            "some space there, or let the variable TMPDIR name another folder"
        ) from error


def reason(error: OSError) -> str:
    """What the system says, in lower case: `no space left on device`."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until `path` is on the disk: what a file holds, or which names a folder holds (after a rename).

    Windows has no such call for a folder, and file systems that know none are left alone. Raises OSError where writing
    failed.
    """
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        _flush(handle)
    finally:
        os.close(handle)


def _flush(handle: int) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
            raise


@contextmanager
def _replacing(target: Path, durable: bool) -> Iterator[BinaryIO]:
    # A short name of its own, since the target's name may already be as long as the file system allows.
    temporary = target.with_name(f"{_TEMPORARY}{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:  # not tempfile: the file should get the user's usual permissions
            yield file
            if durable:  # or the new name could reach the disk before the data, and stand for an empty file
                file.flush()
                _flush(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # an interrupt, too, must leave nothing behind
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync(target.parent)


def _missing(folder: Path) -> str:
    if folder.exists():
        return f"{folder} is not a folder"
    return f"there is no folder {folder}"


def _advice(error: OSError) -> str:
    if error.errno in _CLOSED:
        return "give a folder that you may write to"
    if error.errno in (*_NO_ROOM, errno.EFBIG):
        return "free some space or give another path"
    return "give another path"
