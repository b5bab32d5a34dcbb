"""One way to refuse what was never trained."""

from __future__ import annotations

from typing import Any

from torch import nn

from cymatic.errors import ModelError


def refuse_untrained(part: nn.Module, *, allow: bool = False) -> None:
    """Raises ModelError where `part.steps_trained` is 0, unless `allow`ed, as a part does that is being trained.

    `part` has a `config` with its `kind` and `steps_trained`, a number or a tensor.
    """
    held: Any = part
    if not (allow or held.steps_trained):
        raise ModelError(
            f"this {held.config.kind} model was never trained (0 steps), so it can only make noise; train it first"
        )
