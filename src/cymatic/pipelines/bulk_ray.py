"""Work in bulk on a cluster, by Ray Data: the units are a data set, and the encoders are the actors that it goes
through.

The folders of sounds and of shards must be the same on all machines. RAY_ADDRESS names the cluster; without it a local
one is started, and ended afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from cymatic.data.bulk_units import Unit
from cymatic.errors import Error
from cymatic.pipelines.bulk_encoder import BulkEncoder, BulkJob, ShardSummary

OBJECTS = 100 * 2**20  # bytes of Ray's object store on this machine: units and summaries are small


class RayEncoder:
    """An actor: a batch of one unit in, its summary out; what a user can mend comes out as a sentence."""

    def __init__(self, job: BulkJob) -> None:
        try:
            self.encoder: BulkEncoder | Error = BulkEncoder(job)
        except Error as error:
            self.encoder = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        summary, trouble = "", ""
        try:
            if isinstance(self.encoder, Error):
                raise self.encoder
            summary = self.encoder(Unit.model_validate_json(str(batch["unit"][0]))).model_dump_json()
        except Error as error:
            trouble = str(error)
        return {"summary": [summary], "error": [trouble]}


def on_ray(units: Sequence[Unit], job: BulkJob, workers: int) -> Iterator[ShardSummary]:
    """Does the units on a cluster, in no particular order; those of a worker that is lost are done by another.

    Raises Error where Ray is not installed.
    """
    if find_spec("ray") is None:
        raise Error('Ray is not installed; pip install "cymatic[cluster]", or leave the engine at local')
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    own = not ray.is_initialized()
    if own:
        _start(ray, workers)
    try:
        DataContext.get_current().enable_progress_bars = False
        rows = [{"unit": unit.model_dump_json()} for unit in units]
        done = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            RayEncoder,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=1,
            num_gpus=1 if job.device.startswith("cuda") else None,
        )  # actors that are lost are restarted, and their units done again, without end: Ray Data's default
        for row in done.iter_rows():
            if row["error"]:
                raise Error(row["error"])
            yield ShardSummary.model_validate_json(row["summary"])
    except ray.exceptions.RayError as error:
        raise Error(
            f"the cluster failed ({_first(error)}); the shards that are done stay, so give the same command again"
        ) from error
    finally:
        if own:
            ray.shutdown()


def _start(ray: Any, workers: int) -> None:
    """Connects to the cluster that RAY_ADDRESS names, or starts one here. Raises Error where that fails."""
    try:
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False)
        else:
            ray.init(
                address="local", num_cpus=workers, object_store_memory=OBJECTS, include_dashboard=False,
                log_to_driver=False,
            )  # fmt: skip
    except Exception as error:  # Ray raises bare ones, as where a busy machine takes longer than 30 s
        raise Error(
            f"Ray could not be reached or started ({_first(error)}); look at RAY_ADDRESS, try again, or leave the "
            "engine at local"
        ) from error


def _first(error: Exception) -> str:
    """The first line of what Ray says, which may go on for pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300].rstrip(".")
