"""What a training run will do, said before it starts: data, model, time and disk."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from cymatic.data.mels import Batch, Clip
from cymatic.errors import Error
from cymatic.signal.mel import MelSpec
from cymatic.training.prior_task import PriorTask
from cymatic.training.recipe import Recipe


def describe(
    recipe: Recipe, spec: MelSpec, train: Sequence[Clip], valid: Sequence[Clip], task: nn.Module, pace: float
) -> list[str]:
    """The plan in a few lines; `pace` is what a step takes, in seconds."""
    captions = Counter(clip.caption for clip in train)
    seconds = sum(spec.seconds(clip.mel.shape[1]) for clip in train)
    settings = recipe.training
    if settings.steps is not None:
        length = f"{settings.steps} steps, some {settings.steps * pace / 60:.1f} minutes on this machine"
    else:
        assert settings.minutes is not None
        length = f"{settings.minutes:g} minutes, some {settings.minutes * 60 / pace:.0f} steps on this machine"
    lines = [
        f"data   {len(train)} clips to train on ({seconds / 60:.1f} minutes, {len(captions)} captions), "
        f"{len(valid)} held out",
        f"mel    {spec.rate} Hz, {spec.mels} mels, {spec.rate / spec.hop:g} frames a second",
        f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {min(settings.batch, len(train))}",
        f"time   {length}, seed {settings.seed}",
        f"disk   {disk_bytes(task) / 1e6:.0f} MB at most",
    ]
    if not valid:
        lines.append("note   no clip is held out, so the last weights are kept and overfitting can't be seen")
    return lines


def seconds_a_step(task: PriorTask, batch: Batch) -> float:
    """How long the gradient of one batch takes, at its second time; leaves the weights as they are."""
    for _ in range(2):
        began = time.monotonic()
        task(batch, 0)["loss"].backward()
        task.zero_grad(set_to_none=True)
    return time.monotonic() - began


def parameters(task: nn.Module) -> int:
    return sum(p.numel() for p in task.parameters())


def disk_bytes(task: nn.Module) -> int:
    """Parts, and two states of weights, average and two moments of the optimiser while one replaces the other."""
    return 4 * parameters(task) * (1 + 2 * 4)


def check_place(run: Path) -> None:
    """Raises Error where no folder `run` can be made or written to; nothing is made yet."""
    place = _there(run)
    if not place.is_dir():
        raise Error(f"{run} can't hold a run, for {place} is a file; give another folder with --out")
    if not os.access(place, os.W_OK):
        raise Error(f"{run} can't hold a run, for you may not write to {place}; give another folder with --out")


def _there(path: Path) -> Path:
    """`path` or the nearest folder above it that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())


def check_disk(run: Path, task: nn.Module) -> None:
    """Raises Error where the run would not fit on the disk."""
    need, free = disk_bytes(task), shutil.disk_usage(_there(run)).free
    if free < need:
        raise Error(
            f"{run} has {free / 1e6:.0f} MB free and the run needs {need / 1e6:.0f} MB; free some or give --out"
        )
