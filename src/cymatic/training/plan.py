"""What a training run will do, said before it starts: data, model, time and disk."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cymatic.data.batches import Sequenced
from cymatic.data.examples import Data, captions_of
from cymatic.errors import Error
from cymatic.training.loop import MEASURING
from cymatic.training.muon import Muon, clip_each_side
from cymatic.training.pace import Pace
from cymatic.training.settings import TrainingSettings

TRIED, TRIED_FOR, TRIED_SHARE = 8, 10.0, 0.03  # batches; seconds at most; of the time left
TRIED_STEPS = 0.05  # of the steps of a run that has a number of them


def describe_data(data: Data) -> tuple[str, ...]:
    """What items there are, and what a part reads of them."""
    captions = {one.caption for one in data.train if one.caption}
    texts = len(captions_of(data.train))
    minutes = f"{data.seconds / 60:.1f} minutes" if data.seconds else ""
    others = f" in {texts} texts" if texts > len(captions) else ""
    said = ", ".join(filter(None, (minutes, f"{len(captions)} captions{others}" if captions else "")))
    return (
        f"data   {len(data.train)} items to train on{f' ({said})' if said else ''}, {len(data.valid)} held out",
        f"reads  {data.spec.describe()}",
    )


def time_and_disk(
    settings: TrainingSettings, task: nn.Module, pace: Pace, seconds: float | None = None, begun: int = 0
) -> list[str]:
    """How long it takes at this pace, and how much of the disk. seconds: what is left of the minutes at step `begun`;
    None: all of them."""
    if settings.steps is not None:
        took = pace.seconds(settings.steps, begun) * (1 + MEASURING)
        length = f"{settings.steps} steps, some {took / 60:.1f} minutes on this machine"
    else:
        assert settings.minutes is not None
        minutes, most = settings.minutes, settings.most_steps
        left = 60 * minutes if seconds is None else seconds
        fit = begun + max(1, pace.steps_in(left / (1 + MEASURING), begun))
        length = f"{minutes:.3g} minutes, some {fit} steps on this machine"
        if most is not None and most < fit:
            took = pace.seconds(most, begun) * (1 + MEASURING)
            length = f"{most} steps, some {took / 60:.1f} of {minutes:.3g} minutes on this machine"
    return [f"time   {length}, seed {settings.seed}", f"disk   {disk_bytes(task) / 1e6:.0f} MB at most"]


def measured_pace(
    task: Any, batches: Sequenced, settings: TrainingSettings, seconds: float = TRIED_FOR, begun: int = 0
) -> Pace:
    """How long a step takes, of the first ones and of those with all that the task has later, where a run from step
    `begun` on meets both: the mean over batches that stand for all, in about `seconds`, and no more of them than are
    `TRIED_STEPS` of the run, but one. Leaves weights and buffers as they are."""
    optimizer = Muon(task.parameter_groups(settings), betas=settings.betas)  # at a rate of 0
    kept = [*task.parameters(), *task.buffers()]
    before = [tensor.detach().clone() for tensor in kept]
    turn, end = task.full_from, settings.steps
    met = [0] if begun < turn else []
    if not met or end is None or turn < end:
        met.append(turn)
    most = TRIED + 1 if end is None else max(1, int(TRIED_STEPS * (end - begun)) // len(met))
    some = in_pairs(batches.typical(counted(most)))

    def mean(step: int) -> float:
        task.steps.fill_(step)
        if most > 1:
            _step(task, batches[some[0]], optimizer, settings)  # the first takes longer
        began, taken = time.monotonic(), 0
        for number in some:
            _step(task, batches[number], optimizer, settings)
            taken += 1
            if taken % 2 == 0 and time.monotonic() - began > seconds / len(met):
                break
        return (time.monotonic() - began) / taken

    try:
        found = list(map(mean, met))
        return Pace(found[0], found[-1], turn)
    finally:
        task.zero_grad(set_to_none=True)
        with torch.no_grad():
            for tensor, value in zip(kept, before, strict=True):
                tensor.copy_(value)


def counted(most: int) -> int:
    """How many of `most` steps count: not the first, where there are others, and of several as many short as long
    ones."""
    some = min(TRIED, max(1, most - 1))
    return some if some < 2 else some // 2 * 2


def in_pairs(some: Sequence[int]) -> list[int]:
    """The last and the first, the last but one and the second and so on: the first few of them stand for all, too."""
    half = len(some) // 2
    pairs = [one for pair in zip(reversed(some), some[:half], strict=False) for one in pair]
    return [*pairs, *some[half : len(some) - half]]


def _step(task: Any, batch: Any, optimizer: Muon, settings: TrainingSettings) -> None:
    loss = task(batch, 0)["loss"]
    loss.backward()
    float(clip_each_side(optimizer, settings.clip))  # waits for the device
    optimizer.step()
    optimizer.zero_grad()


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
