"""A part on disk: a folder with `config.json` and `model.safetensors`, read strictly.

Nothing here can run code from a file: JSON and safetensors only. Whatever is wrong with a folder is said in one
sentence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer, reason, write_atomically
from cymatic.hub.bounded import Bounded, check_plain
from cymatic.hub.earlier import todays_config

FORMAT = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
MOST_JSON, MOST_CONFIG = 64 * 2**20, 16 * 2**20  # bytes; more is no description of a model, of a part


P = TypeVar("P", bound=nn.Module)
T = TypeVar("T")


def save_part(folder: Path, part: nn.Module, *, half: bool = False) -> None:
    """Writes `part` (a module with a `config`) into `folder`; `half` stores float tensors as float16.

    Raises Error where the folder can't be written. Weights come before the config, each in one piece, so a folder
    with a config is complete.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config: Config = part.config  # type: ignore[assignment]
    tensors = {name: _stored(tensor, half) for name, tensor in part.state_dict().items()}
    write_atomically(folder / WEIGHTS, save(tensors))
    write_json(folder / CONFIG, {"format": FORMAT, **config.model_dump(mode="json")})


def copy_part(source: Path, folder: Path, sha256: str) -> None:
    """Copies the part in `source` byte for byte into `folder`, so that it keeps the fingerprint which its codes name.

    Raises Error where it no longer has the fingerprint `sha256`, or the folder can't be written.
    """
    if source.resolve() == folder.resolve():
        return
    files = {name: (source / name).read_bytes() for name in (WEIGHTS, CONFIG)}
    if _digest(files[name] for name in (CONFIG, WEIGHTS)) != sha256:
        raise Error(f"{source} changed while it was taken over; give the same command again")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_atomically(folder / name, data)


def _stored(tensor: Tensor, half: bool) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if half and tensor.is_floating_point() else tensor


def load_part(folder: Path, kinds: tuple[type[P], ...]) -> P:
    """The part in `folder`, which must be one of `kinds`: float32, in eval mode, with every tensor accounted for.
    Configs of earlier versions are read, see `hub.earlier`.

    Raises ModelError for a missing, foreign, damaged or newer file, for another kind, and for tensors that are missing,
    unexpected, of another shape or not finite. What the config claims is bounded by the tensors that the file holds:
    a config of a far larger network ends in a sentence, too, before memory or time is spent on it.
    """
    part_class, config = read_part(folder, kinds)
    where = str(folder / CONFIG)
    with Bounded(read_shapes(folder / WEIGHTS), where):
        try:
            part: P = part_class(config)
        except Error:
            raise
        except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
            said = " ".join(str(error).split())[:200]
            raise ModelError(f"{where} describes a part that can't be built ({said}); copy the model again") from error
    load_weights(part, folder / WEIGHTS)
    loaded: P = part.eval()
    return loaded


def read_config(folder: Path, kinds: tuple[type[nn.Module], ...]) -> Any:
    """The config of the part in `folder`, which must be one of `kinds`. Raises ModelError as `load_part` does."""
    return read_part(folder, kinds)[1]


def read_part(folder: Path, kinds: tuple[type[nn.Module], ...]) -> tuple[Any, Any]:
    """The class and the config of the part in `folder`, of which nothing is built. Raises ModelError as `load_part`
    does for a config."""
    values = read_json(folder / CONFIG, MOST_CONFIG)
    check_format(values, folder / CONFIG)
    values = todays_config(values, str(folder / CONFIG))
    by_kind = {_kind(cls): cls for cls in kinds}
    kind = values.get("kind")
    if isinstance(kind, str) and kind in EARLIER_KINDS:
        kind = values["kind"] = EARLIER_KINDS[kind]
    if kind not in by_kind:
        raise ModelError(
            f'{folder / CONFIG} describes a part of kind "{kind}" where one of {sorted(by_kind)} is needed'
        )
    part_class: Any = by_kind[kind]
    where = str(folder / CONFIG)
    check_plain(values, where)
    return part_class, part_class.config_class.parse(values, where)


def _said(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kind(part_class: Any) -> str:
    return part_class.config_class.model_fields["kind"].default


def load_weights(part: nn.Module, path: Path) -> None:
    """Fills `part` from a safetensors file. Raises ModelError naming every difference."""
    fill(part, read_tensors(path), f"{path} does not fit its {CONFIG}")


def fill(
    part: nn.Module, tensors: Mapping[str, Tensor], otherwise: str, theirs: Callable[[str], str] = lambda name: name
) -> None:
    """Fills `part` from `tensors`, all of them; `theirs` gives their name of a tensor of ours.

    Raises ModelError naming every difference after the words `otherwise`.
    """
    own = {theirs(name): (name, tensor) for name, tensor in part.state_dict().items()}
    tensors = {_renamed(name): tensor for name, tensor in tensors.items()}
    problems = [f"{name} is missing" for name in own if name not in tensors]
    problems += [f"{name} is unexpected" for name in tensors if name not in own]
    for name in own.keys() & tensors.keys():
        got, want = tensors[name], own[name][1]
        if got.shape != want.shape:
            problems.append(f"{name} is {list(got.shape)} instead of {list(want.shape)}")
        elif got.dtype != want.dtype and not (got.dtype in FLOATS and want.dtype in FLOATS):
            problems.append(f"{name} holds {_said(got.dtype)} instead of {_said(want.dtype)}")
        elif got.is_floating_point() and not got.isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ModelError(f"{otherwise}: {'; '.join(sorted(problems)[:8])}{more}")
    part.load_state_dict({name: tensors[other] for other, (name, _) in own.items()})


# What kinds of parts were called in files of earlier versions.
EARLIER_KINDS = {"judge": "classifier"}

# What weights were called in files of earlier versions, by the step of their dotted name.
RENAMED = {"inwards": "in_proj", "outwards": "out_proj", "steer": "modulation", "last_steer": "last_modulation"}


def _renamed(name: str) -> str:
    return ".".join(RENAMED.get(step, step) for step in name.split("."))


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a safetensors file, of which only the header is read. Raises as `read_tensors`."""

    def shapes() -> dict[str, tuple[int, ...]]:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    return _safely(path, shapes)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ModelError for anything else; a pickle is refused, never opened."""
    return _safely(path, lambda: load_file(path))


def _safely(path: Path, read: Callable[[], T]) -> T:
    if not path.is_file():
        raise ModelError(f"{path} is missing; the model is incomplete, copy or train it again")
    try:
        path.open("rb").close()  # safetensors calls every file that it can't open missing
    except OSError as error:
        raise ModelError(f"{path} can't be read: {reason(error)}; copy the model again") from None
    if is_lfs_pointer(path):
        raise ModelError(f"{path} {IS_LFS_POINTER}")
    try:
        return read()
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelError(
            f"{path} is not a sound safetensors file ({error}); copy or train the model again "
            "(pickles are never opened)"
        ) from None


def read_json(path: Path, most: int = MOST_JSON) -> dict[str, Any]:
    """A JSON object from `path`. Raises ModelError where there is none or it has more than `most` bytes."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise ModelError(f"{path} is not a file; copy or train the model again")
        if path.stat().st_size > most:
            raise ModelError(f"{path} is larger than {most >> 20} MB, so it is damaged; copy the model again")
        if is_lfs_pointer(path):
            raise ModelError(f"{path} {IS_LFS_POINTER}")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; the model is incomplete, copy or train it again") from None
    except ModelError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} can't be read as JSON ({error}); copy or train the model again") from None
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__} instead of a JSON object")
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def check_format(values: dict[str, Any], path: Path) -> None:
    """Takes `format` out of `values`. Raises ModelError for a format that this version does not know."""
    found = values.pop("format", None)
    if found != FORMAT:
        raise ModelError(f"{path} is of format {found!r}, this version reads format {FORMAT}; update cymatic")


def fingerprint(folders: list[Path]) -> str:
    """SHA-256 over configs and weights of the parts, 64 hex digits: two models with one fingerprint are the same."""
    return _digest((folder / name).read_bytes() for folder in folders for name in (CONFIG, WEIGHTS))


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
