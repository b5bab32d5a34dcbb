"""`cymatic data get` and `cymatic data list`: the published packs, and how to have them here."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cymatic.apps.terminal import printable
from cymatic.data.published.catalogue import EFFECTS, PACKS

WIDTH = 100


def data_list_command() -> None:
    """Prints every pack with its size, licence and home."""
    for pack in PACKS:
        print(f"{pack.name:12} {pack.title}")
        print(f"{'':12} {pack.sounds} sounds, about {pack.megabytes} MB, made of {pack.original}")
        print(f"{'':12} {pack.licence}")
        print(f"{'':12} {pack.home}")
    print("\n".join(textwrap.wrap(EFFECTS, WIDTH, break_on_hyphens=False, break_long_words=False)))


def data_get_command(name: str, folder: Path, given: Path | None) -> None:
    """Makes one pack, showing how it goes. Raises Error for what the user can mend."""
    from cymatic.data.published.dataset_writer import splits_of
    from cymatic.data.published.get import Watch, get  # brings in numpy and soundfile

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bars: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int | None, words: str) -> None:
            if what not in bars:
                bars[what] = progress.add_task(words, total=total)
            progress.update(bars[what], completed=done, total=total, description=words)

        watch = Watch(
            say=lambda line: print(printable(line)),
            on_sound=lambda done, total: show("sounds", done, total, f"{done} of {total} sounds"),
            on_bytes=lambda have, total: show("fetching", have, total, f"fetched {have / 1e6:.1f} MB"),
        )
        made = get(name, folder, given, watch)
    minutes = sum(row["seconds"] for row in made.rows) / 60
    there = "is there already: " if made.was_there else ""
    print(printable(f"{made.folder}  {there}{len(made.rows)} sounds, {minutes:.1f} min ({splits_of(made.rows)})"))
    downloads = folder / "downloads"
    if not made.was_there and downloads.is_dir() and any(downloads.iterdir()):
        print(printable(f"what was fetched is kept in {downloads}; remove it when you like"))
    print(printable(f"train on it: cymatic train {shlex.quote(str(made.folder))}"))
