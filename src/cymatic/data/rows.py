"""What a folder says about its files, row by row, and what was left out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cymatic.errors import Error

SPLITS = {
    **{name: "train" for name in ("train", "training")},
    **{name: "valid" for name in ("valid", "validation", "val", "dev")},
    **{name: "test" for name in ("test", "testing", "eval", "evaluation")},
}


def split_named(name: str) -> str | None:
    """The split that goes by a name; None for another name."""
    return SPLITS.get(name.strip().lower())


def split_folders(root: Path, paths: Sequence[Path]) -> tuple[dict[Path, str], int]:
    """The split of each file where all lie in folders named as splits (`train/dog/1.wav`, `data/train/dog/1.wav`), at
    one depth and one of them `train`; and how many folders from `root` on that takes. Else nothing, and 0."""
    parts = [Path(os.path.relpath(path, root)).parts[:-1] for path in paths]
    if not all(parts) or not parts:
        return {}, 0
    depth = 0
    while split_named(parts[0][depth]) is None and all(
        len(some) > depth + 1 and some[depth] == parts[0][depth] for some in parts
    ):
        depth += 1
    found = [split_named(some[depth]) for some in parts]
    splits = {path: split for path, split in zip(paths, found, strict=True) if split is not None}
    return (splits, depth + 1) if None not in found and "train" in splits.values() else ({}, 0)


@dataclass(frozen=True)
class Row:
    """What a layout says about one row; `split` and `group` are None where it says nothing.

    files: by role, such as `{"picture": ..., "voice": ...}`. A role is the key of a manifest, or else the name of the
    file's medium. captions: what else it may be called, see `data.caption_fields`.
    """

    files: Mapping[str, Path]
    caption: str
    split: str | None = None
    group: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)
    captions: tuple[tuple[str, ...], ...] = ()

    def of_split(self, split: str | None) -> Row:
        """In that split where it says none itself."""
        return self if self.split is not None or split is None else replace(self, split=split)


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
    """A layout's name, the role that each of its rows has, and what it says.

    captions_by: where captions are made of names, of which (`folder`, `file`, `both`), and why; else empty.
    """

    name: str
    role: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    captions_by: str = ""
    why: str = ""
