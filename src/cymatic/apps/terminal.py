"""What the commands share when they speak to a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def printable(line: str) -> str:
    """`line` without what would move the cursor or colour the screen: a file's name may hold anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def say_note(note: object) -> None:
    """Something worth knowing that stops nothing, as one line on stderr."""
    print(printable(f"cymatic: note: {note}"), file=sys.stderr)


def say_notes(made: Sequence[Any]) -> None:
    """The notes of what was made, each once."""
    for note in dict.fromkeys(note for one in made for note in one.info.get("notes", ())):
        say_note(note)
