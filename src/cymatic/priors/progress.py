"""How a caller follows a long sampling and ends it early."""

from collections.abc import Callable

# Called between two steps with how many are done and how many there are at most. Whatever it raises ends the sampling
# and reaches the caller as it is; `cymatic.errors.Cancelled` is there for that.
OnStep = Callable[[int, int], None]
