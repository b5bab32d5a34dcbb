"""One unit of bulk work: a worker with its codec, and the summary of the shard that it writes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cymatic.config import Config
from cymatic.data.bulk_units import Unit, named, samples_of
from cymatic.data.rows import Skipped, check_strictly
from cymatic.data.shards import SHARD, write_shard
from cymatic.errors import Error, ModelError, TemporaryError
from cymatic.files import write_atomically
from cymatic.pipelines.load import load_codec


class ShardSummary(Config):
    """One shard: its bytes, its sounds and their seconds, and what was left out: name, reason, whether it is broken."""

    format: Literal[1] = 1
    shard: str
    bytes: int
    sounds: int
    seconds: float
    skipped: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True)
class BulkJob:
    """What every worker has to know."""

    model: str
    sha256: str
    kbps: float
    root: Path
    out: Path
    entropy: bool = False
    strict: bool = False
    device: str = "cpu"


class BulkEncoder:
    """A worker: loads the codec once, then does one unit after the other, at one thread, so that it matters neither
    where nor beside what a unit is done."""

    def __init__(self, job: BulkJob) -> None:
        import torch

        torch.set_num_threads(1)
        self.job, self.codec = job, load_codec(job.model, device=job.device)
        if self.codec.sha256 != job.sha256:
            raise ModelError(
                f"{job.model} is another model here ({self.codec.sha256[:8]}) than where the work was planned "
                f"({job.sha256[:8]}); give all machines the same"
            )

    def __call__(self, unit: Unit) -> ShardSummary:
        """Writes the shard and then its summary. Raises Error where it can't, or, if strict, for a broken sound."""
        job, skipped, counts = self.job, list[Skipped](), {"sounds": 0, "seconds": 0.0}

        def sounds() -> Iterator[tuple[str, bytes, dict[str, Any]]]:
            for i, found in enumerate(samples_of(job.root, unit, skipped)):
                codes = io.BytesIO()
                try:
                    with named(found):
                        written = self.codec.encode_stream(found.path, codes, job.kbps, entropy=job.entropy)
                except (ModelError, TemporaryError):
                    raise
                except Error as error:
                    skipped.append(Skipped(found.name, str(error).removeprefix(f"{found.name} ")))
                    if job.strict:
                        check_strictly(skipped)
                    continue
                counts["sounds"] += 1
                counts["seconds"] += written.seconds
                about = {"caption": found.caption, "split": found.split, "source": found.name}
                yield f"{unit.number:06}-{i:06}", codes.getvalue(), {**about, "seconds": round(written.seconds, 6)}

        size = write_shard(job.out / f"{unit.shard}{SHARD}", sounds())
        if job.strict:
            check_strictly(skipped)
        summary = ShardSummary(
            shard=unit.shard,
            bytes=size,
            sounds=int(counts["sounds"]),
            seconds=round(counts["seconds"], 6),
            skipped=tuple((one.name, one.why, one.broken) for one in skipped),
        )
        write_atomically(job.out / f"{unit.shard}.json", summary.model_dump_json(indent=2).encode() + b"\n")
        return summary
