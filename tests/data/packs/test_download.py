"""Downloads: whole and as published, or not at all; what has arrived is never fetched twice."""

import hashlib
import http.server
import socket
import threading
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from cymatic.data.published import download
from cymatic.data.published.download import Checksum, DownloadError
from cymatic.errors import Error

CONTENT = np.random.default_rng(0).bytes(1_000_000)
SHA256 = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())


@dataclass
class Server:
    """What a test's server does, and the ranges that it was asked for."""

    address: str = ""
    cut_at: list[int] = field(default_factory=list)  # bytes after which an answer breaks off, an entry a request
    ranges: bool = True
    errors: list[int] = field(default_factory=list)  # statuses to answer with first
    content: bytes = CONTENT
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            told.asked.append(asked)
            if told.errors:
                self.send_response(told.errors.pop(0))
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and told.ranges else 0
            if start >= len(told.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(told.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = told.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(told.content) - 1}/{len(told.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if told.cut_at:
                body = body[: told.cut_at.pop(0)]
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        told.address = f"http://127.0.0.1:{serving.server_port}/file.zip"
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield told
        serving.shutdown()
        thread.join()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def fetch(waits: list[float]) -> partial[Path]:
    return partial(download.fetch, sleep=waits.append)


def test_a_file_comes_whole(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    seen = []
    path = fetch(server.address, tmp_path / "new" / "a.zip", checksum=SHA256, on_bytes=lambda *now: seen.append(now))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["a.zip"]
    assert seen[0] == (0, len(CONTENT)) and seen[-1] == (len(CONTENT), len(CONTENT))


def test_what_is_there_is_not_fetched_again(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(CONTENT)
    fetch(server.address, tmp_path / "a.zip", checksum=SHA256)
    assert server.asked == []


def test_a_part_is_gone_on_with(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(CONTENT[:400_000])
    assert fetch(server.address, tmp_path / "a.zip", checksum=SHA256).read_bytes() == CONTENT
    assert server.asked == ["bytes=400000-"]


def test_a_connection_that_breaks_is_taken_up(
    server: Server, fetch: partial[Path], tmp_path: Path, waits: list[float]
) -> None:
    server.cut_at = [300_000, 300_000]
    assert fetch(server.address, tmp_path / "a.zip", checksum=SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-"]
    assert waits == [1, 2]


def test_one_that_breaks_too_often_says_what_is_kept(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    server.cut_at = [100_000] * 5
    with pytest.raises(DownloadError, match=r"broke off 5 times.*500000 bytes are kept, so run again"):
        fetch(server.address, tmp_path / "a.zip", checksum=SHA256)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:500_000]
    assert fetch(server.address, tmp_path / "a.zip", checksum=SHA256).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / "a.zip.part").write_bytes(b"something else")
    assert fetch(server.address, tmp_path / "a.zip", checksum=SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("had", [CONTENT, CONTENT + b"more"])
def test_a_part_that_reaches_the_end(server: Server, fetch: partial[Path], tmp_path: Path, had: bytes) -> None:
    (tmp_path / "a.zip.part").write_bytes(had)
    assert fetch(server.address, tmp_path / "a.zip", checksum=SHA256).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server, fetch: partial[Path], tmp_path: Path, waits: list[float]) -> None:
    server.errors = [503, 429]
    assert fetch(server.address, tmp_path / "a.zip", checksum=SHA256).read_bytes() == CONTENT
    assert waits == [1, 2]


def test_what_is_not_there_is_said_at_once(
    server: Server, fetch: partial[Path], tmp_path: Path, waits: list[float]
) -> None:
    server.errors = [404]
    with pytest.raises(DownloadError, match=r"file\.zip answers 404 Not Found"):
        fetch(server.address, tmp_path / "a.zip")
    assert waits == [] and list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_deletes_nothing(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    server.content = CONTENT[::-1]
    came = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(DownloadError, match=rf"a\.zip\.part is not what was published: its SHA256 is {came}"):
        fetch(server.address, tmp_path / "a.zip", checksum=SHA256)
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip.part"]
    assert (tmp_path / "a.zip.part").read_bytes() == server.content


def test_a_wrong_file_under_the_name_stays(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"a\.zip is not what was published"):
        fetch(server.address, tmp_path / "a.zip", checksum=SHA256)
    assert (tmp_path / "a.zip").read_bytes() == b"mine" and server.asked == []


def test_a_wrong_size(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="1000000 bytes came, and 5 were expected"):
        fetch(server.address, tmp_path / "a.zip", size=5)


def test_no_network_is_said_at_once_with_the_address(tmp_path: Path, waits: list[float]) -> None:
    def no_network(*_: object) -> None:
        raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    with pytest.raises(DownloadError, match=r"https://example\.org/a can't be reached \(the name is unknown here\)"):
        download.fetch("https://example.org/a", tmp_path / "a", open_url=no_network, sleep=waits.append)
    assert waits == []


def test_silence_is_waited_out_and_then_said(tmp_path: Path, waits: list[float]) -> None:
    def no_answer(*_: object) -> None:
        raise urllib.error.URLError(TimeoutError("timed out"))

    with pytest.raises(DownloadError, match="broke off 5 times, last with: timed out; 0 bytes are kept"):
        download.fetch("https://example.org/a", tmp_path / "a", open_url=no_answer, sleep=waits.append)
    assert waits == [1, 2, 4, 8]


def test_a_full_disk(server: Server, fetch: partial[Path], tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full to write to")
    (tmp_path / "a.zip.part").symlink_to(full)
    with pytest.raises(Error, match="no space left on device; mend that and run again"):
        fetch(server.address, tmp_path / "a.zip", checksum=SHA256)
    assert not (tmp_path / "a.zip").exists()
