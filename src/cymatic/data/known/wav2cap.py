"""Tables of a sound, a picture and a caption a line (`wav2cap.csv` and its like), whatever the columns are called.

    wav,image,caption                                      or wav_path, audio_file, img, text, transcript, ...
    wavs/a_0.wav,Images/a.jpg,A child climbs the stairs

Without a header a line's cells say themselves what they are: a sound's file, a picture's, the longest of the rest.
Files are named from the table's folder on, or by a name alone that only one file has; of paths from / on, as they were
on another machine, as much of the end as fits counts. `split` or `set`, `speaker` and all other columns are kept.
Tables called train.csv, val.csv and test.csv are their splits. Rows of one picture are one group.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath

from cymatic.data.known.known_layout import FileIndex, KnownLayout, ListLine
from cymatic.data.rows import split_named
from cymatic.data.table_lines import CAPTION_FIELDS, FILE_ENDING, FILE_FIELDS, MANIFESTS, by_column, csv_cells
from cymatic.errors import Error
from cymatic.files import reason
from cymatic.media import medium_of
from cymatic.media.audio import AUDIO
from cymatic.media.picture import PICTURE

ENDINGS = re.compile(r"_?(path|file|file_?name|name|url)$")
SOUNDS = {"wav", "wavs", "audio", "speech", "sound", "voice", "utterance", "recording", "flac", "mp3"}
PICTURES = {"image", "images", "img", "picture", "photo", "jpg", "jpeg", "png"}
CAPTIONS = {*CAPTION_FIELDS, "captions", "cap", "raw"}
SPLIT_COLUMNS = {"split", "set", "subset", "partition"}
GUESSED = "column"  # of a table without a header: column 4 and so on


def wav2cap_lists(root: Path, files: Sequence[Path]) -> list[Path]:
    """The tables in the folder itself, or in the one folder that there is in it, that are such."""
    tables = [path for path in files if path.suffix.lower() == ".csv" and path.name not in MANIFESTS]
    depth = min((len(path.relative_to(root).parts) for path in tables), default=9)
    if depth > 2:
        return []
    return [path for path in tables if len(path.relative_to(root).parts) == depth and is_wav2cap(path)]


def is_wav2cap(path: Path) -> bool:
    """Whether a table names sounds, and pictures or captions of them, in its first line or the one after a header."""
    try:
        lines = [cells or [] for _, cells in islice(csv_cells(path), 2)]
    except (OSError, UnicodeDecodeError):
        return False
    if not lines:
        return False
    columns = _columns(lines[0])
    cells = by_column(columns, lines[-1] if _is_header(lines[0]) else lines[0]) or {}
    return medium_of(cells.get(AUDIO.name, "").strip()) is AUDIO and not {PICTURE.name, "caption"}.isdisjoint(cells)


def is_given_wav2cap(path: Path) -> bool:
    """Whether a file that was given itself is such a table, and no manifest by its columns."""
    if path.suffix != ".csv" or path.name in MANIFESTS or not path.is_file() or not is_wav2cap(path):
        return False
    header = [cell.strip().lower() for cell in next(csv_cells(path))[1] or ()]
    return not any(cell in FILE_FIELDS or cell.endswith(FILE_ENDING) for cell in header)


def wav2cap_lines(lists: Sequence[Path], files: FileIndex) -> Iterator[ListLine]:
    """A line for each line of the tables. Raises Error for one that can't be read."""
    for path in lists:
        place = path.parent.relative_to(files.root).as_posix()
        named = split_named(path.stem)
        columns: list[str] = []
        try:
            for number, cells in csv_cells(path):
                where = f"{path.relative_to(files.root).as_posix()} line {number}"
                if not columns:
                    columns = _columns(cells or ())
                    if _is_header(cells or ()):
                        continue
                line = None if cells is None else by_column(columns, cells)
                if line is None:
                    yield where, f"has more cells than the {len(columns)} columns; put captions with commas in quotes"
                    continue
                line |= {} if named is None or "split" in line else {"split": named}
                yield where, _placed(line, place, files)
        except (OSError, UnicodeDecodeError) as error:
            why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise Error(f"{path} can't be read: {why}; save it as UTF-8, a row a line") from None


def _placed(line: dict[str, str], place: str, files: FileIndex) -> dict[str, str]:
    """A line with its files from the root on, where they are here, and the group of its picture."""
    for role in (AUDIO.name, PICTURE.name):
        if role in line:
            line[role] = files.find(line[role], place, unique=False) or line[role]
    if PICTURE.name in line:
        line.setdefault("group", PurePosixPath(line[PICTURE.name]).stem)
    return line


def _is_header(cells: Sequence[str]) -> bool:
    return not any(medium_of(cell.strip()) is not None for cell in cells)


def _columns(cells: Sequence[str]) -> list[str]:
    """What each column holds: a role, a caption, a split, or a field by its own name."""
    if not _is_header(cells):
        return _guessed(cells)
    found: list[str] = []
    for cell in cells:
        name = re.sub(r"[\s\-]+", "_", cell.strip().lower())
        bare = ENDINGS.sub("", name)
        wanted = [AUDIO.name] if bare in SOUNDS else []
        wanted += [PICTURE.name] if bare in PICTURES else []
        wanted += ["caption"] if name in CAPTIONS else []
        wanted += ["split"] if name in SPLIT_COLUMNS else []
        found.append(next((one for one in wanted if one not in found), name or f"{GUESSED} {len(found) + 1}"))
    return found


def _guessed(cells: Sequence[str]) -> list[str]:
    """The columns of a table without a header, by its first line."""
    found = [f"{GUESSED} {place + 1}" for place in range(len(cells))]
    media = [medium_of(cell.strip()) for cell in cells]
    for medium in (AUDIO, PICTURE):
        if medium in media:
            found[media.index(medium)] = medium.name
    rest = [place for place, medium in enumerate(media) if medium is None and cells[place].strip()]
    if rest:
        found[max(rest, key=lambda place: len(cells[place]))] = "caption"
    return found


WAV2CAP = KnownLayout("a table of sounds, pictures and captions", wav2cap_lists, wav2cap_lines, unique=False)
