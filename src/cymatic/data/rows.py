"""What a folder says about its files, row by row, and what was left out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cymatic.errors import Error

SPLITS = {
    **{name: "train" for name in ("train", "training")},
    **{name: "valid" for name in ("valid", "validation", "val", "dev")},
    **{name: "test" for name in ("test", "testing")},
}


@dataclass(frozen=True)
class Row:
    """What a layout says about one row; `split` and `group` are None where it says nothing.

    files: by role, such as `{"picture": ..., "voice": ...}`. A role is the key of a manifest, or else the name of the
    file's medium.
    """

    files: Mapping[str, Path]
    caption: str
    split: str | None = None
    group: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Skipped:
    """What was left out and why; `broken` where a file or a line is at fault, not a setting or a rule."""

    name: str
    why: str
    broken: bool = True


def check_strictly(skipped: list[Skipped]) -> None:
    """Raises Error for the first file or line that is broken, with the count of all."""
    broken = [one for one in skipped if one.broken]
    if broken:
        more = f" ({len(broken)} in all are broken)" if len(broken) > 1 else ""
        raise Error(f"{broken[0].name}: {broken[0].why}{more}; mend or remove it, or leave out --strict")


@dataclass
class Layout:
    """A layout's name, the role that each of its rows has, and what it says."""

    name: str
    role: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
