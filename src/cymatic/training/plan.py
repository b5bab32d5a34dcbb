"""What a training run will do, said before it starts: data, model, time and disk."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from cymatic.data.mels import Clip
from cymatic.errors import Error
from cymatic.signal.mel import MelSpec
from cymatic.training.recipe import Recipe


def describe(recipe: Recipe, spec: MelSpec, train: Sequence[Clip], valid: Sequence[Clip], task: nn.Module) -> list[str]:
    """The plan in a few lines."""
    captions = Counter(clip.caption for clip in train)
    seconds = sum(spec.seconds(clip.mel.shape[1]) for clip in train)
    settings = recipe.training
    length = f"{settings.steps} steps" if settings.steps else f"{settings.minutes:g} minutes"
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
