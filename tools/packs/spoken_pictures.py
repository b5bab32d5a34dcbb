#!/usr/bin/env python3
"""Writes one manifest of voices and their pictures, of the packs `stamps`, `words` and `spoken-emoji` side by side.

    python tools/packs/spoken_pictures.py shared/data -o shared/data/spoken-pictures.jsonl
    cymatic train shared/data/spoken-pictures.jsonl --recipe my-speech-to-picture.yaml

The packs name pictures by ids, in each other's manifests. Here each line has the roles `audio` and `picture` as files
from the manifest's own folder on, so it must lie in DATA or above; no file is copied. The caption is `text`: what is
said where the packs know it, and else the concept; `name` is the English one; rows of one picture are one group. No
split cuts across a picture: it is held out where its own pack says so, or else where most of its recordings are. A
recording that its pack holds out, of a picture that is trained on, is in `test`, and so in neither. Copies are left
out; licences are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
KEPT = ("language", "voice", "speaker", "author", "licence", "kind", "seconds")


def rows_of(path: Path) -> list[Row]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []


def pictures(data: Path) -> dict[tuple[str, str], Row]:
    """By pack and id, where each picture lies, what it shows, in which split it is, and under which licence it lies."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows_of(data / "emoji" / "manifest.jsonl"):
        found["emoji", row["id"]] = {"file": f"emoji/{row['picture']}", "name": row["name"], "split": row.get("split")}
    for row in rows_of(data / "stamps" / "pictures.jsonl"):
        name = row.get("captions", {}).get("en") or row["id"].rpartition("/")[2].replace("_", " ")
        found["stamps", row["id"]] = {"file": f"stamps/{row['picture']}", "name": name, "split": row.get("split")}
    return found


def spoken(data: Path) -> Iterator[tuple[str, Row, tuple[str, str]]]:
    """Each recording of a picture: its pack, its row and the picture's pack and id."""
    for row in rows_of(data / "stamps" / "speech.jsonl"):
        yield "stamps", row, ("stamps", str(row.get("picture")))
    for pack in ("words", "spoken-emoji"):
        for row in rows_of(data / pack / "manifest.jsonl"):
            for key, of in (("emoji", "emoji"), ("stamp", "stamps")):
                if row.get(key):
                    yield pack, row, (of, str(row[key]))
                    break


def lines(data: Path, place: Path) -> tuple[list[Row], Counter[str]]:
    """The manifest, its files named from `place` on; and what was left out, counted by the reason."""
    known, left = pictures(data), Counter[str]()
    found: list[tuple[Row, tuple[str, str]]] = []
    for pack, row, key in spoken(data):
        audio = f"{pack}/{row['audio']}"
        if key not in known:
            left[f"of {pack} whose picture is in no pack"] += 1
        elif row.get("duplicate_of"):
            left[f"of {pack} that are copies"] += 1
        elif not (data / audio).is_file() or not (data / known[key]["file"]).is_file():
            left[f"of {pack} with a file that is not there"] += 1
        else:
            picture = known[key]
            text = row.get("text") or row.get("concept") or picture["name"]
            files = {role: os.path.relpath(data / path, place).replace(os.sep, "/")
                     for role, path in (("audio", audio), ("picture", picture["file"]))}  # fmt: skip
            said = {"id": f"{pack}/{row['id']}", **files, "text": text, "name": picture["name"], "pack": pack}
            said |= {name: row[name] for name in KEPT if row.get(name) is not None}
            found.append(({**said, "group": "/".join(key), "split": row.get("split") or "train"}, key))
    shares: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for line, key in found:
        shares[key].append(line["split"] == "valid")
    held_out = {key: _is_held_out(known[key]["split"], some) for key, some in shares.items()}
    return [{**line, "split": _split(line["split"], held_out[key])} for line, key in found], left


def _is_held_out(split: str | None, held_out: list[bool]) -> bool:
    return split == "valid" if split else sum(held_out) > len(held_out) / 2


def _split(own: str, held_out: bool) -> str:
    """Of a recording, by its own pack's split and whether its picture is held out."""
    return "valid" if held_out else "test" if own == "valid" else own


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the packs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the manifest to write")
    given = parser.parse_args(arguments)
    place = given.output.absolute().parent
    if not given.data.absolute().is_relative_to(place):
        sys.exit(f"a manifest names files in its own folder; write it into {given.data} or above")
    found, left = lines(given.data, place)
    for why, count in sorted(left.items()):
        print(f"skipped {count} {why}", file=sys.stderr)
    if not found:
        sys.exit(
            f"{given.data} has no pack of voices with pictures: stamps, words with emoji, or spoken-emoji with emoji"
        )
    part = given.output.with_name(f".{given.output.name}.{os.getpid()}")
    part.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found), encoding="utf-8")
    part.replace(given.output)
    counts = Counter((one["pack"], one["split"]) for one in found)
    each = ", ".join(f"{count} of {pack} ({split})" for (pack, split), count in sorted(counts.items()))
    print(f"{given.output}: {len(found)} voices of {len({one['group'] for one in found})} pictures; {each}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
