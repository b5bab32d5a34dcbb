"""How a caller follows a long sampling and ends it early."""

from collections.abc import Callable

from torch import Tensor

# Called between two steps with how many are done and how many there are at most. Whatever it raises ends the sampling
# and reaches the caller as it is; `cymatic.errors.Cancelled` is there for that.
OnStep = Callable[[int, int], None]

# Called likewise, with the result as it stands and its lengths, as `sample` gives them: by the latest prediction, or as
# far as it is made, columns or rows of a grid.
OnEstimate = Callable[[int, int, Tensor, Tensor], None]
