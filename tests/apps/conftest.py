"""The command line, run in this process: its exit code and what it said where."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import absent

from cymatic.apps import progress


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Ran]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("plot", "a.wav", "-o", "a.png")` in an empty folder of its own."""
    from cymatic.apps.cli import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "PATIENCE", 600.0)  # what a busy machine makes last must not show in what is compared

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return call


def starter_folder(name: str) -> Path:
    """Where a starter lies; skips where none is shipped, and fails where fixtures are required."""
    from cymatic.pipelines.load import starters

    folder = starters().get(name)
    if folder is None:
        absent(f"this checkout ships no {name}")
    return folder


@pytest.fixture(scope="module")
def starter(request: pytest.FixtureRequest) -> Path:
    """The folder of the starter that the test's module calls `NAME`."""
    return starter_folder(request.module.NAME)


def contents(*folders: Path) -> dict[str, str]:
    """Everything below `folders`: kinds of entries and hashes of files, so that any change shows."""
    found = {}
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        regular = path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if regular else str(path.lstat().st_mode)
    return found


@pytest.fixture
def refuses(cli: Cli, tmp_path: Path, tiny_run: Path) -> Iterator[Callable[..., str]]:
    """Runs a command that must fail as the house says: 2, one line on stderr, nothing on stdout, no file touched."""

    def call(*arguments: object) -> str:
        before = contents(tmp_path, tiny_run)
        ran = cli(*arguments)
        assert (ran.code, ran.out) == (2, ""), ran
        assert ran.err.startswith("cymatic: ") and ran.err.endswith("\n") and len(ran.err.splitlines()) == 1, ran.err
        assert len(ran.err) > len("cymatic: ") + 15, "says too little"
        assert "Traceback" not in ran.err and "Errno" not in ran.err, ran.err
        assert contents(tmp_path, tiny_run) == before
        return ran.err.strip()

    yield call
