"""Manifests: `manifest.jsonl`, `metadata.jsonl`, `metadata.csv` (Hugging Face's folders), `captions.csv`.

A line names its files, each under a key that is its role: `{"picture": "house.png", "voice": "house.opus", "caption":
"a house"}`. `audio`, `file_name` and `file` name the one file of a line that has one; its role is then its medium's
name. Any other key is a role where it names a file of a known medium inside the folder, and else a field.
"""

from __future__ import annotations

import csv
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from cymatic.data.rows import SPLITS, Layout, Row, Skipped
from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer
from cymatic.media import MEDIA, medium_of
from cymatic.media.audio import AUDIO

FILE_FIELDS = ("audio", "file_name", "file")
CAPTION_FIELDS = ("caption", "text", "transcription")

Line = tuple[int, Mapping[str, Any] | None]  # its number and what it says; None where it can't be read


def _json_lines(path: Path) -> Iterator[Line]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield number, row if isinstance(row, dict) else None


def _csv_lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max(",;\t", key=first.count)
        rows = csv.reader(file, delimiter=delimiter)
        header: list[str] = []
        while True:
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error:  # such as a cell longer than any caption
                yield rows.line_num, None
                continue
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                if not (set(header) & set(FILE_FIELDS) and set(header) & set(CAPTION_FIELDS)):
                    raise Error(
                        f'{path} begins with "{" ".join(first.split()):.80}"; give it a header line such as '
                        "audio,caption (and split, group, or what else there is to say)"
                    )
            elif len(cells) > len(header):  # as where a caption with a comma lacks its quotes
                yield rows.line_num, None
            else:
                yield rows.line_num, {name: cell for name, cell in zip(header, cells, strict=False) if cell}


MANIFESTS: dict[str, Callable[[Path], Iterator[Line]]] = {
    "manifest.jsonl": _json_lines,
    "metadata.jsonl": _json_lines,
    "metadata.csv": _csv_lines,
    "captions.csv": _csv_lines,
}


def read_manifest(root: Path, name: str, role: str | None, given: Collection[str], captions: bool) -> Layout:
    """The rows of the manifest `name` in `root` that have a file of `role`: None: of the role that most have.

    given: further roles that are asked for, so that their keys name files even where those are missing. Raises Error
    for a manifest that can't be read.
    """
    inside = _Inside(root)
    asked = {*given} if role is None else {role, *given}
    if is_lfs_pointer(root / name):
        raise Error(f"{root / name} {IS_LFS_POINTER}")
    try:
        read = [(number, line, _named(inside, line or {}, asked)) for number, line in MANIFESTS[name](root / name)]
    except (OSError, UnicodeDecodeError) as error:
        kind = "one JSON object a line" if name.endswith(".jsonl") else "a header line and one row a line"
        raise Error(f"{root / name} can't be read ({error}); it should be UTF-8 with {kind}") from None
    if role is None:
        role = next(iter(_counted(files for *_, files in read)), AUDIO.name)
    layout = Layout(name, role)
    for number, line, files in read:
        row = _row(inside, line, files, role, captions)
        if isinstance(row, Row):
            layout.rows.append(row)
        else:
            layout.skipped.append(Skipped(f"{name} line {number}", row))
    return layout


def _counted(rows: Iterator[Mapping[str, str]]) -> list[str]:
    """The roles, those that most rows have first; of equally frequent ones that which came first."""
    return [role for role, _ in Counter(role for files in rows for role in files).most_common()]


def _named(inside: _Inside, line: Mapping[str, Any], asked: Collection[str]) -> dict[str, str]:
    """What a line names as its files, by role."""
    found: dict[str, str] = {}
    one = next((name for name in FILE_FIELDS if name in line), None)
    if one is not None and isinstance(text := line[one], str) and text.strip():
        found[AUDIO.name if one == AUDIO.name else (medium_of(text) or AUDIO).name] = text
    for name, text in line.items():
        if name in FILE_FIELDS or not (isinstance(text, str) and text.strip()):
            continue
        medium = medium_of(text)
        known = medium is not None and (name == medium.name if name in MEDIA else True)
        if (name in asked and (known or name not in MEDIA)) or (known and inside.holds_file(text)):
            found[name] = text
    return found


def _row(
    inside: _Inside, line: Mapping[str, Any] | None, files: Mapping[str, str], role: str, captions: bool
) -> Row | str:
    """One row of a manifest, or what is wrong with it."""
    needed = f'needs the texts "{role}" and "caption"' if captions else f'needs the text "{role}"'
    if line is None or role not in files:
        return needed
    caption = next((line[name] for name in CAPTION_FIELDS if name in line), None)
    if not (isinstance(caption, str) and caption.strip()):
        caption = None if captions else ""
    if caption is None:
        return needed
    paths: dict[str, Path] = {}
    for name, text in sorted(files.items(), key=lambda pair: pair[0] != role):
        try:
            path = inside.path(text)
        except (OSError, ValueError):
            return f"names a file that can't be: {text!r:.80}"
        if path is None:
            return f"{text} lies outside the folder"
        paths[name] = path
    said = line.get("split")
    split = SPLITS.get(str(said).strip().lower()) if said not in (None, "") else None
    if said not in (None, "") and split is None:
        return f'split "{said}" is none of train, valid, test'
    group = line.get("group")
    return Row(paths, caption, split, None if group in (None, "") else str(group), line)


class _Inside:
    """Finds the files that a manifest names, which must lie inside its folder, links followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.real = os.path.realpath(root)
        self.folders: dict[str, bool] = {}  # thousands of files lie in few folders

    def path(self, name: str) -> Path | None:
        """The file as the disk spells it; None where it lies outside. Raises OSError or ValueError for no name."""
        if "\0" in name:
            raise ValueError("a NUL in a name")
        path = _as_spelled(os.path.join(self.root, name))
        if os.path.islink(path):
            return Path(path) if self._holds(os.path.realpath(path)) else None
        folder, file = os.path.split(path)
        if file == "..":
            return None
        if folder not in self.folders:
            self.folders[folder] = self._holds(os.path.realpath(folder))
        return Path(path) if self.folders[folder] else None

    def holds_file(self, name: str) -> bool:
        """Whether there is such a file inside."""
        try:
            path = self.path(name)
        except (OSError, ValueError):
            return False
        return path is not None and path.is_file()

    def _holds(self, real: str) -> bool:
        return real == self.real or real.startswith(os.path.join(self.real, ""))


def _as_spelled(path: str) -> str:
    """`path` as the disk spells it: a Mac writes é as e and an accent, which is another name elsewhere."""
    if not path.isascii() and not os.path.exists(path):
        folder, name = os.path.split(path)
        for form in ("NFC", "NFD"):
            other = os.path.join(folder, unicodedata.normalize(form, name))
            if os.path.exists(other):
                return other
    return path
