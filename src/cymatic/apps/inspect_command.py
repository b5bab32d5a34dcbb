"""`cymatic data inspect` and `cymatic data cache`: what a folder holds, and what was kept of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from cymatic.apps.captions_option import captions_asked
from cymatic.apps.outputs import check_not_source, check_outside
from cymatic.apps.progress import ProgressBar
from cymatic.apps.terminal import printable
from cymatic.data.cache import Cache
from cymatic.data.facts import say_trouble
from cymatic.data.folder import chosen_captions
from cymatic.data.inspection import Inspection, inspect_folder, sheet
from cymatic.data.rows import check_strictly
from cymatic.errors import Error
from cymatic.files import check_output

MOST_COUNTED = 8  # captions, rates
MOST_NAMED = 10  # of each kind of problem
SPLITS = {"train": "to train on", "valid": "held out", "test": "to test on"}


def inspect_command(folder: Path, output: Path | None, strict: bool, captions: str = "auto") -> None:
    """Prints what is in `folder` and draws a sheet to `output`. Raises Error, with `strict` also for what is broken."""
    if output is not None:
        check_output(output, (".png",))
        if not output.exists():
            check_outside(output, folder)
    cache = Cache()
    with ProgressBar("reading", "clips") as progress:
        found = inspect_folder(folder, cache, captions_by=captions_asked(captions) or "auto", on_clip=progress)
    say_trouble(cache)
    if output is not None:
        check_not_source(output, *(path for item in found.folder.items for path in item.files.values()))
        check_outside(output, folder)
    if strict:
        check_strictly(found.broken)
    for line in report(found):
        print(printable(line))
    if output is not None:
        medium = found.folder.medium
        places, columns = sheet(found)
        if not places or medium.sheet is None:
            raise Error(f"{folder} holds no {medium.noun} that could be drawn; leave out -o to see only the report")
        print(f"sheet     {medium.sheet(output, places, columns)}")


def report(found: Inspection) -> Iterator[str]:
    """The inspection in lines."""
    folder, medium = found.folder, found.folder.medium
    yield f"folder    {folder.root}"
    yield f"layout    {folder.layout}"
    splits = Counter(item.split for item, _ in found.clips)
    parts = ", ".join(f"{splits[name]} {what}" for name, what in SPLITS.items() if splits[name])
    hours = f", {found.hours:.2f} hours" if found.hours is not None else ""
    yield f"clips     {len(found.clips)}{f' ({parts})' if parts else ''}{hours}"
    if len(found.roles) > 1:
        yield f"roles     {_counts(found.roles)}; inspected: {folder.role}"
    if found.clips:
        seconds = [facts.length for _, facts in found.clips if facts.length is not None]
        if seconds:
            yield f"lengths   {min(seconds):.2f} to {max(seconds):.2f} s, half of them up to {median(seconds):.2f} s"
        for name, (heading, unit) in medium.details.items():
            values = Counter(f"{facts.details[name]:g}{unit}" for _, facts in found.clips)
            yield f"{heading:<9} {_counts(values)}"
        yield f"captions  {len(found.captions)}: {_counts(found.captions)}"
        if texts := {text for item, _ in found.clips for group in item.captions for text in group}:
            yield f"texts     {len(texts)}, of which each clip has one or more"
        if chosen := chosen_captions(folder):
            yield f"chosen    {chosen}"
    kinds = {
        "broken": [f"{one.name}: {one.why}" for one in found.broken],
        medium.empty.removeprefix("is "): [
            f"{found.name(item)} {medium.empty}, and is skipped" for item in found.empty
        ],
        "doubtful": [f"{found.name(item)} {what}" for item, what in found.problems],
        "copied": [" = ".join(found.name(item) for item in items) for items in found.copies],
        f"no {medium.noun}": [
            one.name if one.why.endswith("by its extension") else f"{one.name} {one.why}" for one in found.others
        ],
    }
    yield f"problems  {', '.join(f'{len(lines)} {kind}' for kind, lines in kinds.items() if lines) or 'none'}"
    for kind, lines in kinds.items():
        yield from (f"  {kind + ':':<10} {line}" for line in lines[:MOST_NAMED])
        if len(lines) > MOST_NAMED:
            yield f"  {kind + ':':<10} and {len(lines) - MOST_NAMED} more"
    yield from (f"note      {remark}" for remark in found.remarks)


def _counts(counter: Counter[str]) -> str:
    """`dog bark 12, rain 3, and 4 others`: the most frequent first, and by name where as frequent."""
    ordered = sorted(counter.items(), key=lambda pair: (-pair[1], pair[0]))
    named = ", ".join(f"{name} {count}" for name, count in ordered[:MOST_COUNTED])
    return named + (f", and {len(ordered) - MOST_COUNTED} others" if len(ordered) > MOST_COUNTED else "")


def cache_command(clear: bool) -> None:
    """Prints where the cache is and how large, and empties it where asked to."""
    cache = Cache()
    if clear:
        cache.clear()
    entries, size = cache.size()
    print(f"{cache.folder}  {entries} entries, {size / 1e6:.1f} MB{'' if clear else ' (--clear empties it)'}")
