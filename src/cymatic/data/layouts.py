"""The ways in which a folder says what its sounds are. Only one is read, the first that is found:

1. a manifest: `manifest.jsonl`, `metadata.jsonl` or `metadata.csv` (Hugging Face's audiofolder), `captions.csv`;
2. `clip.txt` beside `clip.wav`;
3. class folders: every sound lies in a folder named as its caption, and there are at least two such folders;
4. file names: "dog-bark_03.wav" is "dog bark".

Links to files and folders are followed, loops excepted (see `walk`), since they are the user's own arrangement. But a
manifest may have come with the data, so what it names must really lie inside the folder, links followed.
"""

from __future__ import annotations

import csv
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cymatic.data.walk import walk
from cymatic.errors import Error
from cymatic.files import reason

AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "snd", "caf", "w64", "rf64"),
        *("m4a", "aac", "wma", "mp4", "webm", "amr"),  # through ffmpeg, where there is one
    )
)
FILE_FIELDS = ("audio", "file_name", "file")
CAPTION_FIELDS = ("caption", "text", "transcription")
SPLITS = {
    **{name: "train" for name in ("train", "training")},
    **{name: "valid" for name in ("valid", "validation", "val", "dev")},
    **{name: "test" for name in ("test", "testing")},
}
CAPTION_BYTES = 65_536  # no caption file is larger


@dataclass(frozen=True)
class Row:
    """What a layout says about one sound; `split` and `group` are None where it says nothing."""

    audio: Path
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
    """A layout's name and what it says."""

    name: str
    rows: list[Row] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


def read_layout(root: Path, *, captions: bool = True) -> Layout:
    """The rows of `root` in the first layout that is found there. Raises Error for a manifest that can't be read.

    captions: whether a sound needs one; without, those that have none stay, and theirs is empty.
    """
    for name, lines in MANIFESTS.items():
        if (root / name).is_file():
            return _read_manifest(root, name, lines, captions)
    sounds: list[Path] = []
    others: list[Path] = []
    walked = walk(root)
    for path in walked.files:
        (sounds if path.suffix.lower() in AUDIO_SUFFIXES else others).append(path)
    splits = _split_folders(root, sounds)
    texts = {path.with_suffix(""): path for path in others if path.suffix.lower() == ".txt"}
    beside = {path: texts[stem] for path in sounds if (stem := path.with_suffix("")) in texts}
    if beside:
        layout = Layout("a .txt beside each sound")
        for path in sounds:
            caption, why = _caption_in(beside.get(path))
            if caption or not captions:
                layout.rows.append(Row(path, caption, splits.get(path)))
            else:
                layout.skipped.append(Skipped(str(path.relative_to(root)), why))
        others = sorted(set(others) - set(beside.values()))
    elif _are_classes(root, sounds, splits):
        layout = Layout("class folders")
        for path in sounds:
            label = caption_of(path.parent.name)
            layout.rows.append(Row(path, label, splits.get(path), fields={"label": label}))
    else:
        layout = Layout("file names", [Row(path, caption_of(path.stem), splits.get(path)) for path in sounds])
    layout.skipped += [
        Skipped(str(path.relative_to(root)), "is not a sound by its extension", broken=False) for path in others
    ]
    layout.skipped += [
        Skipped(str(path.relative_to(root)), "is a link to a folder that is read under another name", broken=False)
        for path in walked.doubled
    ]
    layout.skipped += [Skipped(str(path.relative_to(root)), why) for path, why in walked.broken]
    return layout


def caption_of(name: str) -> str:
    """A file's name as a caption: separators become spaces, a take number goes ("dog-bark_03" is "dog bark")."""
    words = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFC", name)).strip()
    without_take = re.sub(r"(\s+\(?\d+\)?)+$", "", words).strip()
    return without_take or words


def _split_folders(root: Path, sounds: list[Path]) -> dict[Path, str]:
    """The split of each sound where all lie in folders named as splits (`train/dog/1.wav`), else nothing."""
    tops = {path: path.relative_to(root).parts[0].lower() for path in sounds if path.parent != root}
    splits = {path: SPLITS[top] for path, top in tops.items() if top in SPLITS}
    return splits if len(splits) == len(sounds) and "train" in splits.values() else {}


def _are_classes(root: Path, sounds: list[Path], splits: dict[Path, str]) -> bool:
    """Whether every sound lies in a folder (below those of the splits), and these have at least two names."""
    outermost = len(root.parts) + (1 if splits else 0)
    names = {caption_of(path.parent.name) for path in sounds if len(path.parent.parts) > outermost}
    return len(names) > 1 and all(len(path.parent.parts) > outermost for path in sounds)


def _caption_in(text: Path | None) -> tuple[str, str]:
    """The caption in a text file, or an empty one and what is wrong."""
    if text is None:
        return "", "has no .txt with its caption beside it"
    try:
        with text.open("rb") as file:
            caption = " ".join(file.read(CAPTION_BYTES).decode("utf-8-sig").split())
    except OSError as error:
        return "", f"has a caption that can't be read ({text.name}: {reason(error)})"
    except UnicodeDecodeError:
        return "", f"has a caption that is not UTF-8 ({text.name})"
    return caption, f"has an empty caption ({text.name})"


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


def _read_manifest(root: Path, name: str, lines: Callable[[Path], Iterator[Line]], captions: bool) -> Layout:
    layout = Layout(name)
    inside = _Inside(root)
    try:
        for number, line in lines(root / name):
            row = _row(inside, line, captions)
            if isinstance(row, Row):
                layout.rows.append(row)
            else:
                layout.skipped.append(Skipped(f"{name} line {number}", row))
    except (OSError, UnicodeDecodeError) as error:
        kind = "one JSON object a line" if name.endswith(".jsonl") else "a header line and one row a line"
        raise Error(f"{root / name} can't be read ({error}); it should be UTF-8 with {kind}") from None
    return layout


def _row(inside: _Inside, line: Mapping[str, Any] | None, captions: bool) -> Row | str:
    """One row of a manifest, or what is wrong with it."""
    needed = 'needs the texts "audio" and "caption"' if captions else 'needs the text "audio"'
    if line is None:
        return needed
    audio = next((line[name] for name in FILE_FIELDS if name in line), None)
    caption = next((line[name] for name in CAPTION_FIELDS if name in line), None)
    if not (isinstance(caption, str) and caption.strip()):
        caption = None if captions else ""
    if not (isinstance(audio, str) and audio.strip()) or caption is None:
        return needed
    try:
        path = inside.path(audio)
    except (OSError, ValueError):
        return f"names a file that can't be: {audio!r:.80}"
    if path is None:
        return f"{audio} lies outside the folder"
    said = line.get("split")
    split = SPLITS.get(str(said).strip().lower()) if said not in (None, "") else None
    if said not in (None, "") and split is None:
        return f'split "{said}" is none of train, valid, test'
    group = line.get("group")
    return Row(path, caption, split, None if group in (None, "") else str(group), line)


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
