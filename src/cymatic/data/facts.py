"""What the files of items are like, measured once and cached."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import Any

from cymatic.data.cache import Cache
from cymatic.data.contents import sha256_of
from cymatic.data.folder import Item, medium_of_role
from cymatic.errors import Error, Note
from cymatic.media.medium import Facts, Medium


def facts_of(
    item: Item, cache: Cache, *, keep: float = 0.0, role: str | None = None, medium: Medium[Any] | None = None
) -> tuple[Facts, Any]:
    """The facts of an item's file (None: its main one); and what is in it, where it had to be read for them and is not
    longer than `keep` seconds, else None. Raises what the medium raises."""
    role = item.role if role is None else role
    medium = medium_of_role(role, (item,)) if medium is None else medium
    path, content = item.path(role), item.contents.get(role)
    key = f"facts {medium.name} {json.dumps(medium.preparation)} {content}"
    known = cache.get(key) if content else None
    if known is not None:
        return Facts.from_bytes(known), None
    facts, value = medium.examine(path, keep)
    check_unchanged(item, role)
    if content:
        cache.put(key, facts.as_bytes())
    return facts, value


def check_unchanged(item: Item, role: str) -> None:
    """Raises Error where a file is no longer what it was when the folder was listed.

    What was read is then not cached under the content of that time, nor put into that content's split.
    """
    content, path = item.contents.get(role), item.path(role)
    if content and sha256_of(path) != content:
        raise Error(f"{path} changed while it was being read; start again when the folder is at rest")


def usual_rate(items: Sequence[Item], *, looked_at: int = 40, cache: Cache | None = None) -> int:
    """The middle rate in Hz of some sounds from all over `items`; 24 kHz where none can be read."""
    cache = Cache() if cache is None else cache
    rates = []
    for item in items[:: max(1, len(items) // looked_at)]:
        try:
            rates.append(round(facts_of(item, cache)[0].details["rate"]))
        except (Error, OSError, KeyError):  # no sound
            continue
    return sorted(rates)[len(rates) // 2] if rates else 24_000


def say_trouble(cache: Cache) -> None:
    """One Note where the cache could not be written."""
    if cache.trouble is not None:
        warnings.warn(
            f"features are not cached, for {cache.folder} {cache.trouble}; it goes on without, and reads the files "
            "again next time (CYMATIC_CACHE names another place)",
            Note,
            stacklevel=2,
        )
