"""Tensors of another project under our names: every one has its place and its shape, and each that has not is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from cymatic.errors import ModelError

Table = dict[str, tuple[str, ...]]  # our name of a tensor -> theirs, several where they lie one under the other here


def fitting(
    tensors: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    table: Table,
    otherwise: str,
    *,
    say: Callable[[str], str] = lambda name: name,
    reshaped: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> dict[str, Tensor]:
    """The tensors under our names, as float32. own: ours, for their shapes; say: how a file calls one of theirs;
    reshaped: one of theirs in the shape that it has here.

    Raises ModelError naming every difference after the words `otherwise`.
    """
    expected = {name for group in table.values() for name in group}
    problems = [f"{say(name)} is unexpected" for name in tensors if name not in expected]
    found: dict[str, list[Tensor]] = {}
    for ours, theirs in table.items():
        missing = [name for name in theirs if name not in tensors]
        problems += [f"{say(name)} is missing" for name in missing]
        if missing:
            continue
        wanted = own[ours].shape
        part = (wanted[0] // len(theirs), *wanted[1:])
        for name in theirs:
            got = reshaped(name, tensors[name])
            if tuple(got.shape) != part:
                problems.append(f"{say(name)} is {list(tensors[name].shape)} and should be {list(part)}")
            elif not got.is_floating_point() or not bool(got.isfinite().all()):
                problems.append(f"{say(name)} holds NaN, infinity or no fractions")
            else:
                found.setdefault(ours, []).append(got.float())
    if problems:
        raise ModelError(f"{otherwise}: {'; '.join(sorted(problems))}")
    return {ours: torch.cat(parts) for ours, parts in found.items()}


def size_of(tensors: Mapping[str, Tensor], name: str, dims: int, where: Path, what: str) -> torch.Size:
    """The shape of a tensor that tells a size. Raises ModelError where there is none of so many dimensions."""
    if name not in tensors or tensors[name].dim() != dims:
        found = f"it is {list(tensors[name].shape)}" if name in tensors else "it is missing"
        raise ModelError(f"{where} is no {what} that is known here: {name} should tell a size, and {found}")
    return tensors[name].shape
