"""What the commands share when they speak to a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any


def printable(line: str) -> str:
    """`line` without what would move the cursor or colour the screen: a file's name may hold anything."""
    return "".join(c if c.isprintable() else "\ufffd" for c in line)


def print_notes(made: Sequence[Any]) -> None:
    """What is worth knowing beside what was made, each once, on stderr."""
    for note in dict.fromkeys(note for one in made for note in one.info.get("notes", ())):
        print(f"cymatic: note: {printable(note)}", file=sys.stderr)
