"""What a reference implementation said: a folder of fixtures with its own sizes and tolerances.

Tests of parity take every size from here, so they hold for any folder that the same reference made: other seeds, other
sizes, other options. `CYMATIC_FIXTURES` names another root with folders of the same names.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Reference:
    """Configuration, inputs and expected outputs of a folder; `atol`: how near each output has to come, or "exact"."""

    folder: Path
    config: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    expected: dict[str, torch.Tensor]
    atol: dict[str, float | str]

    @classmethod
    def of(cls, folder: Path) -> Reference:
        said = json.loads((folder / "fixture.json").read_text(encoding="utf-8"))
        return cls(
            folder, said["config"], numbers(folder, "inputs"), numbers(folder, "expected"), said["suggested_atol"]
        )

    def agrees(self, name: str, got: torch.Tensor, atol: float | None = None) -> None:
        """Fails where `got` is further from the expected output than the folder says, or else than `atol`."""
        wanted, near = self.expected[name], self.atol[name] if atol is None else atol
        if near == "exact":
            assert got.shape == wanted.shape and torch.equal(got, wanted.to(got.dtype)), name
        else:
            torch.testing.assert_close(
                got.detach().to(wanted.dtype), wanted, atol=float(near), rtol=0, msg=lambda said: f"{name}: {said}"
            )


def numbers(folder: Path, name: str) -> dict[str, torch.Tensor]:
    with np.load(folder / f"{name}.npz") as held:
        return {key: torch.from_numpy(held[key]) for key in held}
