"""The files below a folder, links followed, without those that a system made for itself.

Links are the user's own arrangement, so one to a folder elsewhere is as good as a folder. But no folder is read twice:
a link to one that is read under its own name, to one of its own parents (a loop), or to one that another link led to
before is left out and named.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from cymatic.files import reason

# What systems leave in folders beside people's own files, which no command speaks of.
_SYSTEM_FILES = {".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}
_SYSTEM_FOLDERS = {
    *("__macosx", ".appledouble", ".spotlight-v100", ".trashes", ".fseventsd", ".temporaryitems"),
    *("@eadir", "$recycle.bin", "system volume information", "lost+found"),
}


def is_systems(name: str) -> bool:
    """Whether a name is that of a file or folder which a system made for itself: `.DS_Store`, `Thumbs.db`, and what
    macOS puts beside `x.wav` on other file systems, `._x.wav`; or which a writer here left when it was killed."""
    name = name.lower()
    return name.startswith(("._", ".cymatic-")) or name in _SYSTEM_FILES or name in _SYSTEM_FOLDERS


@dataclass
class Walk:
    """Sorted files, and what was left out: links to folders that are read anyway, folders of what was made, and what
    can't be read and why."""

    files: list[Path] = field(default_factory=list)
    doubled: list[Path] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)
    broken: list[tuple[Path, str]] = field(default_factory=list)


def walk(root: Path, *, hidden: bool = False, made: Collection[str] = ()) -> Walk:
    """All files below `root` but pipes and devices; `hidden`: those, too, whose names or folders' begin with a dot.
    made: a folder below `root` with a file of one of these names is left out."""
    found = Walk()
    first = os.path.realpath(root)
    read: set[str] = set()  # real paths of folders
    links = _folder(root, first, found, read, hidden, made, first)
    while links:  # after the folders' own names, those that links give them
        later: list[tuple[Path, str]] = []
        for link, place in sorted(links):
            real = os.path.realpath(link)
            if real in read or _holds(real, first) or _holds(real, place):
                found.doubled.append(link)
            else:
                later += _folder(link, real, found, read, hidden, made, first)
        links = later
    found.files.sort()
    found.doubled.sort()
    found.made.sort()
    found.broken.sort()
    return found


def _folder(
    top: Path, real: str, found: Walk, read: set[str], hidden: bool, made: Collection[str], first: str
) -> list[tuple[Path, str]]:
    """Adds the files below `top`; gives its links to folders, each with the real path of the folder that it lies in."""
    links = []
    waiting = [(top, real)]
    while waiting:
        folder, place = waiting.pop()
        if place in read:
            continue
        read.add(place)
        try:
            with os.scandir(folder) as entries:
                inside = [
                    entry
                    for entry in entries
                    if (hidden or not entry.name.startswith(".")) and not is_systems(entry.name)
                ]
        except OSError as error:
            found.broken.append((folder, f"can't be read: {reason(error)}"))
            continue
        if place != first and any(entry.name in made for entry in inside):
            found.made.append(folder)
            continue
        for entry in inside:
            path = folder / entry.name
            if entry.is_dir(follow_symlinks=False):
                waiting.append((path, os.path.join(place, entry.name)))
            elif entry.is_symlink() and os.path.isdir(path):
                links.append((path, place))
            elif os.path.isfile(path):
                found.files.append(path)
            elif entry.is_symlink() and _dangles(path):
                found.broken.append((path, "is a link to nothing"))
    return links


def _dangles(link: Path) -> bool:
    """Whether it leads to nothing; one that leads to itself was never anything, like a pipe."""
    try:
        os.stat(link)
    except OSError as error:
        return error.errno != errno.ELOOP
    return False


def _holds(folder: str, place: str) -> bool:
    return place == folder or place.startswith(os.path.join(folder, ""))
