"""Pictures of another hand as class folders, to train on: the ten largest subgroups of OpenMoji.

    npm pack openmoji && tar xzf openmoji-*.tgz
    python benchmarks/openmoji.py package pictures
    cymatic train pictures --minutes 15
    cymatic evaluate runs/pictures -n 200 -o report

PACKAGE is npm's package `openmoji` (CC BY-SA 4.0), whose pictures are SVG; Debian's `librsvg2-bin` draws them. Its own
extras and skin tones are left out.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

SUBGROUPS = 10
SIDE = 128  # pixels


def main(package: Path, folder: Path, side: Annotated[int, typer.Option(help="Pixels.")] = SIDE) -> None:
    """Draws the pictures of the largest subgroups into folders of their names."""
    rows = json.loads((package / "data" / "openmoji.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if not row["skintone"] and not row["group"].startswith("extras")]
    largest = {name for name, _ in Counter(row["subgroups"] for row in rows).most_common(SUBGROUPS)}
    drawn = Counter[str]()
    for row in rows:
        source = package / "color" / "svg" / f"{row['hexcode']}.svg"
        if row["subgroups"] in largest and source.is_file():
            place = folder / row["subgroups"] / f"{row['hexcode']}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            size = ["-w", str(side), "-h", str(side)]
            subprocess.run(["rsvg-convert", *size, str(source), "-o", str(place)], check=True)
            drawn[row["subgroups"]] += 1
    typer.echo(f"{folder}: " + ", ".join(f"{count} of {name}" for name, count in drawn.most_common()))


if __name__ == "__main__":
    typer.run(main)
