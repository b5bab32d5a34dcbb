"""Other projects' PyTorch checkpoints, read without running anything that they brought along.

A pickle names callables and asks for them to be called, so opening a stranger's is running the stranger's program.
torch's own reader of tensors comes first (`weights_only=True`). It refuses a file that holds anything else, as
Lightning's files do, which pickle the classes of their callbacks. Such a file is read here: its tensors are built, and
whatever else it names becomes a `Foreign`, which keeps the name and does nothing.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cymatic.errors import ModelError
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer, reason
from cymatic.quiet import quiet

DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


WRAPPERS = ("module.", "_orig_mod.")  # of DataParallel and torch.compile, before every name


class Foreign:
    """What stands in for an object of an unknown class or the result of an unknown function: its name, and no acts."""

    origin = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Foreign:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> Foreign:
        return self

    def append(self, value: Any) -> None: ...

    def extend(self, values: Any) -> None: ...

    def __repr__(self) -> str:
        return f"<foreign {self.origin}>"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """All that a `.pt`, `.pth` or `.ckpt` file holds: its tensors on the CPU, plain values, and `Foreign` objects.

    Raises ModelError for a missing or damaged file, and for one that holds no mapping at its top.
    """
    if not path.is_file():
        raise ModelError(f"{path} is missing or not a file; give the checkpoint's own path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ModelError(f"{path} can't be read: {reason(error)}; copy the checkpoint again") from None
    if is_lfs_pointer(path):
        raise ModelError(f"{path} {IS_LFS_POINTER}")
    try:
        with quiet():  # torch warns of its own storage classes
            held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # something else than tensors is in it
        held = _read_around(path)
    except Exception as error:  # a damaged file can fail in any way
        raise _damaged(path, error) from None
    if not isinstance(held, dict):
        raise ModelError(f"{path} holds a {type(held).__name__} instead of a mapping of names to tensors")
    return held


def state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name: those under its key `state_dict`, or of a file that holds nothing else.

    Names are without the `module.` and `_orig_mod.` of DataParallel and torch.compile.

    Raises ModelError for what `read_checkpoint` refuses, and where there are no tensors or something among them is
    none.
    """
    return tensors_in(read_checkpoint(path), path)


def tensors_in(checkpoint: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The same of what `read_checkpoint` gave for `path`, so that a file is read once."""
    held: Any = checkpoint.get("state_dict", checkpoint)
    if not isinstance(held, dict) or not any(isinstance(value, Tensor) for value in held.values()):
        keys = ", ".join(str(key) for key in list(held)[:8]) if isinstance(held, dict) else type(held).__name__
        raise ModelError(f"{path} has no state_dict and is none itself (it holds {keys or 'nothing'})")
    others = [str(key) for key, value in held.items() if not isinstance(value, Tensor)]
    if others:
        raise ModelError(f"{path} holds something else than tensors in its state_dict: {', '.join(others[:8])}")
    return unwrapped({str(key): value for key, value in held.items()})


def numbers_of(tensors: Mapping[str, Tensor], path: Path) -> dict[str, tuple[int, ...]]:
    """How many numbers the file really holds for each tensor, none where another has the same ones: what `Bounded`
    asks. A pickle can give a number in a file any shape, by strides of 0, and store tensors in forms that hold none.

    Raises ModelError for such tensors.
    """
    found: dict[str, tuple[int, ...]] = {}
    known: set[int] = set()
    for name, tensor in tensors.items():
        dense = (
            type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and tensor.device.type == "cpu"
        )
        if not dense or tensor.is_quantized:
            raise ModelError(f"{path} holds {name} in another form than plain numbers; save it as a dense tensor")
        storage = tensor.untyped_storage()
        count = storage.nbytes() // tensor.element_size()
        if math.prod(tensor.shape) > count:
            raise ModelError(f"{path} claims more numbers for {name} than it holds; copy it again")
        found[name] = (0 if storage.data_ptr() in known else count,)
        known.add(storage.data_ptr())
    return found


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under the names of the module itself, where all were saved from a wrapper around it."""
    for wrapper in WRAPPERS:
        if tensors and all(name.startswith(wrapper) for name in tensors):
            return unwrapped({name.removeprefix(wrapper): tensor for name, tensor in tensors.items()})
    return tensors


def _damaged(path: Path, error: Exception) -> ModelError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return ModelError(f"{path} can't be read as a PyTorch checkpoint ({said}); copy it again")


def _read_around(path: Path) -> Any:
    """The object in an archive of torch's own format, with a `Foreign` for each thing that is not known."""
    if not zipfile.is_zipfile(path):
        raise ModelError(
            f"{path} is no archive of PyTorch 1.6 or later and holds more than tensors; "
            "save its state_dict alone with the project that made it"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            root = next(name for name in archive.namelist() if name.endswith("/data.pkl"))[: -len("data.pkl")]
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise ValueError("its archive is compressed, which PyTorch's never are")
            if root + "byteorder" in archive.namelist() and archive.read(root + "byteorder") != b"little":
                raise ValueError("its numbers are big-endian")
            with archive.open(root + "data.pkl") as stream:
                return _Reader(stream, archive, root).load()
    except Exception as error:  # a hostile pickle can raise anything
        raise _damaged(path, error) from None


class _Storage:
    """Numbers as they lie in the file, before a tensor says which of them are its own."""

    def __init__(self, raw: bytes, dtype: torch.dtype) -> None:
        self.untyped = torch.frombuffer(bytearray(raw), dtype=torch.uint8).untyped_storage() if raw else None
        self.dtype = dtype

    def tensor(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
        empty = torch.empty(0, dtype=self.dtype)
        if self.untyped is None:
            return empty.reshape(size)
        return empty.set_(self.untyped, offset, tuple(size), tuple(stride))  # torch checks the bounds


class _Reader(pickle.Unpickler):
    """Knows tensors and ordered dictionaries, and takes nothing else at its word."""

    def __init__(self, stream: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(stream)
        self.archive, self.root = archive, root
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full == "collections.OrderedDict":
            return OrderedDict
        if module in ("torch", "torch.storage") and name in DTYPES:
            return DTYPES[name]
        if full in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *rest: storage.tensor(offset, size, stride)
        if full in ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"):
            return lambda tensor, *rest: tensor
        return type(name, (Foreign,), {"origin": full})

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError(f"it refers to {kind!r:.40} of type {dtype!r:.60}")
        if key not in self.storages:
            self.storages[key] = _Storage(self.archive.read(f"{self.root}data/{key}"), dtype)
        return self.storages[key]
