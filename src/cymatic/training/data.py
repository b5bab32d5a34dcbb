"""What a run is trained on, written down beside it, so that a resumed run notices other data."""

from __future__ import annotations

import json
from pathlib import Path

from cymatic.files import write_atomically
from cymatic.training.built import Known

DATA = "data.json"


def remember_data(run: Path, data: Known) -> None:
    """Writes down what a run is trained on."""
    values = {"format": 1, "sha256": data.fingerprint, "train": len(data.train), "valid": len(data.valid)}
    write_atomically(run / DATA, json.dumps(values, indent=2).encode())


def changes(run: Path, data: Known) -> str | None:
    """One sentence where a resumed run meets other clips than it began with; None where it doesn't, or can't know."""
    try:
        before = json.loads((run / DATA).read_text(encoding="utf-8"))
        then = f"{before['train']} clips to train on and {before['valid']} held out"
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if before.get("sha256") == data.fingerprint:
        return None
    return (
        f"the clips have changed since this run began with {then}; it goes on with the {len(data.train)} and "
        f"{len(data.valid)} that are there now"
    )
