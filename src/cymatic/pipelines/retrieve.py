"""Finding the nearest of many by encoders that were aligned: words -> pictures, pictures -> words, or the like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cymatic.data.captions_by_name import Captions
from cymatic.data.folder import Item, read_folder
from cymatic.encoders.align import RECALLS, Contents, chance, recall, same
from cymatic.errors import Error
from cymatic.evaluation.intervals import Estimate, share
from cymatic.evaluation.retrieval import belonging, once
from cymatic.media import MEDIA
from cymatic.pipelines.embed import Embedder, best_first

OnItem = Callable[[int, int], None]
MOST_LISTED = 10_000


def silently(done: int, total: int) -> None:
    """For who does not want to know how far it is."""


@dataclass(frozen=True)
class Match:
    """One that was found: how similar it is (-1 to 1), its caption (empty where it has none), and its file (None where
    captions were searched)."""

    score: float
    caption: str
    path: Path | None = None


@dataclass(frozen=True)
class Index:
    """Vectors `[n, dim]` of unit norm of items of one role, and what could not be read, each with the reason."""

    role: str
    vectors: Tensor
    items: list[Item]
    skipped: list[tuple[str, str]]

    @classmethod
    def of(cls, model: Embedder, role: str, items: Sequence[Item], on_item: OnItem = silently) -> Index:
        """The files of a role, or the captions where the role is of words. Raises Error where none can be read."""
        vectors, kept, skipped = [], list[Item](), list[tuple[str, str]]()
        for i, item in enumerate(items):
            on_item(i, len(items))
            try:
                vectors.append(model.embed([read_value(model, role, item)], role)[0])
                kept.append(item)
            except (Error, OSError) as error:
                skipped.append((str(item.path()), str(error)))
        on_item(len(items), len(items))
        if not kept:
            why = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
            raise Error(f"there is no {role} to search among{why}; give a folder that holds some")
        return cls(role, torch.stack(vectors), kept, skipped)

    def nearest(self, vector: Tensor, count: int) -> list[tuple[float, Item]]:
        """The `count` items most similar to a vector `[dim]`, most similar first; of equal ones the earlier."""
        scores = (self.vectors @ vector).tolist()
        return [(scores[i], self.items[i]) for i in best_first(scores)[:count]]


def read_value(model: Embedder, role: str, item: Item) -> Any:
    """What the encoder of a role reads of an item: a value of its medium, or the caption."""
    spec = model.encoders[role].config.reads
    if spec is not None:
        return MEDIA[spec.medium].read(item.path(role))
    if not item.caption:
        raise Error("has no caption")
    return item.caption


def retrieve(
    model: Embedder, query: Any, medium: str | None, folder: Path, *, find: str | None = None, count: int = 5,
    captions_by: Captions = "auto", on_item: OnItem = silently,
) -> tuple[list[Match], list[tuple[str, str]]]:  # fmt: skip
    """The `count` best matches of `query` in a folder, best first, and what could not be read.

    medium: of the query; None: words. find: the role to search; None: files for words, and captions for a file where
    the model reads words, else files. captions_by: see `read_layout`. Captions that are one are found once.

    Raises Error for a role that the model has not, a number out of range, and a folder that can't be read.
    """
    if not 1 <= count <= MOST_LISTED:
        raise Error(f"{count} matches were asked for; give a number from 1 to {MOST_LISTED}")
    given = model.role_of(medium)
    words = [role for role, encoder in model.encoders.items() if encoder.config.reads is None]
    files = [role for role in model.encoders if role not in words]
    find = find or (words if medium is not None and words else files)[0]
    model.check_role(find)
    vector = model.embed([query], given)[0]
    of_files = find if find in files else files[0]
    read = read_folder(folder, role=of_files, captions=find in words, captions_by=captions_by)
    items = read.items
    if find in words:
        items = list({item.caption: item for item in reversed(items) if item.caption}.values())[::-1]
    index = Index.of(model, find, items, on_item)
    matches = [
        Match(score, item.caption, None if find in words else item.path(find))
        for score, item in index.nearest(vector, count)
    ]
    return matches, [*((one.name, one.why) for one in read.skipped), *index.skipped]


@dataclass(frozen=True)
class Recall:
    """The share of items of role `given` whose own item of role `found` is among the `first` nearest, with its
    interval, and that share in random order."""

    given: str
    found: str
    first: int
    share: Estimate
    chance: float


def recalls(
    model: Embedder, items: Sequence[Item], on_item: OnItem = silently, *, unique: bool = False
) -> list[Recall]:
    """How well each role finds each other among `items` that have all of them: recall in the first 1, 5 and 10.

    Items with the same caption, or the same file, count as one. With `unique` a file or caption of several items is
    looked for once, and lies once among those that are searched: all utterances among the different pictures, say.
    Raises Error where fewer than two can be read.
    """
    vectors: dict[str, list[Tensor]] = {role: [] for role in model.encoders}
    files = [role for role, encoder in model.encoders.items() if encoder.config.reads is not None]
    contents: list[Contents] = []
    for i, item in enumerate(items):
        on_item(i, len(items))
        try:
            found = {role: model.embed([read_value(model, role, item)], role)[0] for role in vectors}
        except (Error, OSError):
            continue
        for role, vector in found.items():
            vectors[role].append(vector)
        contents.append((item.caption, *(item.contents.get(role, str(item.path(role))) for role in files)))
    on_item(len(items), len(items))
    if len(contents) < 2:
        raise Error(f"{len(contents)} of {len(items)} items have all of {', '.join(vectors)}; give two or more")
    alike = same(contents)
    whole = {role: torch.stack(found) for role, found in vectors.items()}
    # The places of what is looked for, and lies among what is searched; and which of these each item is.
    looked = {role: (list(range(len(alike))), torch.arange(len(alike))) for role in whole}
    if unique:
        column = {role: files.index(role) + 1 if role in files else 0 for role in whole}
        looked = {role: once([content[column[role]] for content in contents]) for role in whole}
    measured = []
    for a, b in combinations(whole, 2):
        for given, other in ((a, b), (b, a)):
            (rows, of_row), (columns, of_column) = looked[given], looked[other]
            similarity = whole[given][rows] @ whole[other][columns].T
            own = belonging(alike, of_row, of_column)
            for first in RECALLS:
                right = round(recall(similarity, own, first) * len(own))
                measured.append(Recall(given, other, first, share(right, len(own)), chance(own, first)))
    return measured
