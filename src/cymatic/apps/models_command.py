"""`cymatic models`: the starters and the runs that are here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cymatic.apps.model_list import Listed

UNSAID = "-"
Folders = Annotated[
    list[Path] | None,
    typer.Argument(help="Runs, or what holds them.", show_default="the working folder", readable=False),
]


def models(
    folders: Folders = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the starters and the runs here: version, size, licence, what they make."""
    import json
    from dataclasses import asdict

    from cymatic.apps import model_list
    from cymatic.apps.terminal import printable

    found = model_list.models(folders or [Path(".")])
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2, ensure_ascii=False))
        return
    for line in table(found):
        print(printable(line))


def table(found: list[Listed]) -> list[str]:
    """A line a model: its name, and what is known of it, in columns."""
    rows = [("name", "version", "MB", "licence", "makes")]
    for one in found:
        version = UNSAID if one.version is None else str(one.version)
        size = f"{one.megabytes:.1f}" if one.state == "ready" else UNSAID
        says = one.makes if one.state == "ready" else f"{one.state}: {one.problem}"
        rows.append((one.name, version, size, one.licence or UNSAID, says or UNSAID))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows]
