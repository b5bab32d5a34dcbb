"""`cymatic encode FOLDER --engine local | ray`: sounds by the thousand into shards of codes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast


def bulk_command(
    source: Path,
    output: Path,
    model: str,
    kbps: float | None,
    engine: str,
    *,
    workers: int | None,
    clips: int,
    entropy: bool,
    strict: bool,
    device: str,
    captions: str | None = None,
) -> None:
    """Prints a line for each shard, and what all of them hold; what is skipped goes to stderr."""
    from cymatic.apps.captions_option import captions_asked
    from cymatic.apps.progress import ProgressBar
    from cymatic.apps.terminal import printable
    from cymatic.config import nearest
    from cymatic.errors import Error
    from cymatic.pipelines.bulk import SUMMARY, Engine, encode_in_bulk

    if engine not in ("local", "ray"):
        raise Error(f'there is no engine "{engine}"; {nearest(engine, ("local", "ray"))}')
    if str(output) == "-" or output.is_file():
        raise Error("shards need a folder; give one with -o")
    if not 1 <= clips <= 100_000:
        raise Error(f"{clips} sounds a shard were asked for; give a number from 1 to 100,000")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = cores if workers is None else workers
    if not 1 <= workers <= 10_000:
        raise Error(f"{workers} workers were asked for; give a number from 1 to 10,000")

    def say(line: str) -> None:
        print(printable(line), file=sys.stderr if line.startswith(("skipped", "chosen")) else sys.stdout, flush=True)

    with ProgressBar("encoding", "shards") as progress:
        totals = encode_in_bulk(
            source, output, model, kbps, engine=cast(Engine, engine), workers=workers, clips=clips, entropy=entropy,
            strict=strict, device=device, captions_by=captions_asked(captions) or "auto", say=say, on_shard=progress,
        )  # fmt: skip
    print(
        f"{totals.shards} shards, {totals.sounds} sounds, {totals.seconds / 3600:.2f} hours, {totals.bytes} bytes; "
        f"{len(totals.skipped)} skipped (see {printable(str(output / SUMMARY))})"
    )
