"""`Medium`: everything that the house knows about one kind of file, as a value.

Parts, data and pipelines never ask which medium they meet. They ask the medium: what are your files called, what is
this one like, what does a part read of it, and what becomes of what a model made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from cymatic.signal.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Facts", "Medium", "Spec", "Window", "Windows"]

Value = TypeVar("Value")
Window = tuple[int, int]  # the first step of a stretch and the one after its last: samples, frames


@dataclass(frozen=True)
class Facts:
    """What a file is like before anything is made of it.

    length: seconds; None where the medium has none. empty: silent or blank, so there is nothing to learn. problems:
    what is worth a look, though the file can be used. details: the medium's own numbers (a sound's rate, say).
    """

    length: float | None
    empty: bool = False
    problems: tuple[str, ...] = ()
    details: Mapping[str, float] = field(default_factory=dict)

    def as_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Facts:
        values = json.loads(data)
        return cls(values["length"], values["empty"], tuple(values["problems"]), values["details"])


@dataclass(frozen=True)
class Windows(Generic[Value]):
    """How a medium gives pieces of what is too long to be used whole.

    find: up to a few windows of `longest` seconds, spread evenly. read: those pieces of a file, in order.
    first: the first seconds of a file.
    """

    find: Callable[[Facts, float], list[Window]]
    read: Callable[[Path, Sequence[Window]], list[Value]]
    first: Callable[[Path, float], Value]


@dataclass(frozen=True)
class Medium(Generic[Value]):
    """One kind of file. What reads raises FileNotFoundError, and Error in one sentence for what is no such file.

    name: also the role of its files where a manifest gives no other. noun, nouns: one of them and several, in messages;
    example: a file named as its caption; empty: what is said of an empty one. suffixes: of its files, lower case, with
    the dot; written: those that it writes, where they are fewer. preparation: part of every cache key; change it when
    `prepare` gives other numbers. details: the details in `Facts` that an inspection counts, each with a heading and a
    unit. holds: the type of its values, where that says which medium they are of. paste: a made value that is another
    one, or empty where None is given, exactly as a spec reads it, where a mask `[height, width]` is True.
    """

    name: str
    noun: str
    nouns: str
    example: str
    empty: str
    suffixes: frozenset[str]
    read: Callable[[Path], Value]
    write: Callable[[Value, Path], Path]
    examine: Callable[[Path, float], tuple[Facts, Value | None]]  # see `facts`
    prepare: Callable[[Value, Any], Tensor]  # value, spec -> what a part reads
    restore: Callable[[Tensor, Any, Mapping[str, Any]], Value]  # tensor, spec, info -> the value
    outline: Callable[[Value], np.ndarray]  # float32 [dim], for probes and neighbours
    finish: Callable[[Value], Value] = lambda value: value  # what is done to a made one at the end, such as fades
    plot: Callable[[Value, str | os.PathLike[str], str | None], Path] | None = None  # value, path, title
    sheet: Callable[[str | os.PathLike[str], Sequence[tuple[str, Value] | None], int], Path] | None = None
    paste: Callable[[Value, Value | None, np.ndarray, Any], Value] | None = None
    windows: Windows[Value] | None = None
    preparation: tuple[float, ...] = (1,)
    details: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    command: tuple[str, str] | None = None  # the command that makes one, and the suffix that it usually has
    holds: type[Value] | None = None
    recipe: str | None = None  # that a folder of them is trained by, where nobody names one
    written: Sequence[str] = ()

    @property
    def writes(self) -> Sequence[str]:
        """The suffixes of files that it writes."""
        return self.written or sorted(self.suffixes)

    def facts(self, path: Path) -> Facts:
        """What the file is like; it is read to its end.

        `examine(path, keep)` gives the value, too, where it is no longer than `keep` seconds, so that nothing is read
        twice.
        """
        return self.examine(path, 0.0)[0]
