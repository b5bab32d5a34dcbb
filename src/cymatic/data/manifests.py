"""Manifests: `manifest.jsonl`, `metadata.jsonl`, `metadata.csv` (Hugging Face's folders), `captions.csv`.

One in the folder itself says all. Where there is none, those further below do, each of the files at or below its own
place, as Hugging Face's folder builders have a table in each split. Folders named as splits are splits where the lines
say none.

A line names its files, each under a key that is its role: `{"picture": "house.png", "voice": "house.opus", "caption":
"a house"}`. `audio`, `file_name` and `file` name the one file of a line that has one; its role is then its medium's
name, as it is of Hugging Face's `audio_file_name` and `image_file_name`. Any other key is a role where it names a file
of a known medium inside the folder, and else a field.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cymatic.data.caption_fields import check_fields, fields_with_texts, groups_of
from cymatic.data.rows import Layout, Row, Skipped, split_folders, split_named
from cymatic.data.spelling import Spelling, on_windows_disk
from cymatic.data.table_lines import CAPTION_FIELDS, FILE_ENDING, FILE_FIELDS, MANIFESTS, read_lines
from cymatic.media import MEDIA, medium_of
from cymatic.media.audio import AUDIO


def manifests_among(files: Iterable[Path]) -> list[Path]:
    """The manifests among `files`, of each folder the first in their order."""
    order = list(MANIFESTS)
    first: dict[Path, Path] = {}
    for path in sorted((path for path in files if path.name in MANIFESTS), key=lambda path: order.index(path.name)):
        first.setdefault(path.parent, path)
    return sorted(first.values())


def read_manifests(
    root: Path,
    manifests: Sequence[Path],
    role: str | None,
    given: Collection[str],
    captions: bool,
    fields: Sequence[str] = (),
) -> Layout:
    """The rows of `manifests`, which lie in `root` or below, that have a file of `role`: None: of the role that most
    have.

    given: further roles that are asked for, so that their keys name files even where those are missing. fields: those
    that captions are made of, where it is not the usual ones. Raises Error for a manifest that can't be read, and for a
    field without any text.
    """
    lines = [
        (f"{path.relative_to(root).as_posix()} line {number}", path.parent, line)
        for path in manifests
        for number, line in read_lines(path, captions)
    ]
    return rows_of_lines(
        _listed([path.relative_to(root) for path in manifests]), root, lines, role, given, captions, fields
    )


def rows_of_lines(
    named: str,
    root: Path,
    lines: Iterable[tuple[str, Path, Mapping[str, Any] | str | None]],
    role: str | None,
    given: Collection[str],
    captions: bool,
    fields: Sequence[str] = (),
) -> Layout:
    """The rows of lines as manifests have them, in a layout of that name; the other settings as in `read_manifests`.

    lines: what each is called, the folder from which its files are named, and what it says, or what is wrong with it.
    """
    asked = {*given} if role is None else {role, *given}
    places: dict[Path, _Inside] = {}
    read = []
    for name, place, line in lines:
        if place not in places:
            places[place] = _Inside(root, place)
        inside = places[place]
        read.append((name, inside, line, _named(inside, line, asked) if isinstance(line, Mapping) else {}))
    if role is None:
        role = next(iter(_counted(files for *_, files in read)), AUDIO.name)
    check_fields([line for *_, line, _ in read if isinstance(line, Mapping)], fields, named)
    layout = Layout(named, role)
    for name, inside, line, files in read:
        row = _row(inside, line, files, role, captions, fields)
        if isinstance(row, Row):
            layout.rows.append(row)
        else:
            layout.skipped.append(Skipped(name, row))
    if captions and not fields and not layout.rows:
        layout.why = _field_hint(line for *_, line, files in read if role in files)
    undecided = [row.files[role] for row in layout.rows if row.split is None]
    splits, _ = split_folders(root, undecided)
    layout.rows = [row.of_split(splits.get(row.files[role])) for row in layout.rows]
    return layout


def _field_hint(lines: Iterable[Mapping[str, Any] | str | None]) -> str:
    """How to say which fields are captions, where the lines have texts that could be."""
    first = next((line for line in lines if isinstance(line, Mapping)), {})
    fields = [name for name in fields_with_texts(first) if medium_of(str(first[name])) is None]
    return f"--captions names the fields that are captions, of {', '.join(fields)}" if fields else ""


def _listed(manifests: Sequence[Path]) -> str:
    """`metadata.csv`, or `metadata.csv in test, train`."""
    if len(manifests) == 1:
        return manifests[0].as_posix()
    names = Counter(path.name for path in manifests)
    folders = [path.parent.as_posix() for path in manifests]
    more = f" and {len(folders) - 4} more" if len(folders) > 5 else ""
    return f"{' and '.join(names)} in {', '.join(folders[: 4 if more else 5])}{more}"


def _counted(rows: Iterable[Mapping[str, str]]) -> list[str]:
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
        if name.endswith(FILE_ENDING) and medium is not None:
            found.setdefault(medium.name, text)
            continue
        known = medium is not None and (name == medium.name if name in MEDIA else True)
        if (name in asked and (known or name not in MEDIA)) or (known and inside.holds_file(text)):
            found[name] = text
    return found


def _row(
    inside: _Inside,
    line: Mapping[str, Any] | str | None,
    files: Mapping[str, str],
    role: str,
    captions: bool,
    fields: Sequence[str],
) -> Row | str:
    """One row of a manifest, or what is wrong with it."""
    needed = f'needs the texts "{role}" and "caption"' if captions else f'needs the text "{role}"'
    if isinstance(line, str):
        return line
    if line is None or role not in files:
        return needed
    texts = groups_of(line, fields)
    if fields:
        caption = texts[0][0] if texts else None
        needed = f"has no text in {', '.join(fields)}"
    else:
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
        if on_windows_disk(text) and (path is None or not path.exists()):
            return f"names a place on a Windows disk ({text:.200}); name files from the folder on, as takes/001.wav"
        if path is None:
            return f"{text} lies outside the folder"
        paths[name] = path
    said = line.get("split")
    split = split_named(str(said)) if said not in (None, "") else None
    if said not in (None, "") and split is None:
        return f'split "{said}" is none of train, valid, test'
    group = line.get("group")
    return Row(paths, caption, split, None if group in (None, "") else str(group), line, texts)


class _Inside:
    """Finds the files that a manifest in `place` names, which must lie inside `root` or `place`, links followed.

    These differ where a link led to the manifest's folder.
    """

    def __init__(self, root: Path, place: Path) -> None:
        self.place = place
        self.real = [os.path.realpath(root), os.path.realpath(place)]
        self.folders: dict[str, bool] = {}  # thousands of files lie in few folders
        self.spelling = Spelling()

    def path(self, name: str) -> Path | None:
        """The file as the disk spells it; None where it lies outside. Raises OSError or ValueError for no name."""
        if "\0" in name:
            raise ValueError("a NUL in a name")
        path = self.spelling.of(self.place, name)
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

    def _holds(self, path: str) -> bool:
        return any(path == real or path.startswith(os.path.join(real, "")) for real in self.real)
