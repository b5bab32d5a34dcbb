"""Tables line by line: JSON Lines, and CSV as editors and spreadsheets write it."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer

FILE_FIELDS = ("audio", "file_name", "file")
FILE_ENDING = "_file_name"  # of Hugging Face's columns where a row has files of several kinds
CAPTION_FIELDS = ("caption", "text", "transcription", "transcript", "sentence", "description", "prompt", "label")

NO_JSON = "is no JSON object; write / in paths, or each backslash twice"

# Its number and what it says; or what is wrong with it, None where that it says nothing is all there is to say.
Line = tuple[int, Mapping[str, Any] | str | None]


def text_of(path: Path) -> str:
    """What is in a text file: UTF-8, or the UTF-16 of Windows, which begins with its mark.

    Raises OSError and UnicodeDecodeError.
    """
    data = path.read_bytes()
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if marked else "utf-8-sig")


def _json_lines(path: Path, captions: bool) -> Iterator[Line]:
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                yield number, NO_JSON if "\\" in line else None
            else:
                yield number, row if isinstance(row, dict) else None


def csv_cells(path: Path) -> Iterator[tuple[int, list[str] | None]]:
    """The cells of each line of a table that has some, with the line's number; None for one that can't be split.

    Commas, semicolons or tabs separate, whichever the first line has most of."""
    text = text_of(path)
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().strip('"').lower().startswith("sep="):  # Excel's word to itself
        text, skipped = rest, 1
        first = rest.partition("\n")[0]
    first = first.partition("\r")[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error:  # such as a cell longer than any caption
            yield rows.line_num + skipped, None
            continue
        if any(cell.strip() for cell in cells):
            yield rows.line_num + skipped, cells


def by_column(header: Sequence[str], cells: list[str]) -> dict[str, str] | None:
    """The cells that are not empty, by their column; None where there are too many."""
    cells = list(cells)
    while len(cells) > len(header) and not cells[-1].strip():  # columns that a spreadsheet once used
        cells.pop()
    if len(cells) > len(header):  # as where a caption with a comma lacks its quotes
        return None
    return {name: cell for name, cell in zip(header, cells, strict=False) if cell}


def _csv_lines(path: Path, captions: bool) -> Iterator[Line]:
    header: list[str] = []
    for number, cells in csv_cells(path):
        if cells is None:
            yield number, None
        elif header:
            yield number, by_column(header, cells)
        else:
            header = [cell.strip().lower() for cell in cells]
            files = set(header) & set(FILE_FIELDS) or any(name.endswith(FILE_ENDING) for name in header)
            if not (files and (set(header) & set(CAPTION_FIELDS) or not captions)):
                first = ",".join(cells)
                raise Error(
                    f'{path} begins with "{" ".join(first.split()):.80}"; give it a header line such as '
                    "audio,caption (and split, group, or what else there is to say)"
                )


# By name, those first that are read where there are several. Each takes a path, and whether captions are needed.
MANIFESTS: dict[str, Callable[[Path, bool], Iterator[Line]]] = {
    "manifest.jsonl": _json_lines,
    "metadata.jsonl": _json_lines,
    "metadata.csv": _csv_lines,
    "captions.csv": _csv_lines,
}
# Of another name, that is given itself.
BY_SUFFIX = {".jsonl": _json_lines, ".csv": _csv_lines}
PARQUET = ".parquet"  # Hugging Face's, whose reader is larger than all of this package; told and not read


def is_manifest(path: Path) -> bool:
    """Whether it is a file that can be read as a manifest."""
    return path.suffix in BY_SUFFIX and path.is_file()


def read_lines(path: Path, captions: bool) -> list[Line]:
    """What a manifest says. Raises Error for one that can't be read at all."""
    if is_lfs_pointer(path):
        raise Error(f"{path} {IS_LFS_POINTER}")
    try:
        return list((MANIFESTS.get(path.name) or BY_SUFFIX[path.suffix])(path, captions))
    except (OSError, UnicodeDecodeError) as error:
        kind = "one JSON object a line" if path.suffix == ".jsonl" else "a header line and one row a line"
        raise Error(f"{path} can't be read ({error}); it should be UTF-8 with {kind}") from None
