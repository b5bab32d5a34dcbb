"""What a training run will do, said before it starts: data, model, time and disk."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

from torch import nn

from cymatic.data.examples import Data
from cymatic.errors import Error
from cymatic.training.pace import Pace
from cymatic.training.settings import TrainingSettings


def describe_data(data: Data) -> tuple[str, ...]:
    """What items there are, and what a part reads of them."""
    captions = {one.caption for one in data.train if one.caption}
    minutes = f"{data.seconds / 60:.1f} minutes" if data.seconds else ""
    said = ", ".join(filter(None, (minutes, f"{len(captions)} captions" if captions else "")))
    return (
        f"data   {len(data.train)} items to train on{f' ({said})' if said else ''}, {len(data.valid)} held out",
        f"reads  {data.spec.describe()}",
    )


def time_and_disk(settings: TrainingSettings, task: nn.Module, pace: Pace) -> list[str]:
    """How long it takes at this pace, and how much of the disk."""
    if settings.steps is not None:
        length = f"{settings.steps} steps, some {pace.seconds(settings.steps) / 60:.1f} minutes on this machine"
    else:
        assert settings.minutes is not None
        minutes, most = settings.minutes, settings.most_steps
        fit = pace.steps_in(minutes * 60)
        length = f"{minutes:.3g} minutes, some {fit} steps on this machine"
        if most is not None and most < fit:
            length = f"{most} steps, some {pace.seconds(most) / 60:.1f} of {minutes:.3g} minutes on this machine"
    return [f"time   {length}, seed {settings.seed}", f"disk   {disk_bytes(task) / 1e6:.0f} MB at most"]


def measured_pace(task: Any, batch: Any) -> Pace:
    """How long the gradient of one batch takes, each at its second time: of a first step, and of one with all that the
    task has later. Leaves weights and buffers as they are."""
    turn = task.full_from
    early = _seconds(task, batch, 0)
    return Pace(early, _seconds(task, batch, turn) if turn else early, turn)


def _seconds(task: Any, batch: Any, step: int) -> float:
    buffers = [buffer.clone() for buffer in task.buffers()]
    task.steps.fill_(step)
    began = 0.0
    for _ in range(2):
        began = time.monotonic()
        task(batch, 0)["loss"].backward()
        task.zero_grad(set_to_none=True)
    seconds = time.monotonic() - began
    for buffer, before in zip(task.buffers(), buffers, strict=True):
        buffer.copy_(before)
    return seconds


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
