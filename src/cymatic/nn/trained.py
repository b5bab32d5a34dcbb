"""One way to refuse what was never trained."""

from __future__ import annotations

from torch import Tensor

from cymatic.errors import ModelError


def refuse_untrained(part: str, steps: Tensor | int) -> None:
    """Raises ModelError where `steps`, those that a `part` ("model", "vocoder") was trained for, are 0."""
    if not int(steps):
        raise ModelError(f"this {part} was never trained (0 steps), so it can only make noise; train it first")
