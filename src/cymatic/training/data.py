"""What a run is trained on, written down beside it, so that a resumed run finds it again and notices other data."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cymatic.errors import Error
from cymatic.files import write_atomically
from cymatic.training.built import Known
from cymatic.training.recipe import Recipe

DATA = "data.json"


@dataclass(frozen=True)
class Remembered:
    """What a run began with. stage: which of its stages. folder: as the recipe names it; relative: from the run."""

    sha256: str
    train: int
    valid: int
    stage: str | None = None
    folder: str | None = None
    relative: str | None = None


def remember_data(run: Path, data: Known, *, stage: str | None = None, folder: str | None = None) -> None:
    """Writes down what a stage of a run is trained on, and where that lies."""
    _write(run, Remembered(data.fingerprint, len(data.train), len(data.valid), stage, folder, _relative(run, folder)))


def remember_place(run: Path, before: Remembered, folder: str | None) -> None:
    """Writes down where the data lie now; what a run began with stays as it was."""
    counts = (before.sha256, before.train, before.valid, before.stage)
    _write(run, Remembered(*counts, folder, _relative(run, folder)))


def remembered(run: Path) -> Remembered | None:
    """What a run began with; None where nobody wrote it down, or it can't be read."""
    try:
        values: dict[str, Any] = json.loads((run / DATA).read_text(encoding="utf-8"))
        known = {name: values[name] for name in Remembered.__dataclass_fields__ if name in values}
        return Remembered(**{**known, "train": int(values["train"]), "valid": int(values["valid"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def noticed(before: Remembered, data: Known, stage: str, folder: str | None) -> list[str]:
    """What a resumed run meets otherwise than it began, in sentences: the place of its items, and the items.

    Another stage reads the items in its own way, so what one began with says nothing about theirs.
    """
    lines = []
    comparable, same = before.stage in (None, stage), before.sha256 == data.fingerprint
    if before.folder is not None and folder not in (None, before.folder):
        known = ", and they are the same" if comparable and same else ""
        lines.append(f"the items are read from {folder} now, and no longer from {before.folder}{known}")
    if comparable and not same:
        lines.append(
            f"the items have changed since this run began with {before.train} items to train on and {before.valid} "
            f"held out; it goes on with the {len(data.train)} and {len(data.valid)} that are there now"
        )
    return lines


def located(recipe: Recipe, run: Path, folder: Path | None) -> Recipe:
    """The recipe of a run to resume with its data where they are now: in `folder` where that is given, else where they
    were, else where they lie as seen from the run, which may have been moved along with them.

    Raises Error where they are nowhere.
    """
    was = recipe.data.folder
    if folder is not None:
        return recipe.at(str(folder.resolve()))
    if was is None or os.path.exists(was):
        return recipe
    before = remembered(run)
    if before is not None and before.relative is not None and before.folder == was:
        near = Path(os.path.normpath(run.resolve() / before.relative))
        if near.exists():
            return recipe.at(str(near))
    raise Error(
        f"{was}, which {run} is trained on, is not there; say where it is now: cymatic train FOLDER --resume --out "
        f"{run}"
    )


def check_apart(recipe: Recipe, run: Path) -> None:
    """Raises Error where a run would be written into the very folder that it is trained on."""
    base = Path(recipe.data.folder or ".")
    for folder in [base / pack.folder for pack in recipe.data.packs] or [base]:
        if run.exists() and folder.exists() and os.path.samefile(run, folder):
            raise Error(f"{run} holds what is trained on, and a run is a folder of its own; give another with --out")


def _relative(run: Path, folder: str | None) -> str | None:
    try:
        return None if folder is None else os.path.relpath(folder, run.resolve())
    except ValueError:  # on another drive
        return None


def _write(run: Path, values: Remembered) -> None:
    write_atomically(run / DATA, json.dumps({"format": 1, **values.__dict__}, indent=2).encode())
