"""`cymatic data get` and `cymatic data list`: the published packs, and how to have them here."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cymatic.apps.progress import Phases
from cymatic.apps.terminal import printable
from cymatic.data.published.catalogue import EFFECTS, PACKS, VAS, find
from cymatic.errors import Error

if TYPE_CHECKING:
    from cymatic.data.published.get import Watch

WIDTH = 100


def data_list_command() -> None:
    """Prints every pack with its size, licence and home."""
    for pack in PACKS:
        print(f"{pack.name:12} {pack.title}")
        print(f"{'':12} {pack.sounds} sounds, about {pack.megabytes} MB, made of {pack.original}")
        print(f"{'':12} {pack.licence}")
        print(f"{'':12} {pack.home}")
    print("\n".join(textwrap.wrap(EFFECTS, WIDTH, break_on_hyphens=False, break_long_words=False)))


def data_get_command(
    name: str, folder: Path, given: Path | None, features: Sequence[str] = (), classes: Sequence[str] = ()
) -> None:
    """Makes one pack, showing how it goes. Raises Error for what the user can mend."""
    if name != VAS and (features or classes):
        raise Error(f"--features and --classes choose among the archives of {VAS}; leave them out for {name}")
    from cymatic.data.published.dataset_writer import splits_of
    from cymatic.data.published.get import Watch, get  # brings in numpy and soundfile

    with Phases() as show:

        def say(line: str) -> None:
            show.end()
            print(printable(line))

        def fetched(have: int, total: int | None) -> None:
            of = "" if total is None else f" of {total / 1e6:.1f}"
            show("fetching", have, total, f"{have / 1e6:.1f}{of} MB")

        watch = Watch(
            say=say,
            on_sound=lambda done, total: show("writing", done, total, f"{done} of {total} sounds"),
            on_bytes=fetched,
            on_unpacked=lambda have, total: show("unpacking", have, total, f"{have / 1e6:.1f} of {total / 1e6:.1f} MB"),
        )
        if name == VAS:
            _get_vas(folder, given, watch, features, classes)
            return
        made = get(name, folder, given, watch)
    minutes = sum(row["seconds"] for row in made.rows) / 60
    there = "is there already: " if made.was_there else ""
    print(printable(f"{made.folder}  {there}{len(made.rows)} sounds, {minutes:.1f} min ({splits_of(made.rows)})"))
    downloads = folder / "downloads"
    if not made.was_there and downloads.is_dir() and any(downloads.iterdir()):
        print(printable(f"what was fetched is kept in {downloads}; remove it when you like"))
    print(printable(f"train on it: cymatic train {shlex.quote(str(made.folder))}"))


def _get_vas(folder: Path, given: Path | None, watch: Watch, features: Sequence[str], classes: Sequence[str]) -> None:
    from cymatic.data.published.vas import LISTS, get_vas

    pack = find(VAS)
    watch.say(f"{pack.name}: {pack.title}")
    watch.say(f"licence: {pack.licence} ({pack.licence_address})")
    target = get_vas(folder, given, watch, features=features, classes=classes)
    kinds = sorted({place.name for place in target.glob("features/*/*")})
    labels = sorted(place.name for place in target.glob("features/*"))
    listed = ", ".join(f"{len((target / name).read_text().split())} in {name}" for name in LISTS)
    watch.say(f"{target}  {', '.join(labels)}: {', '.join(kinds)}; {listed}")
    watch.say(f"use it: cymatic train {shlex.quote(str(target))} --recipe melspec-gpt")
