"""How a caller follows a long sampling and ends it early."""

from collections.abc import Callable

from torch import Tensor

# Called between two steps with how many are done and how many there are at most. Whatever it raises ends the sampling
# and reaches the caller as it is; `cymatic.errors.Cancelled` is there for that.
OnStep = Callable[[int, int], None]

# Called likewise, with what the result would be by the latest prediction, `[batch, ...]` in the target's own units.
OnEstimate = Callable[[int, int, Tensor], None]
