"""`KnownLayout`: how the lists of a published data set say which sound, picture and caption belong together.

Such lists become lines as manifests have them, and those become rows by the manifests' own rules: what they name must
lie inside the folder, links followed. A file is found wherever below the folder it lies, since archives of sounds and
of pictures come from different places and are unpacked in different ways.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from cymatic.data.manifests import rows_of_lines
from cymatic.data.rows import Layout, Skipped
from cymatic.data.spelling import nfc
from cymatic.data.table_lines import text_of
from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer, reason
from cymatic.media import MEDIA, medium_of
from cymatic.media.audio import AUDIO
from cymatic.media.picture import PICTURE

# What a line of a list is called, and what it says: files by the name of their medium, a caption, fields; what is wrong
# with it; or, as Skipped, why a rule leaves it out.
ListLine = tuple[str, Mapping[str, Any] | str | Skipped]


class FileIndex:
    """The files below a folder by their names."""

    def __init__(self, root: Path, files: Iterable[Path]) -> None:
        self.root = root
        self.paths = [path.relative_to(root).as_posix() for path in files]
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in self.paths:
            self._by_name[nfc(path.rpartition("/")[2])].append(path)

    def find(self, name: str, place: str = "", *, unique: bool = True) -> str | None:
        """The path from the root of what a list in the folder `place` names; None where nothing, or nothing certain, is
        meant.

        First what lies there exactly; then the one file whose path ends in `name`, of another machine's path (from / or
        a drive on) in as much of it as possible; then, where no two files have one name (`unique`), what is called so.
        """
        name = nfc(name.strip().replace("\\", "/"))
        elsewhere = name.startswith("/") or name[1:2] == ":"
        parts = [part for part in PurePosixPath(name).parts if part != "/"]
        if not parts:
            return None
        there = self._by_name.get(parts[-1], [])
        exact = nfc(PurePosixPath(place, *parts).as_posix())
        if found := next((path for path in there if nfc(path) == exact), None):
            return found
        alike: list[str] = []
        while parts and not alike:
            alike = [path for path in there if nfc(f"/{path}").endswith(f"/{'/'.join(parts)}")]
            parts = parts[1:] if elsewhere else []
        if unique and not alike:
            alike = there
        return alike[0] if len(alike) == 1 else None


@dataclass(frozen=True)
class KnownLayout:
    """One published layout.

    lists: which of a folder's files say what it holds; none where it is laid out otherwise. lines: what those say.
    lacks: by role, what is said of a line that names no file of it. unique: whether no two of its files have one name,
    so that each is found in whatever folder it lies.
    """

    name: str
    lists: Callable[[Path, Sequence[Path]], list[Path]]
    lines: Callable[[Sequence[Path], FileIndex], Iterable[ListLine]]
    lacks: Mapping[str, str] = field(default_factory=dict)
    unique: bool = True


def read_known(
    layout: KnownLayout,
    root: Path,
    lists: Sequence[Path],
    files: Sequence[Path],
    role: str | None,
    given: Collection[str],
    captions: bool,
    fields: Sequence[str] = (),
) -> Layout:
    """The rows of a folder in that layout; the settings as in `read_manifests`.

    A line that names a file of an asked role which is not here is skipped. Where a file of another role is not here,
    the line's row is without it, and such are counted. Raises Error for a list that can't be read, and for a role that
    none of its lines has.
    """
    index = FileIndex(root, files)
    read = [(where, *_located(line, index, layout)) for where, line in layout.lines(lists, index)]
    asked = set(given)
    role = _main_role(read) if role is None else role
    asked.add(role)
    known = {AUDIO.name, PICTURE.name}.union(*(line for _, line, _ in read if isinstance(line, Mapping)))
    if strangers := sorted(asked - known):
        raise Error(
            f'{root} is laid out as {layout.name}, with the roles audio and picture; "{strangers[0]}" is neither; use '
            "these two in the recipe"
        )
    lines: list[tuple[str, Path, Mapping[str, Any] | str | None]] = []
    left: list[Skipped] = []
    absent: dict[str, list[str]] = defaultdict(list)
    for where, line, missing in read:
        if isinstance(line, Skipped):
            left.append(line)
        elif isinstance(line, str):
            lines.append((where, root, line))
        else:
            lines.append((where, root, _why_not(line, missing, asked, layout) or line))
            for name in missing.keys() - asked:
                absent[name].append(missing[name])
    names = [_from(root, path) for path in lists]
    named = ", ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more lists"
    made = rows_of_lines(f"{layout.name} ({named})", root, lines, role, given, captions, fields)
    made.skipped += left
    for name, gone in absent.items():
        nouns = MEDIA[name].nouns
        why = f"names {len(gone)} {nouns} that are not here, such as {gone[0]}; their rows are used without"
        made.skipped.append(Skipped(names[0], why, broken=False))
    made.skipped += _unused(made, index, layout)
    return made


def _main_role(read: Iterable[tuple[str, Mapping[str, Any] | str | Skipped, Mapping[str, str]]]) -> str:
    """The role that most lines name, of those of whose files half or more are here."""
    here, gone = Counter[str](), Counter[str]()
    for _, line, missing in read:
        here.update(name for name in MEDIA if isinstance(line, Mapping) and name in line)
        gone.update(list(missing))
    return max(MEDIA, key=lambda name: (here[name] >= gone[name], here[name] + gone[name]))


def _located(
    line: Mapping[str, Any] | str | Skipped, index: FileIndex, layout: KnownLayout
) -> tuple[Mapping[str, Any] | str | Skipped, dict[str, str]]:
    """A line with its files as the disk has them, and by role those that are not here."""
    if not isinstance(line, Mapping):
        return line, {}
    made, missing = dict(line), {}
    for role in MEDIA:
        if role not in line:
            continue
        found = index.find(line[role], unique=layout.unique)
        if found is None:
            missing[role] = made.pop(role)
        else:
            made[role] = found
    return made, missing


def _why_not(
    line: Mapping[str, Any], missing: Mapping[str, str], asked: Collection[str], layout: KnownLayout
) -> str | None:
    """What keeps a line from being a row with all roles that are asked for."""
    for role in asked:
        if role in missing:
            noun = MEDIA[role].noun
            return f"names the {noun} {missing[role]:.200}, which is not here; unpack it, or leave out the line"
        if role not in line and role in layout.lacks:
            return layout.lacks[role]
    return None


def _unused(made: Layout, index: FileIndex, layout: KnownLayout) -> list[Skipped]:
    """The files of the rows' medium that no row has."""
    media = {medium.name for row in made.rows if (medium := medium_of(row.files[made.role])) is not None}
    used = {path.relative_to(index.root).as_posix() for row in made.rows for path in row.files.values()}
    stems = {PurePosixPath(path).stem for path in used}
    return [
        Skipped(path, f"is in no row of {layout.name}", broken=False)
        for path in index.paths
        if (medium := medium_of(path)) is not None
        and medium.name in media
        and path not in used
        and PurePosixPath(path).stem not in stems
    ]


def _from(root: Path, path: Path) -> str:
    """A list's path from the folder on; `../vggsound.csv` where it lies one above."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else f"../{path.name}"


def list_text(path: Path) -> str:
    """What is in a list. Raises Error where it can't be read."""
    if is_lfs_pointer(path):
        raise Error(f"{path} {IS_LFS_POINTER}")
    try:
        return text_of(path)
    except UnicodeDecodeError:
        raise Error(f"{path} is not UTF-8; save it as UTF-8, as it was published") from None
    except OSError as error:
        raise Error(f"{path} can't be read: {reason(error)}") from None
