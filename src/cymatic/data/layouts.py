"""The ways in which a folder says what its files are. Only one is read, the first that is found:

1. a manifest: `manifest.jsonl`, `metadata.jsonl`, `metadata.csv`, `captions.csv` (see `data.manifests`);
2. `clip.txt` beside `clip.wav`;
3. class folders: every file lies in a folder named as its caption, and there are at least two such folders;
4. file names: "dog-bark_03.wav" is "dog bark".

The last three work for the files of any medium. Files of another medium belong to a row where they lie beside its file
under the same name: `house.png` beside `house.wav`.

Links to files and folders are followed, loops excepted (see `walk`), since they are the user's own arrangement. But a
manifest may have come with the data, so what it names must really lie inside the folder, links followed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from cymatic.data.manifests import MANIFESTS, read_manifest
from cymatic.data.rows import SPLITS, Layout, Row, Skipped
from cymatic.data.walk import walk
from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER, LFS_POINTER, reason
from cymatic.media import MEDIA, medium_of
from cymatic.media.audio import AUDIO

NO_TEXT = "has a name that is not UTF-8; rename it"
CAPTION_BYTES = 65_536  # no caption file is larger


def read_layout(root: Path, *, role: str | None = None, given: Collection[str] = (), captions: bool = True) -> Layout:
    """The rows of `root` in the first layout that is found there.

    role: what each row must have a file of; None: the role that most rows have, or the medium that has most files.
    given: further roles that are asked for. captions: whether a row needs one; without, those that have none stay, and
    theirs is empty.

    Raises Error for a manifest that can't be read, and for a role that only a manifest could tell where there is none.
    """
    for name in MANIFESTS:
        if (root / name).is_file():
            return read_manifest(root, name, role, given, captions)
    if unknown := [name for name in (role, *given) if name is not None and name not in MEDIA]:
        raise Error(
            f'{root} has no manifest that says which of its files are "{unknown[0]}"; write a manifest.jsonl, or use '
            f"one of the roles {', '.join(MEDIA)}"
        )
    walked = walk(root)
    by_medium: dict[str, list[Path]] = {name: [] for name in MEDIA}
    others: list[Path] = []
    for path in walked.files:
        medium = medium_of(path)
        (others if medium is None else by_medium[medium.name]).append(path)
    if role is None:
        role = max(MEDIA, key=lambda name: len(by_medium[name])) if any(by_medium.values()) else AUDIO.name
    medium, paths = MEDIA[role], by_medium[role]
    companions = _companions(paths, {name: some for name, some in by_medium.items() if name != role})
    used = {path for files in companions.values() for path in files.values()}
    others = sorted([*others, *(path for some in by_medium.values() for path in some if path not in {*paths, *used})])

    def row(path: Path, caption: str, fields: Mapping[str, str]) -> Row:
        return Row({role: path, **companions.get(path.with_suffix(""), {})}, caption, splits.get(path), fields=fields)

    splits = _split_folders(root, paths)
    texts = {path.with_suffix(""): path for path in others if path.suffix.lower() == ".txt"}
    beside = {path: texts[stem] for path in paths if (stem := path.with_suffix("")) in texts}
    if beside:
        layout = Layout(f"a .txt beside each {medium.noun}", role)
        for path in paths:
            caption, why = _caption_in(beside.get(path))
            if caption or not captions:
                layout.rows.append(row(path, caption, {}))
            else:
                layout.skipped.append(Skipped(str(path.relative_to(root)), why))
        others = sorted(set(others) - set(beside.values()))
    elif _are_classes(root, paths, splits):
        layout = Layout("class folders", role)
        for path in paths:
            label = caption_of(path.parent.name)
            layout.rows.append(row(path, label, {"label": label}))
    else:
        layout = Layout("file names", role, [row(path, caption_of(path.stem), {}) for path in paths])
    if captions:
        _check_names(layout, root)
    layout.skipped += [
        Skipped(str(path.relative_to(root)), f"is not a {medium.noun} by its extension", broken=False)
        for path in others
    ]
    layout.skipped += [
        Skipped(str(path.relative_to(root)), "is a link to a folder that is read under another name", broken=False)
        for path in walked.doubled
    ]
    layout.skipped += [Skipped(str(path.relative_to(root)), why) for path, why in walked.broken]
    return layout


def _check_names(layout: Layout, root: Path) -> None:
    """Leaves out what takes its caption from a name that is no text."""
    rows = layout.rows
    layout.rows = [row for row in rows if is_text(row.caption)]
    layout.skipped += [
        Skipped(str(row.files[layout.role].relative_to(root)), NO_TEXT) for row in rows if not is_text(row.caption)
    ]


def is_text(name: str) -> bool:
    """Whether the bytes of a name are UTF-8."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _companions(paths: Sequence[Path], others: Mapping[str, Sequence[Path]]) -> dict[Path, dict[str, Path]]:
    """By name without suffix, the files of other media that lie beside one of `paths` under its name."""
    stems = {path.with_suffix("") for path in paths}
    found: dict[Path, dict[str, Path]] = {}
    for name, some in others.items():
        for path in some:
            if (stem := path.with_suffix("")) in stems:
                found.setdefault(stem, {}).setdefault(name, path)
    return found


def caption_of(name: str) -> str:
    """A file's name as a caption: separators become spaces, a take number goes ("dog-bark_03" is "dog bark")."""
    words = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFC", name)).strip()
    without_take = re.sub(r"(\s+\(?\d+\)?)+$", "", words).strip()
    return without_take or words


def _split_folders(root: Path, paths: list[Path]) -> dict[Path, str]:
    """The split of each file where all lie in folders named as splits (`train/dog/1.wav`), else nothing."""
    tops = {path: path.relative_to(root).parts[0].lower() for path in paths if path.parent != root}
    splits = {path: SPLITS[top] for path, top in tops.items() if top in SPLITS}
    return splits if len(splits) == len(paths) and "train" in splits.values() else {}


def _are_classes(root: Path, paths: list[Path], splits: dict[Path, str]) -> bool:
    """Whether every file lies in a folder (below those of the splits), and these have at least two names."""
    outermost = len(root.parts) + (1 if splits else 0)
    names = {caption_of(path.parent.name) for path in paths if len(path.parent.parts) > outermost}
    return len(names) > 1 and all(len(path.parent.parts) > outermost for path in paths)


def _caption_in(text: Path | None) -> tuple[str, str]:
    """The caption in a text file, or an empty one and what is wrong."""
    if text is None:
        return "", "has no .txt with its caption beside it"
    try:
        with text.open("rb") as file:
            held = file.read(CAPTION_BYTES)
        if held.startswith(LFS_POINTER):
            return "", f"has a caption that {IS_LFS_POINTER} ({text.name})"
        caption = " ".join(held.decode("utf-8-sig").split())
    except OSError as error:
        return "", f"has a caption that can't be read ({text.name}: {reason(error)})"
    except UnicodeDecodeError:
        return "", f"has a caption that is not UTF-8 ({text.name})"
    return caption, f"has an empty caption ({text.name})"
