"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Collection
from pathlib import Path

from cymatic.errors import Error


def write_atomically(path: str | os.PathLike[str], data: bytes) -> Path:
    """Writes `data` to `path` through a temporary file in the same folder and a rename; returns the path.

    Whoever looks sees the old file or the new one, and a failure leaves nothing behind. A symbolic link is followed; a
    device or pipe (`/dev/stdout`) is written to directly, since replacing it would destroy it.

    Raises Error in one sentence that names the path and the reason: missing folder, no permission, disk full.
    """
    path = Path(path)
    try:
        target = Path(os.path.realpath(path))
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG
        if stat.S_ISDIR(mode):
            raise Error(f"{path} is a folder, so no file can be written there; give the name of a file")
        if not stat.S_ISREG(mode):
            target.write_bytes(data)
            return path
        if not target.parent.is_dir():
            raise Error(f"{path} can't be written: {_missing(path.parent)}; create the folder or give another path")
        _replace(target, data)
    except OSError as error:
        raise Error(f"{path} can't be written: {reason(error)}; {_advice(error)}") from error
    except Error:
        raise
    except ValueError as error:  # a NUL in the name
        raise Error(f"{str(path)!r} can't be written: {error}; give another name") from error
    return path


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


def reason(error: OSError) -> str:
    """What the system says, in lower case: `no space left on device`."""
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def _replace(target: Path, data: bytes) -> None:
    # A short name of its own, since the target's name may already be as long as the file system allows.
    temporary = target.with_name(f".cymatic-{secrets.token_hex(6)}.tmp")
    try:
        with open(temporary, "xb") as file:  # not tempfile: the file should get the user's usual permissions
            file.write(data)
        os.replace(temporary, target)
    except BaseException:  # an interrupt, too, must leave nothing behind
        temporary.unlink(missing_ok=True)
        raise


def _missing(folder: Path) -> str:
    if folder.exists():
        return f"{folder} is not a folder"
    return f"there is no folder {folder}"


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return "give a folder that you may write to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space or give another path"
    return "give another path"
