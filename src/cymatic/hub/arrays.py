"""Single arrays of numbers from `.npy`, and from the pickles that older projects published them as.

A pickle names functions and asks for them to be called. A pickled array needs four, all of numpy; none of them is
called here, either: the pickle meets stand-ins that write down what it says, and the array is made of that, once it has
been found to be nothing but numbers. Whatever else a pickle names is refused.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer, reason

MOST_BYTES = 2**30
KINDS = {
    f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}.items() for size in sizes
}
SUFFIXES = (".npy", ".pkl", ".pickle")


def read_array(path: Path) -> np.ndarray:
    """The numbers in a `.npy` file, or in a pickle (`.pkl`, `.pickle`) of one numpy array; real numbers of any width.

    Pickles of numpy 1 and 2, of Python 2 and 3 are read. Raises Error for a missing, damaged or larger file (1 GB), and
    for a pickle that holds, or would call, anything else than one array.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise Error(f"{path} is no array by its extension; give {', '.join(SUFFIXES)}")
    try:
        if not path.is_file():
            raise Error(f"{path} is missing or not a file")
        if is_lfs_pointer(path):
            raise Error(f"{path} {IS_LFS_POINTER}")
        if path.stat().st_size > MOST_BYTES:
            raise Error(f"{path} is larger than {MOST_BYTES >> 30} GB; give it in smaller pieces")
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
        else:
            with path.open("rb") as file:
                array = _assembled(_Reader(file, encoding="latin1").load())
    except Error:
        raise
    except OSError as error:
        raise Error(f"{path} can't be read: {reason(error)}") from None
    except _Refused as refused:
        raise Error(f"{path} {refused}; only a pickle of one numpy array is read, and nothing in it is run") from None
    except Exception as error:  # a damaged file can fail in any way
        said = " ".join(str(error).split())[:200] or type(error).__name__
        raise Error(f"{path} is damaged or no array ({said})") from None
    if not isinstance(array, np.ndarray) or array.dtype.str[1:] not in KINDS:
        what = f"of {array.dtype}" if isinstance(array, np.ndarray) else f"but a {type(array).__name__}"
        raise Error(f"{path} holds no array of real numbers {what}")
    return array


class _Refused(Exception):
    pass


class _Numbers:
    """What a pickle says of its array."""

    shape: tuple[Any, ...] = ()
    dtype: Any = None
    fortran = False
    data: Any = None

    def __setstate__(self, state: Any) -> None:
        *_, self.shape, self.dtype, self.fortran, self.data = state


class _Type:
    """What a pickle says of a type: its name, and in which order its bytes lie."""

    def __init__(self, name: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]


class _Reader(pickle.Unpickler):
    """Meets each global with a function made for the occasion, so that what a pickle does to one harms nobody."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        top = module.replace("numpy._core", "numpy.core")
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("numpy.core.multiarray", "_reconstruct"): self._empty,
            ("numpy.core.numeric", "_frombuffer"): self._from_buffer,
            ("numpy", "ndarray"): self._never,
            ("numpy", "dtype"): self._type,
            ("_codecs", "encode"): self._encode,
        }
        if (top, name) not in known:
            raise _Refused(f"names {module}.{name}")
        meant = known[top, name]
        return lambda *said: meant(*said)

    def persistent_load(self, pid: Any) -> NoReturn:
        raise _Refused("refers to something outside itself")

    def _empty(self, kind: Any, shape: Any, code: Any) -> _Numbers:
        return _Numbers()

    def _from_buffer(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Numbers:
        if axes is not None:
            raise _Refused("holds an array whose axes lie in another order")
        numbers = _Numbers()
        numbers.__setstate__((shape, dtype, order == "F", data))
        return numbers

    def _never(self, *_: Any) -> NoReturn:
        raise _Refused("makes an array in an unusual way")

    def _type(self, name: Any, align: Any = False, copy: Any = True) -> _Type:
        return _Type(name)

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise _Refused(f"encodes as {encoding!r:.40}")
        return text.encode("latin1")


def _assembled(said: Any) -> np.ndarray:
    """Raises _Refused for anything but numbers whose count fits their shape."""
    if not isinstance(said, _Numbers):
        raise _Refused(f"holds a {type(said).__name__.lstrip('_').lower()}")
    kind = said.dtype
    if not isinstance(kind, _Type) or kind.name not in KINDS or kind.order not in ("<", ">", "=", "|"):
        raise _Refused(f"holds an array of {getattr(kind, 'name', kind)!r:.40}, not of real numbers")
    data = said.data.encode("latin1") if isinstance(said.data, str) else said.data  # Python 2's
    shape = tuple(said.shape)
    whole = all(type(n) is int and 0 <= n < 2**40 for n in shape)
    dtype = np.dtype(kind.name).newbyteorder(kind.order)
    if not (whole and isinstance(data, bytes | bytearray) and len(data) == math.prod(shape) * dtype.itemsize):
        raise _Refused(f"holds an array whose data don't fit its shape {shape!r:.60}")
    array = np.frombuffer(bytes(data), dtype).reshape(shape, order="F" if said.fortran else "C")
    return array.astype(dtype.newbyteorder("="))
