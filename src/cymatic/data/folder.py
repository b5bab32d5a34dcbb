"""A folder of sounds as a dataset: which files, what they are called, which are held out, and what was left out.

The layouts are in `data/layouts.py`, the rule of what is held out in `data/splits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cymatic.data import splits
from cymatic.data.contents import Contents
from cymatic.data.layouts import Row, Skipped, read_layout
from cymatic.errors import Error


@dataclass(frozen=True)
class Item:
    """One recording: where it is, what it is called, and whether it is trained on (`train`) or held out (`valid`).

    caption: empty where it has none and needs none. content: the SHA-256 of the file's bytes, None where they couldn't
    be read or weren't asked for. fields: what else its row says, for filters.
    """

    audio: Path
    caption: str
    split: str
    group: str | None = None
    content: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass
class Folder:
    """A folder's items, and what was left out with the reason, so that nothing goes missing unsaid."""

    root: Path
    layout: str
    items: list[Item]
    skipped: list[Skipped] = field(default_factory=list)

    def of(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]


def read_folder(path: str | Path, *, captions: bool = True) -> Folder:
    """Reads the layout of `path` and the content of its files, but decodes no sound yet. `captions`: see `read_layout`.

    Raises Error where `path` is no folder, holds no sound, or has a manifest that can't be read at all.
    """
    root = Path(path)
    try:
        if not root.exists():
            raise Error(f"{path} does not exist; give a folder of sounds")
        if not root.is_dir():
            raise Error(f"{path} is a file; give the folder that holds the sounds")
    except OSError as error:
        raise Error(f"{str(path)!r:.200} can't be read ({error.strerror}); give a folder of sounds") from None
    layout = read_layout(root, captions=captions)
    if not layout.rows:
        named = "; ".join(f"{skipped.name}: {skipped.why}" for skipped in layout.skipped[:3])
        raise Error(
            f"{path} holds no sound to train on{f' ({named})' if named else ''}; give a folder with a manifest.jsonl "
            "or with sounds named as their captions, such as dog-bark_03.wav"
        )
    with Contents(root) as contents:
        items = [_item(row, contents) for row in layout.rows]
    return Folder(root, layout.name, _split(items), layout.skipped)


def _item(row: Row, contents: Contents) -> Item:
    return Item(row.audio, row.caption, row.split or "", row.group, contents.of(row.audio), row.fields)


def _split(items: list[Item]) -> list[Item]:
    """Fills in the split of the items whose row says none."""
    undecided = [item for item in items if not item.split]
    # A file that can't be read has no content to go by, and will be skipped anyway.
    units = [item.group or item.content or item.audio.name for item in undecided]
    held_out = splits.held_out(units, enough=any(item.split == "valid" for item in items))
    decided = {unit: "valid" if unit in held_out else "train" for unit in units}
    chosen = iter(units)
    return [item if item.split else replace(item, split=decided[next(chosen)]) for item in items]
