"""What a folder holds, and what is wrong with it, before anything is trained on it."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cymatic.data.cache import Cache
from cymatic.data.captions_by_name import Captions
from cymatic.data.facts import facts_of
from cymatic.data.folder import Folder, Item, read_folder
from cymatic.data.rows import Skipped
from cymatic.data.settings import DataSettings
from cymatic.encoders.text import token_ids
from cymatic.errors import Error, PromptError
from cymatic.media.medium import Facts

SHEET_ROWS = 10
SHEET_COLUMNS = 4
SHEET_SECONDS = 10.0  # of what is longer, the beginning is drawn


@dataclass
class Inspection:
    """The clips that can be read with their facts; and what is broken, of another kind, empty, doubtful, copied.

    copies: groups of files with one content; two rows about one file are none.
    """

    folder: Folder
    clips: list[tuple[Item, Facts]] = field(default_factory=list)
    broken: list[Skipped] = field(default_factory=list)
    others: list[Skipped] = field(default_factory=list)
    empty: list[Item] = field(default_factory=list)
    problems: list[tuple[Item, str]] = field(default_factory=list)
    copies: list[list[Item]] = field(default_factory=list)

    @property
    def hours(self) -> float | None:
        """None where the clips have no length."""
        seconds = [facts.length for _, facts in self.clips if facts.length is not None]
        return sum(seconds) / 3600 if seconds or self.folder.medium.windows is not None else None

    @property
    def roles(self) -> Counter[str]:
        """How many clips have a file of each role."""
        return Counter(role for item, _ in self.clips for role in item.files)

    @property
    def captions(self) -> Counter[str]:
        return Counter(item.caption for item, _ in self.clips)

    @property
    def remarks(self) -> list[str]:
        """What makes the whole hard to learn from, though each clip is fine."""
        captions = self.captions
        found = []
        if len(captions) == 1 and len(self.clips) > 1:
            found.append("all clips have one caption, so a prompt will choose nothing; say what tells them apart")
        if len(captions) == len(self.clips) > 1:
            found.append("no caption has a second clip, so variety is learned across captions only")
        if len({item.content for item, _ in self.clips}) == 1 and len(self.clips) > 1:
            found.append("all clips are copies of one")
        if self.clips and not any(item.split == "valid" for item, _ in self.clips):
            found.append("no clip is held out, so overfitting can't be seen")
        return found + self._too_long()

    def _too_long(self) -> list[str]:
        """What training does with clips beyond its limit, if nothing else is asked for."""
        usual = DataSettings()
        lengths = [facts.length for _, facts in self.clips if facts.length is not None]
        beyond = [length for length in lengths if length > usual.longest]
        if not beyond:
            return []
        are = "clip is" if len(beyond) == 1 else "clips are"
        return [
            f"{len(beyond)} of {len(self.clips)} {are} longer than {usual.longest:g} s, and cymatic train skips what "
            f"is, unless its recipe says otherwise: --set data.longest={math.ceil(max(beyond))} takes all of them "
            "whole, --set data.long=cut up to four pieces of each"
        ]

    def name(self, item: Item) -> str:
        return os.path.relpath(item.path(), self.folder.root)


def inspect_folder(
    path: str | Path,
    cache: Cache | None = None,
    *,
    captions_by: Captions = "auto",
    on_clip: Callable[[int, int], None] = lambda done, total: None,
) -> Inspection:
    """Reads and decodes everything in a folder once; what it learns of each file is cached. captions_by: see
    `read_layout`. on_clip: told how many clips are done, and how many there are.

    Raises Error where `read_folder` does.
    """
    cache = Cache() if cache is None else cache
    folder = read_folder(path, captions_by=captions_by)
    found = Inspection(folder)
    for skipped in folder.skipped:
        (found.broken if skipped.broken else found.others).append(skipped)

    def look(item: Item) -> Facts | str:
        try:
            token_ids(item.caption)
            return facts_of(item, cache)[0]
        except PromptError as error:
            return f"has a caption that can't be a prompt: {error}"
        except (Error, OSError) as error:
            return str(error).removeprefix(f"{item.path()} ")

    alike: dict[str, dict[Path, Item]] = defaultdict(dict)
    with ThreadPoolExecutor() as pool:
        for done, (item, facts) in enumerate(zip(folder.items, pool.map(look, folder.items), strict=True), 1):
            on_clip(done, len(folder.items))
            if isinstance(facts, str):
                found.broken.append(Skipped(found.name(item), facts))
                continue
            found.clips.append((item, facts))
            if facts.empty:
                found.empty.append(item)
            found.problems += [(item, problem) for problem in facts.problems]
            if item.content is not None:
                alike[item.content].setdefault(item.path(), item)
    found.copies = [list(items.values()) for items in alike.values() if len(items) > 1]
    return found


def sheet(found: Inspection) -> tuple[list[tuple[str, Any] | None], int]:
    """What a contact sheet shows, and in how many columns: a row for each of the most frequent captions, with up to
    four of its clips; None leaves a place empty. Where no caption has two clips, each place has its own caption.
    """
    shown: dict[str, list[tuple[Item, Facts]]] = defaultdict(list)
    for item, facts in found.clips:
        if not facts.empty:
            shown[item.caption].append((item, facts))
    often = sorted(shown.items(), key=lambda pair: -len(pair[1]))
    if not often or len(often[0][1]) == 1:
        chosen = [clips[0] for _, clips in _from_all_over(often, SHEET_ROWS * SHEET_COLUMNS)]
        return [(item.caption, _beginning(found, item, facts)) for item, facts in chosen], SHEET_COLUMNS
    columns = min(SHEET_COLUMNS, len(often[0][1]))
    places: list[tuple[str, Any] | None] = []
    for caption, clips in _rows(often):
        apart = clips[:: max(1, len(clips) // columns)][:columns]  # neighbours are often takes of one thing
        places += [(caption, _beginning(found, item, facts)) for item, facts in apart]
        places += [None] * (columns - len(apart))
    return places, columns


Captioned = tuple[str, list[tuple[Item, Facts]]]


def _rows(often: list[Captioned]) -> list[Captioned]:
    """The most frequent captions; of those that are as frequent as the last, some from all over."""
    last = len(often[:SHEET_ROWS][-1][1])
    first = [row for row in often if len(row[1]) > last]
    return first + _from_all_over([row for row in often if len(row[1]) == last], SHEET_ROWS - len(first))


def _from_all_over(rows: list[Captioned], most: int) -> list[Captioned]:
    count = min(most, len(rows))
    return [rows[i * len(rows) // count] for i in range(count)]


def _beginning(found: Inspection, item: Item, facts: Facts) -> Any:
    medium = found.folder.medium
    if medium.windows is not None and facts.length is not None and facts.length > SHEET_SECONDS:
        return medium.windows.first(item.path(), SHEET_SECONDS)
    return medium.read(item.path())
