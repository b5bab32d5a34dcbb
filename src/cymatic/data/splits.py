"""Which clips are held out where nobody said: a tenth, by hash."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

VALID_SHARE = 0.1
FEWEST = 8  # clips: of fewer, each is worth more in training than in a measure of one clip


def place(unit: str) -> float:
    """Where a unit (a group, a content) falls between 0 and 1, by hash; the same everywhere and always."""
    return int.from_bytes(hashlib.sha256(unit.encode("utf-8", "surrogateescape")).digest()[:4]) / 2**32


def held_out(units: Sequence[str], *, enough: bool = False) -> set[str]:
    """Which units are held out, given the unit of each clip: those whose place is below 0.1.

    So adding clips moves none of the others, and clips of one unit stay together. Three exceptions keep small folders
    usable: of fewer than 8 clips none is held out; where the hash would hold out none, the unit with the lowest place
    is, unless some are held out already (`enough`); and where more than half of all clips would be, none is.
    """
    clips = Counter(units)
    if len(units) < FEWEST or len(clips) < 2:
        return set()
    chosen = {unit for unit in clips if place(unit) < VALID_SHARE}
    if not chosen and not enough:
        chosen = {min(clips, key=place)}
    return chosen if 2 * sum(clips[unit] for unit in chosen) <= len(units) else set()
