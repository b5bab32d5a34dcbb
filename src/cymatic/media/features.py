"""FEATURES: sequences of vectors that another program made of a clip, such as what a network sees in a video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cymatic.errors import Error
from cymatic.files import reason, writing
from cymatic.media.medium import Facts, Medium
from cymatic.signal.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

MOST_BYTES = 2**30
Steps = Float[np.ndarray, "steps dim"]


class FeatureSpec(Spec):
    """Features of one kind, as a tensor `[dim, steps]` (files are `[steps, dim]`). dim: None where the files decide."""

    medium: ClassVar[str] = "features"

    name: str = "features"
    dim: int | None = Field(default=None, gt=0, le=65536)

    @property
    def shape(self) -> tuple[int, int]:
        return self.dim or -1, -1


def read(path: Path) -> Steps:
    """Raises FileNotFoundError, and Error for what is not one array of finite real numbers `[steps, dim]`."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
        if dtype.kind not in "fiu" or dtype.hasobject:
            raise Error(f"{path} holds {dtype} where real numbers are expected; save the features as float32")
        if len(shape) != 2 or not all(shape):
            raise Error(f"{path} has the shape {list(shape)} where [steps, dim] is expected; save one row a step")
        if int(shape[0]) * int(shape[1]) * dtype.itemsize > MOST_BYTES:
            raise Error(f"{path} claims more than {MOST_BYTES >> 30} GB; give features in smaller pieces")
        array = np.load(path, allow_pickle=False).astype(np.float32)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; give the path of a .npy file") from None
    except Error:
        raise
    except (OSError, EOFError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is cut short"
        raise Error(f"{path} can't be read: {why}; give a .npy file that you may read") from None
    except ValueError as error:  # no such header, or fewer bytes than it promises
        raise Error(f"{path} is not a whole .npy file ({error}); save it again with numpy.save") from None
    if not np.isfinite(array).all():
        raise Error(f"{path} holds NaN or infinity; extract the features again")
    return array


def write(value: Steps, path: Path) -> Path:
    """Raises Error where the file can't be written."""
    with writing(path) as file:
        np.save(file, np.asarray(value, dtype=np.float32), allow_pickle=False)
    return Path(path)


def examine(path: Path, keep: float) -> tuple[Facts, Steps | None]:
    value = read(path)
    steps, dim = value.shape
    return Facts(None, not value.any(), details={"steps": steps, "dim": dim}), value


def prepare(value: Steps, spec: FeatureSpec) -> Tensor:
    """The features as a tensor. Raises Error for another width than `spec` says."""
    import torch

    if spec.dim is not None and value.shape[1] != spec.dim:
        turned = "; they lie the other way round, so transpose them" if value.shape[0] == spec.dim else ""
        raise Error(f"features of {value.shape[1]} numbers a step came where {spec.dim} are expected{turned}")
    return torch.from_numpy(value).mT.contiguous()


def restore(made: Tensor, spec: FeatureSpec, info: Mapping[str, Any]) -> Steps:
    """Features know nothing about themselves, so `info` is left out."""
    return made.detach().float().cpu().mT.contiguous().numpy()


def outline(value: Steps) -> Float[np.ndarray, " 2*dim"]:
    """The mean and the spread of each number."""
    return np.concatenate([value.mean(0), value.std(0)]).astype(np.float32)


FEATURES = Medium(
    name="features",
    noun="features file",
    nouns="features files",
    example="dog-bark_03.npy",
    empty="is all zeros",
    suffixes=frozenset({".npy"}),
    read=read,
    write=write,
    examine=examine,
    prepare=prepare,
    restore=restore,
    outline=outline,
    details={"dim": ("widths", "")},
)
