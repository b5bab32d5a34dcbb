"""Which rows are trained on where only some are wanted: distinct captions first, and the same ones everywhere."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cymatic.data.captions import caption_key
from cymatic.data.folder import Item
from cymatic.data.packs import Sources


def limited(rows: Sequence[tuple[str, str]], most: int) -> list[int]:
    """The places, in order, of `most` of `rows` at most, each a caption and what tells the row from others under it.

    One row of each caption first, the captions in the order of their hashes, then a second one of each, and so on. So
    the rows of a limit are among those of any higher one, and the order in which they come does not matter.
    """
    by_caption: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    for place, (caption, name) in enumerate(rows):
        by_caption[caption_key(caption)].append((_hashed(name), place))
    order = [
        (turn, _hashed(caption), *one) for caption, some in by_caption.items() for turn, one in enumerate(sorted(some))
    ]
    return sorted(place for *_, place in sorted(order)[:most])


@dataclass(frozen=True)
class Limited:
    """How many rows to train on were kept, of how many; and of how many captions, of how many."""

    kept: int
    rows: int
    kept_captions: int
    captions: int


def limit_training(sources: Sources, most: int) -> Limited:
    """Leaves `most` rows to train on at most in all packs together; what is held out and tested on stays as it is."""
    items = sources.of("train")
    kept = {id(items[place]) for place in limited([(item.caption, _name(item)) for item in items], most)}
    for source in sources.packs:
        source.items = [item for item in source.items if item.split != "train" or id(item) in kept]
    counts = [len({caption_key(item.caption) for item in some}) for some in (sources.of("train"), items)]
    return Limited(len(kept), len(items), *counts)


def _name(item: Item) -> str:
    """By what a row is told from others: the contents of its files, or their names."""
    return "\t".join(item.contents.get(role) or path.name for role, path in sorted(item.files.items()))


def _hashed(text: str) -> bytes:
    return hashlib.sha256(f"limit\t{text}".encode("utf-8", "surrogateescape")).digest()
