"""A contact sheet of an evaluation: real clips beside what became of them in the model and what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cymatic.evaluation.domain import Domain
from cymatic.evaluation.evaluate import MADE, REAL, THROUGH, Shown
from cymatic.media.medium import Medium

CONTACTS = "contact.png"
MOST_SHOWN = 48  # captions
SIDE_BY_SIDE = 2  # captions in a row


def contact_sheet(path: Path, shown: Sequence[Shown], domain: Domain, medium: Medium[Any]) -> Path | None:
    """Draws a sheet to `path`: of each caption the real clip, the same through the model, and a generated one, as far
    as they are there. None, and no file, where nothing is shown or the medium or the domain can't be drawn."""
    if medium.sheet is None or domain.restored is None or not shown:
        return None
    ways = {REAL: "real", THROUGH: "through", MADE: "made"}
    there = [name for name, of in ways.items() if any(getattr(one, of) is not None for one in shown)]
    places: list[tuple[str, Any] | None] = []
    for one in shown:
        for name in there:
            value = getattr(one, ways[name])
            title = one.caption if name == there[0] else name.removeprefix("real ")
            places.append(None if value is None else (title, domain.restored(value)))
    columns = len(there) * min(SIDE_BY_SIDE, len(shown))
    return medium.sheet(path, places, columns)
