"""Vectors of a space with the names of what they are of, in a file: read once, ranked as often as one likes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cymatic.errors import Error
from cymatic.files import reason, write_atomically
from cymatic.media import medium_of
from cymatic.pipelines.embed import Embedder

SUFFIX = ".npz"
MOST_BYTES = 2**30
OnItem = Callable[[int, int], None]
Skipped = list[tuple[str, str]]  # what could not be read, and why


@dataclass(frozen=True)
class Vectors:
    """`[n, dim]` of unit norm, each with a name; model, sha256: of the encoders that gave them.

    The file is numpy's `.npz` of `vectors` (float32), `names`, `model` and `sha256`.
    """

    names: list[str]
    vectors: Tensor
    model: str
    sha256: str

    def write(self, path: Path) -> Path:
        """Writes the file, whole or not at all. Raises Error where it can't be written."""
        data = io.BytesIO()
        np.savez(
            data, vectors=self.vectors.numpy(), names=np.array(self.names), model=np.array(self.model),
            sha256=np.array(self.sha256),
        )  # fmt: skip
        return write_atomically(path, data.getvalue())

    @classmethod
    def read(cls, path: Path) -> Vectors:
        """Raises Error for a missing, damaged or larger file (1 GB), and one that holds no such vectors."""
        try:
            if not path.is_file():
                raise Error(f"{path} is missing or not a file")
            if path.stat().st_size > MOST_BYTES:
                raise Error(f"{path} is larger than {MOST_BYTES >> 30} GB; give it in smaller pieces")
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in ("vectors", "names", "model", "sha256")}
        except Error:
            raise
        except OSError as error:
            raise Error(f"{path} can't be read: {reason(error)}") from None
        except Exception:  # a damaged file can fail in any way, and numpy's advice is to read it unsafely
            raise Error(f"{path} is damaged, or nothing that cymatic embed wrote; embed the same again") from None
        vectors, names = found["vectors"], found["names"]
        if (
            vectors.dtype != np.float32 or vectors.ndim != 2 or names.shape != vectors.shape[:1] or not names.size
            or any(not np.issubdtype(found[name].dtype, np.str_) for name in ("names", "model", "sha256"))
            or not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        ):  # fmt: skip
            raise Error(f"{path} holds no vectors of unit norm with their names; give a file that cymatic embed wrote")
        return cls(names.tolist(), torch.from_numpy(vectors), str(found["model"]), str(found["sha256"]))


def embedded(
    model: Embedder, given: Sequence[str], on_item: OnItem = lambda done, total: None
) -> tuple[Vectors, Skipped]:
    """The vectors of words and files, named as they were given, and what could not be read.

    What ends like a file of a medium is a file, even where it is not there; `.npz` is a file of vectors of this very
    model, and brings its own names. Raises Error where nothing can be read.
    """
    names, vectors, skipped = list[str](), list[Tensor](), Skipped()
    for i, one in enumerate(given):
        on_item(i, len(given))
        try:
            if Path(one).suffix.lower() == SUFFIX:
                known = _of_this(model, Path(one))
                names += known.names
                vectors.append(known.vectors)
            else:
                vectors.append(model.embed([_value(one)]))
                names.append(one)
        except (Error, OSError) as error:
            skipped.append((one, str(error)))
    on_item(len(given), len(given))
    if not names:
        raise Error(skipped[0][1] if skipped else "nothing was given to read; give words or files")
    return Vectors(names, torch.cat(vectors), model.name, model.sha256), skipped


def _value(given: str) -> Any:
    path = Path(given)
    if medium_of(path) is not None:
        return path
    if "/" in given and path.is_dir():  # without one it may be a word that some folder here is called by
        raise Error(f"{given} is a folder; give its files, as in {given.rstrip('/')}/*.png, or use cymatic retrieve")
    return given


def _of_this(model: Embedder, path: Path) -> Vectors:
    known = Vectors.read(path)
    if known.sha256 != model.sha256 or known.vectors.shape[1] != model.dim:
        raise Error(
            f"{path} holds vectors of {known.model}, and {model.name} has a space of its own; embed the same with "
            "this model, or name that one with --model"
        )
    return known
