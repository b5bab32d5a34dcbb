"""Sounds by the thousand -> shards of codes, on the cores of this machine or on a cluster, interrupted or not.

The work is cut into units, one for each shard (`data.bulk_units`). A shard appears whole or not at all, its summary
after it, and the same unit gives the same bytes: so a unit can be done twice without harm, and one that was done is not
done again. That is all there is to resuming, and to losing workers.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cymatic.config import Config
from cymatic.data.bulk_units import BulkInputs, Unit, read_inputs
from cymatic.data.captions_by_name import Captions
from cymatic.data.rows import Skipped, check_strictly
from cymatic.data.shards import SHARD
from cymatic.errors import Error
from cymatic.files import write_atomically
from cymatic.folder_lock import only_writer
from cymatic.pipelines.bulk_encoder import BulkEncoder, BulkJob, ShardSummary
from cymatic.pipelines.load import find_model, load_codec

Engine = Literal["local", "ray"]
PLAN, SUMMARY = "plan.json", "summary.json"
CLIPS = 256  # files of a folder in a shard
MOST_NAMED = 20  # of what was left out, in the last summary


class Plan(Config):
    """What a folder of shards is: codes of `sha256` (the model) at `kbps`, of what has the fingerprint `inputs`."""

    format: Literal[1] = 1
    model: str
    sha256: str
    kbps: float
    entropy: bool
    clips: int
    inputs: str
    shards: int


@dataclass
class Totals:
    """All shards together; `before`: how many of them were there already; `captions_by`: how their captions were
    made."""

    shards: int = 0
    before: int = 0
    sounds: int = 0
    seconds: float = 0.0
    bytes: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    captions_by: Captions = "auto"

    def add(self, one: ShardSummary) -> None:
        self.shards += 1
        self.sounds += one.sounds
        self.seconds += one.seconds
        self.bytes += one.bytes
        self.skipped += [Skipped(*skipped) for skipped in one.skipped]


def encode_in_bulk(
    source: Path,
    out: Path,
    model: str | Path,
    kbps: float | None = None,
    *,
    engine: Engine = "local",
    workers: int = 1,
    clips: int = CLIPS,
    entropy: bool = False,
    strict: bool = False,
    device: str = "cpu",
    captions_by: Captions = "auto",
    say: Callable[[str], None] = print,
    on_shard: Callable[[int, int], None] = lambda done, total: None,
) -> Totals:
    """Encodes a folder of sounds, or tar archives of them, into shards of codes in `out`; goes on where it stopped.

    workers: processes of this machine, or of the cluster. What is broken is named, skipped and counted; with `strict`
    it stops the work. on_shard: told how many shards are there, and how many there will be. Raises Error for an output
    that holds the codes of another plan, ModelError for a model that is no codec, and what `read_inputs` raises.
    """
    if out.absolute() in (source.absolute(), source.absolute().parent if source.is_file() else None):
        raise Error(f"{out} holds the sounds; give another folder for their codes")
    folder = find_model(model)
    codec = load_codec(model, device=device)
    kbps = codec.rates[codec.levels(kbps) - 1]
    work = read_inputs(source, clips, captions_by)
    plan = Plan(
        model=codec.name, sha256=codec.sha256, kbps=kbps, entropy=entropy, clips=clips, inputs=work.fingerprint,
        shards=len(work.units),
    )  # fmt: skip
    if strict:
        check_strictly(list(work.skipped))
    # A starter goes by its name, since it may lie elsewhere on another machine.
    name = str(model) if folder.name == str(model) and not Path(model).exists() else str(folder.absolute())
    job = BulkJob(name, codec.sha256, kbps, work.root.absolute(), out.absolute(), entropy, strict, device)
    del codec
    with only_writer(out):
        _agree(plan, out)
        return _work(work, job, plan, engine, workers, say, on_shard)


def _work(
    work: BulkInputs, job: BulkJob, plan: Plan, engine: Engine, workers: int, say: Callable[[str], None],
    on_shard: Callable[[int, int], None],
) -> Totals:  # fmt: skip
    totals = Totals(skipped=list(work.skipped), captions_by=work.captions_by)
    if work.chosen:
        say(f"chosen {work.chosen}")
    open_units = []
    for unit in work.units:
        if (done := done_before(job.out, unit)) is None:
            open_units.append(unit)
        else:
            totals.add(done)
            totals.before += 1
    if totals.before:
        say(f"{totals.before} of {plan.shards} shards are there already")
    if open_units:
        on_shard(totals.shards, plan.shards)
        for summary in _engine(engine)(open_units, job, workers):
            totals.add(summary)
            on_shard(totals.shards, plan.shards)
            for name, why, _ in summary.skipped:
                say(f"skipped {name}: {why}")
            say(f"{summary.shard}  {summary.sounds} sounds, {summary.seconds:.1f} s, {summary.bytes} bytes")
    for left in job.out.glob(".cymatic-*.tmp"):  # of workers that were lost
        left.unlink(missing_ok=True)
    totals.skipped.sort(key=lambda one: one.name)
    _write_totals(job.out, totals)
    if not totals.sounds:
        raise Error(f"none of the sounds in {job.root} could be encoded; {SUMMARY} in {job.out} says why")
    return totals


def _engine(engine: Engine) -> Callable[[Sequence[Unit], BulkJob, int], Iterator[ShardSummary]]:
    if engine == "local":
        return local
    from cymatic.pipelines.bulk_ray import on_ray

    return on_ray


def local(units: Sequence[Unit], job: BulkJob, workers: int) -> Iterator[ShardSummary]:
    """Does the units in processes of this machine, in no particular order; one worker is this very process."""
    if workers == 1:
        yield from _here(units, job)
        return
    # Fresh processes: a copy of one that has used torch may wait for threads that it does not have.
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(min(workers, len(units)), context, _begin, (job,)) as pool:
            futures = [pool.submit(_do, unit) for unit in units]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    except BrokenProcessPool:
        raise Error("a worker was killed; the shards that are done stay, so give the same command again") from None


def _here(units: Sequence[Unit], job: BulkJob) -> Iterator[ShardSummary]:
    import torch

    threads = torch.get_num_threads()
    try:
        yield from map(BulkEncoder(job), units)
    finally:
        torch.set_num_threads(threads)


_encoder: BulkEncoder | Error | None = None


def _begin(job: BulkJob) -> None:
    global _encoder
    try:
        _encoder = BulkEncoder(job)
    except Error as error:  # raised here it would end the process without a word
        _encoder = error


def _do(unit: Unit) -> ShardSummary:
    if isinstance(_encoder, Error):
        raise _encoder
    assert _encoder is not None
    return _encoder(unit)


def _agree(plan: Plan, out: Path) -> None:
    """Writes the plan, or makes sure that it is the one that is there."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / PLAN
    if not path.exists():
        if any(out.glob(f"*{SHARD}")):
            raise Error(f"{out} holds archives and no {PLAN}; give another folder")
        write_atomically(path, plan.model_dump_json(indent=2).encode() + b"\n")
        return
    try:
        before = Plan.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise Error(f"{path} can't be read; give another folder") from None
    other = [name for name, value in plan if dict(before)[name] != value]
    if other:
        what = {"inputs": "sounds", "sha256": "model", "clips": "clips a shard"}
        names = ", ".join(dict.fromkeys(what.get(name, name) for name in other if name not in ("model", "shards")))
        raise Error(
            f"{out} holds the codes of another plan (other {names or 'name of the model'}); give another folder"
        )


def done_before(out: Path, unit: Unit) -> ShardSummary | None:
    """The summary of a shard that is whole; None where it is yet to be made."""
    try:
        summary = ShardSummary.model_validate_json((out / f"{unit.shard}.json").read_bytes())
        whole = (out / f"{unit.shard}{SHARD}").stat().st_size == summary.bytes
    except (OSError, ValueError):
        return None
    return summary if whole and summary.shard == unit.shard else None


def _write_totals(out: Path, totals: Totals) -> None:
    values = {
        "format": 1, "shards": totals.shards, "sounds": totals.sounds, "seconds": round(totals.seconds, 3),
        "bytes": totals.bytes, "skipped": len(totals.skipped),
        "such_as": [f"{one.name}: {one.why}" for one in totals.skipped[:MOST_NAMED]],
    }  # fmt: skip
    write_atomically(
        out / SUMMARY, json.dumps(values, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    )
