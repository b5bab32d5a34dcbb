"""Numbers as notebooks have them: of Python, numpy and torch, alone or as arrays without dimensions."""

from __future__ import annotations

import operator
from typing import Any, SupportsFloat, SupportsIndex

from cymatic.errors import Error

Number = SupportsFloat | SupportsIndex


def number(value: Any, what: str, error: type[Error] = Error) -> float:
    """`value` as a float. Raises `error`, which says `what` it was to be, for anything that is no number."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # an array of several is no number, either
        raise error(f"{what} is {value!r:.60}; give a number") from None


def whole(value: Any, what: str, error: type[Error] = Error) -> int:
    """`value` as an int. Raises `error`, which says `what` it was to be, for anything that is no whole number."""
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise error(f"{what} is {value!r:.60}; give a whole number") from None


def python_values(value: Any) -> Any:
    """A value with all numbers and arrays in it as Python's own, which JSON knows; what is neither stays as it is."""
    if isinstance(value, dict):
        return {python_values(key): python_values(one) for key, one in value.items()}
    if isinstance(value, list):
        return [python_values(one) for one in value]
    if isinstance(value, tuple):
        return tuple(python_values(one) for one in value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    return value
