"""What may be asked of a pipeline: how many, with which seeds, how long."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cymatic.errors import Error
from cymatic.media import medium_of, medium_of_value
from cymatic.media.medium import Medium
from cymatic.scalars import Number, number

# Words; or a value of a medium that is read, the path of its file, or the tensor that it is prepared as.
Prompt = Any

OnPreview = Callable[[int, int, list[Any]], None]  # steps done, steps there are, the values as they stand

AT_ONCE = 16  # items sampled side by side: more would cost memory and save no time
SHORTEST = 0.05  # seconds that may be asked for


def check_count(seed: Any, n: Any) -> tuple[int, int]:
    """The number and the seed as plain integers. Raises Error where one is no whole number or out of range."""
    try:
        n, seed = operator.index(n), operator.index(seed)
    except (TypeError, ValueError, RuntimeError):  # an array of several, too
        raise Error(f"the seed is {seed!r:.40} and the number {n!r:.40}; give whole numbers") from None
    if n < 1 or n > 10_000:
        raise Error(f"{n} were asked for; give a number from 1 to 10000")
    if seed < 0 or seed + n > 2**63:
        raise Error(f"the seed is {seed}; give a whole number from 0 to 2^63 - n")
    return n, seed


def check_seconds(seconds: Number, longest: float) -> float:
    """The length as a float. Raises Error for one that a model can't make."""
    seconds = number(seconds, "the length in seconds")
    if not (math.isfinite(seconds) and SHORTEST <= seconds <= longest):
        raise Error(
            f"{seconds:g} seconds were asked for and this model makes {SHORTEST} to {longest:.2f}; "
            "give a length in that range"
        )
    return seconds


def check_positive(what: str, value: float, most: float) -> None:
    """Raises Error unless `what` is above 0 and at most `most`."""
    if not 0 < value <= most:
        raise Error(f"{what} is {value:g}; give a number above 0, at most {most:g}")


def medium_asked(prompt: Prompt) -> Medium[Any] | None:
    """The medium of a prompt that is a value or the path of a file; None of words, and of what no medium holds."""
    return medium_of(prompt) if isinstance(prompt, Path) else medium_of_value(prompt)


def described(prompt: Prompt) -> str:
    """A prompt in the info of what was made."""
    if isinstance(prompt, str) or prompt is None:
        return prompt or ""
    if isinstance(prompt, Path):
        return str(prompt)
    shape = getattr(prompt, "shape", None)
    return repr(prompt) if shape is None else f"{' x '.join(map(str, shape))} numbers"
