"""A run's state on disk: everything that makes a resumed run equal to an uninterrupted one, bit for bit.

`state/step-N/` holds `state.safetensors` (weights, their average, the optimiser) and `state.json` (step, best score,
time spent). A new folder is written beside the old one and renamed into place, and the old one goes only when that is
on the disk: a kill or a power cut at any moment leaves one.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from cymatic.errors import ModelError
from cymatic.files import sync, write_atomically
from cymatic.hub.parts import read_json, read_tensors

FORMAT = 2  # of a state; the first had no number, and other names for tensors
STATE = "state"  # the folder, in that of the part that gives a stage its name


@dataclass
class Decided:
    """What a run by minutes has made of them so far: the `steps` that it makes, at `most` so many since the loss held
    out has risen, and from which step (`since`) the rates fall from which `share` of theirs."""

    steps: int | None = None
    most: int | None = None
    since: int | None = None
    share: float = 1.0


@dataclass
class Progress:
    """How far a run has come. `best` is the lowest validation loss so far, `best_step` that of the weights kept,
    `worse` how many checkpoints in a row were clearly above it, `seconds` the time spent training, `data` the
    fingerprint of the data that all this is about (empty in states of earlier versions)."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    seconds: float = 0.0
    decided: Decided = field(default_factory=Decided)
    data: str = ""


def save_state(
    folder: Path, task: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer, at: Progress
) -> None:
    """Writes `folder/step-N` and removes the states before it. Raises Error where it can't; the state before stays."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    tensors.update({f"task.{name}": tensor for name, tensor in task.state_dict().items()})
    tensors.update({f"average.{name}": tensor for name, tensor in average.state_dict().items()})
    for index, values in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer.{index}.{name}": torch.as_tensor(value) for name, value in values.items()})
    temporary = folder / "writing.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(temporary / "state.safetensors", save(stored))
        write_atomically(temporary / "state.json", json.dumps({"format": FORMAT, **asdict(at)}).encode())
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    final = folder / f"step-{at.step}"
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync(folder)
    for other in folder.glob("step-*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def has_state(folder: Path) -> bool:
    return any(folder.glob("step-*"))


def read_progress(folder: Path) -> Progress:
    """How far the newest state came. Raises ModelError where it is damaged, or of another version."""
    path = _newest(folder) / "state.json"
    values = read_json(path)
    if (found := values.pop("format", 1)) != FORMAT:
        raise ModelError(
            f"{path} was written by {'an earlier' if found == 1 else 'another'} version, and this one can't resume it; "
            f"finish the run with that version, or begin a new one that goes on from its weights: --from "
            f"{path.parents[3]} --out NEW"
        )
    try:
        return Progress(**{**values, "decided": Decided(**values.get("decided", {}))})
    except TypeError as error:
        raise ModelError(f"{folder} does not fit this version: {error}") from None


def _newest(folder: Path) -> Path:
    return max(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def load_state(folder: Path, task: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Fills the modules and the optimiser from the newest state. Raises ModelError where it is damaged or another's."""
    newest, progress = _newest(folder), read_progress(folder)
    tensors = read_tensors(newest / "state.safetensors")
    packed = optimizer.state_dict()
    packed["state"] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            packed["state"].setdefault(int(index), {})[key] = tensor
    try:
        for prefix, module in (("task.", task), ("average.", average)):
            module.load_state_dict({n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})
        optimizer.load_state_dict(packed)
        return progress
    except (RuntimeError, TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{newest} does not fit the run's recipe: {' '.join(str(error).split())[:200]}") from None
