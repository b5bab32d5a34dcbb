"""What the commands share when they speak to a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

NAMED = 3


def printable(line: str) -> str:
    """`line` without what would move the cursor or colour the screen: a file's name may hold anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


_closed: set[str] = set()  # of the standard streams


def open_closed_streams() -> None:
    """Puts an empty device in the place of each standard stream that this process was started without (`>&-`), lest
    the next file that is opened takes its number, and what is printed ends up in it."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            _closed.add(name)
            null = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            os.set_inheritable(null, True)
            setattr(sys, name, open(null, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def is_closed(name: str) -> bool:
    """Whether this process was started without `stdin`, `stdout` or `stderr`."""
    return name in _closed


def say_note(note: object) -> None:
    """Something worth knowing that stops nothing, as one line on stderr."""
    print(printable(f"cymatic: note: {note}"), file=sys.stderr)


def say_skipped(skipped: Sequence[tuple[str, str]], of: str = "") -> None:
    """What could not be read, where there is any: how many, and the first few with the reasons."""
    if skipped:
        named = "; ".join(f"{what}: {why}" for what, why in skipped[:NAMED])
        say_note(f"{len(skipped)}{of} can't be read and are left out ({named})")


def say_notes(made: Sequence[Any]) -> None:
    """The notes of what was made, each once."""
    for note in dict.fromkeys(note for one in made for note in one.info.get("notes", ())):
        say_note(note)
