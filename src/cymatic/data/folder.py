"""A folder as a dataset: which files, what they are called, which are held out, and what was left out.

The layouts are in `data/layouts.py`, the rule of what is held out in `data/splits.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cymatic.data import splits
from cymatic.data.caption_fields import Groups
from cymatic.data.captions import spelt_alike
from cymatic.data.captions_by_name import CAPTIONS_BY, Captions, captions_setting
from cymatic.data.contents import Contents
from cymatic.data.layouts import read_layout
from cymatic.data.rows import Row, Skipped
from cymatic.data.table_lines import is_manifest
from cymatic.errors import Error
from cymatic.media import MEDIA, medium_of
from cymatic.media.audio import AUDIO
from cymatic.media.medium import Medium


@dataclass(frozen=True)
class Item:
    """One row: where its files are, what it is called, and whether it is trained on (`train`) or held out (`valid`).

    role: that of its main file, by which it is split and named; files: all of them, by role. caption: empty where it
    has none and needs none. captions: what else it may be called, in groups of which one is drawn first (see
    `data.caption_fields`). contents: by role the SHA-256 of the file's bytes, unless they couldn't be read or weren't
    asked for. fields: what else its row says, for filters.
    """

    files: Mapping[str, Path]
    role: str
    caption: str
    split: str
    group: str | None = None
    contents: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)
    captions: Groups = ()

    def path(self, role: str | None = None) -> Path:
        """The file of a role; None: its main one. Raises Error where it has none."""
        role = self.role if role is None else role
        if role not in self.files:
            raise Error(f"has no {role}")
        return self.files[role]

    @property
    def content(self) -> str | None:
        """The SHA-256 of its main file."""
        return self.contents.get(self.role)


@dataclass
class Folder:
    """A folder's items, all with a file of `role`, and what was left out with the reason, so that nothing goes missing
    unsaid. Captions that are one (see `data.captions`) are spelt as most of them are.

    captions_by: where captions are made of names, of which (`folder`, `file`, `both`), and why; else empty.
    """

    root: Path
    layout: str
    role: str
    items: list[Item]
    skipped: list[Skipped] = field(default_factory=list)
    captions_by: str = ""
    why: str = ""

    def of(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]

    @property
    def medium(self) -> Medium[Any]:
        """Of the items' main files."""
        return medium_of_role(self.role, self.items)


def medium_of_role(role: str, items: Collection[Item]) -> Medium[Any]:
    """The medium that a role is named after, or else that of its files; sounds where neither says."""
    found = (medium_of(item.files[role]) for item in items if role in item.files)
    return MEDIA.get(role) or next((medium for medium in found if medium is not None), AUDIO)


def read_folder(
    path: str | Path,
    *,
    role: str | None = None,
    given: Collection[str] = (),
    captions: bool = True,
    captions_by: Captions = "auto",
) -> Folder:
    """Reads the layout of `path`, a folder or a manifest in it, and the content of its files, but decodes none yet. The
    settings: see `read_layout`.

    Raises Error where `path` is no folder, holds no file of the role, or has a manifest that can't be read at all, and
    where captions are asked to be made of names and there are others.
    """
    root = Path(path)
    medium = MEDIA.get(role or AUDIO.name)
    nouns = "sounds or pictures" if role is None else "files" if medium is None else medium.nouns
    try:
        if not root.exists():
            raise Error(f"{path} does not exist; give a folder of {nouns}")
        if not root.is_dir() and not is_manifest(root):
            raise Error(f"{path} is a file; give the folder that holds the {nouns}")
    except OSError as error:
        raise Error(f"{str(path)!r:.200} can't be read ({error.strerror}); give a folder of {nouns}") from None
    layout = read_layout(root, role=role, given=given, captions=captions, captions_by=captions_by)
    if not layout.rows:
        named = "; ".join(f"{skipped.name}: {skipped.why}" for skipped in layout.skipped[:3])
        wanted = MEDIA.get(layout.role, AUDIO)
        raise Error(
            f"{path} holds no {wanted.noun} to train on{f' ({named})' if named else ''}; "
            + (
                layout.why
                or f"give a folder with a manifest.jsonl or with {wanted.nouns} named as their captions, such "
                f"as {wanted.example}"
            )
        )
    root = root if root.is_dir() else root.parent
    with Contents(root) as contents:
        items = [_item(row, layout.role, contents) for row in layout.rows]
    spelt = in_one_spelling(_split(items))
    return Folder(root, layout.name, layout.role, spelt, layout.skipped, layout.captions_by, layout.why)


def chosen_captions(folder: Folder) -> str:
    """Of which names the captions are made, why, and how to say otherwise; nothing where they come from elsewhere, or
    there was no choice."""
    if not folder.why:
        return ""
    others = " or ".join(f"--captions {by}" for by in CAPTIONS_BY if by not in ("auto", folder.captions_by))
    names = {"folder": "the folders' names", "file": "the files' names", "both": "the folders' and the files' names"}
    return f"captions by {names[folder.captions_by]}, since {folder.why}; {others} chooses otherwise"


def captions_taken(asked: Captions, folder: Folder) -> Captions:
    """What `asked` came to: which names were read where it was `auto` and there was a choice, so that files which come
    later can't change that. It stays `auto` where captions come from elsewhere, or no folder has a name to read."""
    return captions_setting(folder.captions_by) if asked == "auto" and folder.why else asked


def in_one_spelling(items: Sequence[Item]) -> list[Item]:
    """The items with captions that are one spelt as most of them are."""
    spelt = zip(items, spelt_alike([item.caption for item in items]), strict=True)
    return [item if item.caption == caption else replace(item, caption=caption) for item, caption in spelt]


def _item(row: Row, role: str, contents: Contents) -> Item:
    found = {name: content for name, path in row.files.items() if (content := contents.of(path)) is not None}
    return Item(row.files, role, row.caption, row.split or "", row.group, found, row.fields, row.captions)


def _split(items: list[Item]) -> list[Item]:
    """Fills in the split of the items whose row says none."""
    undecided = [item for item in items if not item.split]
    # A file that can't be read has no content to go by, and will be skipped anyway.
    units = [item.group or item.content or item.path().name for item in undecided]
    held_out = splits.held_out(units, enough=any(item.split == "valid" for item in items))
    decided = {unit: "valid" if unit in held_out else "train" for unit in units}
    chosen = iter(units)
    return [item if item.split else replace(item, split=decided[next(chosen)]) for item in items]
