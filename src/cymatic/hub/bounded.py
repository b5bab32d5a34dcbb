"""Building a part from a config that may be hostile, in memory and time that its file of weights accounts for.

The config may say "a billion blocks" while the file holds ten. Whatever a part allocates comes from torch's factory
functions, so these are watched while it is built: more of them, or more elements, than the file's tensors explain, end
the building before anything is allocated. Nothing is built twice, and a part that fits is built as ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from cymatic.errors import ModelError

# A part also makes tensors that are not saved (windows, tables), and some that are replaced while it is initialised.
CALLS, ELEMENTS = 1000, 2**22  # that need no tensor in the file
TIMES = 2  # so often may each tensor of the file be made
MOST_NUMBER, MOST_LIST, MOST_NAMES = 2**53, 4096, 65_536  # in a config: JSON's exact integers; lists; lists of texts

_FACTORIES = frozenset(
    (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.randint, torch.eye, torch.arange,
     torch.linspace, torch.logspace, torch.empty_strided, torch.hann_window, torch.randperm)
)  # fmt: skip
_RANGES = frozenset((torch.arange, torch.linspace, torch.logspace, torch.eye))  # whose ints are no sides of a shape


class Bounded(TorchFunctionMode):
    """Within it, this thread's factory functions make at most what a file with these tensors explains.

    Raises ModelError, which begins with `config`, before the one that would be too much.
    """

    def __init__(self, shapes: Mapping[str, Sequence[int]], config: str) -> None:
        super().__init__()
        self._tensors, self._held = len(shapes), sum(math.prod(shape) for shape in shapes.values())
        self._config = config
        self._calls = CALLS + TIMES * self._tensors  # that are left
        self._elements = ELEMENTS + TIMES * self._held

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self._calls -= 1
            self._elements -= _elements(func, args, kwargs)
            if min(self._calls, self._elements) < 0:
                raise ModelError(
                    f"{self._config} describes a far larger network than its file of weights holds ({self._tensors} "
                    f"tensors, {self._held:,} numbers); copy or train the model again"
                )
        return func(*args, **kwargs)


def _elements(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many elements a factory function makes, or more."""
    shapes = [given for given in (*args, kwargs.get("size")) if isinstance(given, list | tuple)]
    ints = shapes[0] if shapes else [n for n in (*args, *kwargs.values()) if type(n) in (int, float)]
    if func in _RANGES:
        largest = max((abs(n) for n in ints), default=0)
        return math.ceil(largest**2 if func is torch.eye else largest)
    return math.prod(int(n) for n in ints)


def check_plain(values: Any, where: str) -> None:
    """Raises ModelError for numbers and lists in a config that no part has: computing with them might take for ever."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            most = MOST_NAMES if all(isinstance(one, str) for one in value) else MOST_LIST
            if len(value) > most:
                raise ModelError(f"{where} holds a list of {len(value):,} items, and no part has more than {most:,}")
            waiting += value
        elif isinstance(value, int) and abs(value) > MOST_NUMBER:
            raise ModelError(f"{where} holds a number beyond 2^53, and no part has one; copy or train the model again")
