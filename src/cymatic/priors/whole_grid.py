"""What priors over grids of one size, as pictures are, ask of their codes: they are always whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Int
from torch import Tensor

from cymatic.config import Config
from cymatic.errors import Error
from cymatic.latent import TargetFacts


@runtime_checkable
class GridShape(Protocol):
    """A config that says how many codes there are, and how high and how wide every grid of them is."""

    @property
    def codes(self) -> int: ...

    @property
    def rows(self) -> int: ...

    @property
    def longest(self) -> int: ...


C = TypeVar("C", bound=Config)


def fitted_to(config: C, facts: TargetFacts) -> C:
    """`config` for the codes and the condition that the data and other parts decide. Raises Error where rows have
    different codes."""
    if len(set(facts.sizes)) != 1:
        raise Error(
            f"rows have {min(facts.sizes)} to {max(facts.sizes)} codes to choose from, and this prior is over grids "
            "whose rows are alike; give a gpt, or another codec"
        )
    found = {"codes": facts.sizes[0], "rows": facts.rows, "longest": facts.longest, "cond_dim": facts.cond_dim}
    values: Any = {**dict(config), **found}
    return config.parse(values, "the prior")


def check_grid(config: GridShape, codes: Int[Tensor, "batch height width"], *, height: int) -> None:
    """Raises Error for codes that are not `height` whole rows of a grid, or that the prior doesn't know."""
    if codes.shape[1] != height or not 0 < height <= config.rows or codes.shape[2] != config.longest:
        raise Error(
            f"codes of {codes.shape[1]} rows and {codes.shape[2]} columns came, where this prior knows {config.rows} "
            f"rows and {config.longest} to {config.longest} columns; use the codec that it was trained with"
        )
    low, high = (int(end) for end in codes.aminmax())
    if low < 0 or high >= config.codes:
        raise Error(
            f"codes from {low} to {high} came, where this prior knows 0 to {config.codes - 1}; use the codec that it "
            "was trained with"
        )


def check_lengths(config: GridShape, lengths: Int[Tensor, " batch"] | None, batch: int) -> None:
    """Raises Error for lengths that are not those of whole grids."""
    if lengths is not None and lengths.tolist() != [config.longest] * batch:
        raise Error(f"lengths of {lengths.tolist()!s:.60} came; each item is {config.longest} columns wide")


def begun(
    config: GridShape, start: Int[Tensor, "batch height width"] | None, seeds: Sequence[int], device: torch.device
) -> Int[Tensor, "batch n"]:
    """The rows that are there already, row by row. Raises Error for what is no beginning of so many grids."""
    if start is None:
        return torch.zeros(len(seeds), 0, dtype=torch.int64, device=device)
    check_grid(config, start, height=start.shape[1])
    if len(start) != len(seeds):
        raise Error(f"{len(start)} items to continue came for {len(seeds)} seeds; give one for each")
    return start.to(device).flatten(1)
