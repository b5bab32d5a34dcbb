"""What an encoder may ask of the examples that it is to be trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Conditioned(Protocol):
    """caption: what the item is called; captions: what else, in groups; given: what else is known of it, by role (see
    `data.examples.Example`)."""

    @property
    def caption(self) -> str: ...

    @property
    def captions(self) -> tuple[tuple[str, ...], ...]: ...

    @property
    def given(self) -> Mapping[str, Tensor]: ...
