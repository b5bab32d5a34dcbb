"""Spoken names of emoji beside their pictures: what a speech encoder is trained on, and how well it finds them.

    python benchmarks/voices.py join DATA FOLDER           spoken names and pictures as one folder to train on
    python benchmarks/voices.py recall MODEL DATA          which emoji is nearest to what was said

DATA is the folder that holds the packs `emoji`, `spoken-emoji` and `words`. Of `words` only recordings under CC BY-SA
or in the public domain are taken. MODEL holds encoders of sounds and of pictures or words in one space.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from cymatic.apps.progress import ProgressBar
from cymatic.errors import Error
from cymatic.evaluation.intervals import share
from cymatic.files import write_atomically
from cymatic.media.audio import AUDIO
from cymatic.media.picture import Picture
from cymatic.pipelines.load import load_embedder

FREE = ("CC-BY-SA", "public domain")  # licences of recordings that weights may be trained on and given away
FIRST = (1, 5)

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Row = dict[str, Any]


def rows_of(data: Path, pack: str) -> list[Row]:
    return [json.loads(line) for line in (data / pack / "manifest.jsonl").open(encoding="utf-8")]


def spoken(data: Path) -> list[Row]:
    """All clips that name an emoji, with the English name of it as their caption, and the file and pack that they are
    from."""
    emoji = {row["id"]: row for row in rows_of(data, "emoji")}
    found = []
    for pack in ("spoken-emoji", "words"):
        for row in rows_of(data, pack):
            if row.get("emoji") not in emoji or row.get("duplicate_of") or row.get("licence", FREE[0]) not in FREE:
                continue
            one = emoji[row["emoji"]]
            found.append({
                "id": f"{pack}/{row['id']}", "pack": pack, "file": row["audio"], "emoji": row["emoji"],
                "caption": one["name"], "picture": one["picture"], "language": row["language"],
                "voice": row.get("voice") or row.get("author"), "split": row["split"],
            })  # fmt: skip
    return found


@app.command()
def join(
    data: Path,
    folder: Path,
    humans: Annotated[bool, typer.Option(help="People's recordings as well.")] = True,
) -> None:
    """Copies clips and pictures into FOLDER, with a manifest of their roles."""
    lines = []
    for row in spoken(data):
        if row["pack"] == "words" and not humans:
            continue
        audio, picture = Path(row["pack"]) / row.pop("file"), Path(row["picture"])
        for source, target in ((data / audio, audio), (data / "emoji" / picture, picture)):
            if not (folder / target).exists():
                (folder / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / target)
        lines.append({**row, "audio": audio.as_posix()})
    write_atomically(
        folder / "manifest.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines).encode()
    )
    clips = sum(one["split"] == "train" for one in lines)
    typer.echo(f"{folder}: {clips} clips to train on, {len(lines) - clips} held out")


@app.command()
def recall(
    model: str,
    data: Path,
    split: Annotated[str, typer.Option(help="train or valid.")] = "valid",
    by: Annotated[str, typer.Option(help="What is found: picture or words.")] = "picture",
) -> None:
    """How often the emoji that was named is among the first, by pack and language, and by voice, of all that are named
    in the packs."""
    if by not in ("picture", "words"):
        raise Error(f"by is {by!r:.40}; give picture or words")
    encoders, rows = load_embedder(model), spoken(data)
    by_id = {row["emoji"]: row for row in rows}
    place = {emoji: i for i, emoji in enumerate(by_id)}
    if by == "picture":
        values: list[Any] = [Picture.read(data / "emoji" / row["picture"]) for row in by_id.values()]
        known = encoders.embed(values, encoders.role_of("picture"))
    else:
        known = encoders.embed([row["caption"] for row in by_id.values()], encoders.role_of(None))
    asked = [row for row in rows if row["split"] == split]
    role, vectors = encoders.role_of("audio"), []
    with ProgressBar("listening", "clips") as bar:
        for i, row in enumerate(asked):
            vectors.append(encoders.embed([AUDIO.read(data / row["pack"] / row["file"])], role))
            bar(i + 1, len(asked))
    nearest = (torch.cat(vectors) @ known.T).topk(max(FIRST)).indices.tolist()
    ranks = [found.index(place[row["emoji"]]) if place[row["emoji"]] in found else None
             for row, found in zip(asked, nearest, strict=True)]  # fmt: skip
    groupings: dict[str, Callable[[Row], str]] = {
        "language": lambda row: f"{row['pack']}, {row['language']}",
        "voice": lambda row: str(row["voice"]),
    }
    for name, group in groupings.items():
        by_group: dict[str, list[int | None]] = defaultdict(list)
        for row, rank in zip(asked, ranks, strict=True):
            by_group[group(row)].append(rank)
        typer.echo(f"by {name}, among {len(place)} emoji")
        for key, found in sorted(by_group.items()):
            line = f"  {key:32} {len(found):4}"
            for first in FIRST:
                estimate = share(sum(rank is not None and rank < first for rank in found), len(found))
                line += f"  @{first} {estimate.value:6.1%} ({estimate.low:.1%} to {estimate.high:.1%})"
            typer.echo(line)


if __name__ == "__main__":
    try:
        app()
    except Error as error:
        raise SystemExit(f"voices: {error}") from None
