"""Fetching a file over the network so that it is there whole and as published, or not at all.

What has arrived lies in NAME.part beside the place of NAME, and the next attempt, or the next day's, asks the server
for the rest of it (HTTP range requests, RFC 9110). A file gets its name only after its checksum was right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cymatic.errors import Error
from cymatic.files import reason, sync
from cymatic.version import __version__

TRIES = 5
TIMEOUT = 30.0  # seconds without a byte
LONGEST_WAIT = 60.0  # seconds, whatever a server asks for
CHUNK = 1 << 18  # bytes
PASSING = {408, 425, 429, 500, 502, 503, 504}

Opener = Callable[[urllib.request.Request, float], Any]  # (request, timeout in seconds) -> an open HTTP response
Fetch = Callable[..., Path]  # `fetch`, perhaps with some of its arguments given


class DownloadError(Error):
    """What an address could not give; the message names the address."""


class _Again(Exception):
    """Worth another attempt, after `wait` seconds where the server asked for that."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(frozen=True)
class Checksum:
    """An algorithm of hashlib and the first hex digits that it must give."""

    algorithm: str
    digits: str

    def check(self, path: Path) -> None:
        """Raises DownloadError, which names the file and what came; the file stays as it is."""
        with open(path, "rb") as file:
            came = hashlib.file_digest(file, self.algorithm).hexdigest()
        if not came.startswith(self.digits):
            raise DownloadError(
                f"{path} is not what was published: its {self.algorithm.upper()} is {came}, and {self.digits} was "
                "expected; move it away and run again"
            )


def _urlopen(request: urllib.request.Request, timeout: float) -> Any:
    return urllib.request.urlopen(request, timeout=timeout)


def fetch(
    address: str,
    path: Path,
    *,
    checksum: Checksum | None = None,
    size: int | None = None,
    on_bytes: Callable[[int, int | None], None] = lambda have, total: None,
    open_url: Opener = _urlopen,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Brings `address` to `path` and returns the path; what is there already, and right, is not fetched again.

    size: in bytes, where it is known. on_bytes: told what has arrived and the total, None where the server does not
    say. Attempts that fail in passing (a broken connection, a busy server) are made `TRIES` times in all.

    Raises DownloadError in one sentence: no network, no such file, broken off too often, a wrong checksum; Error where
    the file system refuses. What has arrived is kept in `path`.part.
    """
    if path.exists():
        if checksum is not None:
            checksum.check(path)
        return path
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _attempts(address, part, size, lambda have, total: on_bytes(have, total or size), open_url, sleep)
        if size is not None and part.stat().st_size != size:
            raise DownloadError(
                f"{part} is not what was published: {part.stat().st_size} bytes came, and {size} were expected; "
                "move it away and run again"
            )
        if checksum is not None:
            checksum.check(part)
        sync(part)
        os.replace(part, path)
        sync(path.parent)
    except OSError as error:
        raise Error(
            f"{part} can't be written: {reason(error)}; mend that and run again, and it goes on where it stopped"
        ) from error
    return path


def _attempts(
    address: str,
    part: Path,
    size: int | None,
    on_bytes: Callable[[int, int | None], None],
    open_url: Opener,
    sleep: Callable[[float], None],
) -> None:
    for attempt in range(1, TRIES + 1):
        had = part.stat().st_size if part.exists() else 0
        if size is not None and had == size:
            return
        try:
            return _attempt(address, part, had, on_bytes, open_url)
        except _Again as failed:
            if attempt == TRIES:
                have = part.stat().st_size if part.exists() else 0
                raise DownloadError(
                    f"{address} broke off {TRIES} times, last with: {failed}; {have} bytes are kept, so run again to "
                    "go on from there"
                ) from None
            sleep(min(LONGEST_WAIT, failed.wait if failed.wait is not None else 2.0 ** (attempt - 1)))


def _attempt(address: str, part: Path, had: int, on_bytes: Callable[[int, int | None], None], open_url: Opener) -> None:
    """One request and its answer, appended to `part`. Raises _Again, DownloadError, and OSError for the disk only."""
    # Compressed on the way, the ranges would count other bytes than ours.
    headers = {"User-Agent": f"cymatic/{__version__}", "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    try:
        response = open_url(urllib.request.Request(address, headers=headers), TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and had:  # nothing lies beyond what is here
                beyond = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range") or "")
                if beyond and int(beyond[1]) == had:
                    return
                part.unlink()
                raise _Again("the part that was here does not fit") from None
            if error.code in PASSING:
                asked = error.headers.get("Retry-After") or ""
                raise _Again(f"{error.code} {error.reason}", float(asked) if asked.isdigit() else None) from None
            raise DownloadError(f"{address} answers {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(address, error) from None
    with response:
        total = _announced(response, had)
        whole = response.status != 206
        if not whole and not (response.headers.get("Content-Range") or "").startswith(f"bytes {had}-"):
            part.unlink()
            raise _Again("the server sent another part than it was asked for")
        with open(part, "wb" if whole else "ab") as file:
            have = _copy(response, file, 0 if whole else had, total, on_bytes)
    if total is not None and have < total:
        raise _Again(f"only {have} of {total} bytes came")


def _announced(response: Any, had: int) -> int | None:
    """How long the whole file is, as the server says."""
    length = response.headers.get("Content-Length") or ""
    if not length.isdigit():
        return None
    return int(length) + (had if response.status == 206 else 0)


def _copy(
    response: Any, file: IO[bytes], have: int, total: int | None, on_bytes: Callable[[int, int | None], None]
) -> int:
    while True:
        on_bytes(have, total)
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:  # the network's; the disk's comes from `write`
            raise _Again(_said(error)) from None
        if not chunk:
            return have
        file.write(chunk)
        have += len(chunk)


def _unreachable(address: str, error: BaseException) -> Exception:
    """No network at all is said at once; what may pass is tried again."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError | ConnectionResetError | ConnectionAbortedError | http.client.HTTPException):
        return _Again(_said(cause))
    said = "the name is unknown here" if isinstance(cause, socket.gaierror) else _said(cause)
    return DownloadError(f"{address} can't be reached ({said})")


def _said(error: object) -> str:
    if isinstance(error, OSError):
        return reason(error)
    return str(error) or type(error).__name__
