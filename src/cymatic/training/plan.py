"""What a training run will do, said before it starts: data, model, time and disk."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

from torch import nn

from cymatic.errors import Error
from cymatic.training.data import Data, Waves
from cymatic.training.recipe import Recipe, TrainingSettings, VocoderRecipe
from cymatic.training.vocoder_task import VocoderTask


def describe(recipe: Recipe, data: Data, task: nn.Module) -> tuple[str, ...]:
    """What a prior over mels is trained on, and what it is, in a few lines."""
    settings = recipe.training
    batch = min(settings.batch, len(data.train))
    return (*describe_data(data), f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {batch}")


def describe_data(data: Data) -> tuple[str, ...]:
    """What clips there are, and their mel."""
    spec, captions = data.spec, Counter(clip.caption for clip in data.train)
    seconds = sum(spec.seconds(clip.mel.shape[1]) for clip in data.train)
    return (
        f"data   {len(data.train)} clips to train on ({seconds / 60:.1f} minutes, {len(captions)} captions), "
        f"{len(data.valid)} held out",
        f"mel    {spec.rate} Hz, {spec.mels} mels, {spec.rate / spec.hop:g} frames a second",
    )


def describe_vocoder(recipe: VocoderRecipe, data: Waves, task: VocoderTask) -> tuple[str, ...]:
    """As `describe`, for a vocoder."""
    spec, settings = recipe.mel_spec(), recipe.training
    seconds = sum(len(wave) for wave in data.train) / spec.rate
    return (
        f"data   {len(data.train)} sounds to train on ({seconds / 60:.1f} minutes), {len(data.valid)} held out",
        f"mel    {spec.rate} Hz, {spec.mels} mels, {spec.rate / spec.hop:g} frames a second",
        f"model  {parameters(task.vocoder) / 1e6:.1f} M parameters, and {parameters(task.judges) / 1e6:.1f} M of "
        f"judges from step {recipe.judges.alone} on; batches of {settings.batch} pieces of {recipe.judges.piece:g} s",
    )


def time_and_disk(settings: TrainingSettings, task: nn.Module, pace: float, minutes: float | None) -> list[str]:
    """How long it takes at `pace` seconds a step; `minutes`: what there is, where no steps are given."""
    if settings.steps is not None:
        length = f"{settings.steps} steps, some {settings.steps * pace / 60:.1f} minutes on this machine"
    else:
        assert minutes is not None
        fit, most = minutes * 60 / pace, settings.most_steps
        length = f"{minutes:g} minutes, some {fit:.0f} steps on this machine"
        if most is not None and most < fit:
            length = f"{most} steps, some {most * pace / 60:.1f} of {minutes:g} minutes on this machine"
    return [f"time   {length}, seed {settings.seed}", f"disk   {disk_bytes(task) / 1e6:.0f} MB at most"]


def seconds_a_step(task: nn.Module, batch: Any) -> float:
    """How long the gradient of one batch takes, at its second time; leaves weights and buffers as they are."""
    buffers = [buffer.clone() for buffer in task.buffers()]
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
