"""Where the results of files go: a name for each, and none over an original."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from cymatic.errors import Error


def places_of(folder: Path, sources: Sequence[Path], output: Path, suffix: str) -> dict[Path, Path]:
    """Where the result of each of `sources` goes below `output`: one name each, as any file system tells names apart.

    Where two differ in their extension only, both keep it (`a.wav.cym`, `a.flac.cym`); where that is not enough, as
    with `a.wav` and `A.wav` where case does not count, the later ones are numbered.
    """
    names = {source: source.relative_to(folder) for source in sources}
    found = {source: name.with_suffix(suffix) for source, name in names.items()}
    while True:
        counts = Counter(map(_key, found.values()))
        whole = {source: Path(f"{names[source]}{suffix}") for source in found if counts[_key(found[source])] > 1}
        if all(found[source] == name for source, name in whole.items()):
            break
        found.update(whole)
    taken = {_key(name) for name in found.values()}
    first: set[str] = set()
    for source, name in found.items():
        if _key(name) in first:
            number = 2
            while _key(numbered := Path(f"{names[source]}-{number}{suffix}")) in taken:
                number += 1
            found[source] = name = numbered
            taken.add(_key(name))
        first.add(_key(name))
    return {source: output / name for source, name in found.items()}


def _key(name: Path) -> str:
    """The same for names that some file system takes for one: case and Unicode form may not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", str(name)).casefold())


def check_originals(places: Mapping[Path, Path], made_here: Callable[[Path], bool]) -> None:
    """Raises Error where results would replace files that are no earlier results.

    places: where the result of each source goes; made_here: whether a file is such a result.
    """
    sources = {_identity(source) for source in places} - {None}
    in_the_way = [
        target
        for target in places.values()
        if os.path.lexists(target) and (_identity(target) in sources or not made_here(target))
    ]
    if in_the_way:
        one, more = in_the_way[0], len(in_the_way) - 1
        others = f" and {more} more are" if more else " is"
        raise Error(f"{one}{others} there already, not made by this command; give another folder, or --overwrite")


def check_not_source(output: Path, *sources: Path, hint: str = "give another name") -> None:
    """Raises Error where `output` is one of the files or folders that are read, under whichever name or link."""
    there = _identity(output)
    for source in sources:
        if there is not None and there == _identity(source):
            same = "" if output == source else f", which is {source} under another name"
            if source.is_dir():
                raise Error(f"{output} is the folder that is read{same}, and would hold more than data then; {hint}")
            raise Error(f"{output} is what is read{same}, and it would be lost; {hint}")


def check_outside(output: Path, folder: Path) -> None:
    """Raises Error where a file would be written among those of a folder that is read, and be read the next time."""
    if output.resolve().is_relative_to((folder if folder.is_dir() else folder.parent).resolve()):
        raise Error(f"{output} lies in the folder that is read, and would be among its files; give a place elsewhere")


def _identity(path: Path) -> tuple[int, int] | None:
    """What links to one file have in common; None where there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
