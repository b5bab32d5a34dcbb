"""A model by the name of a starter or by its folder."""

from __future__ import annotations

import os
import re
from importlib.resources import files
from pathlib import Path

from cymatic.config import nearest
from cymatic.errors import ModelError
from cymatic.hub.pipeline_file import PIPELINE, CodecFile, CodecGPTFile, CodesFile, Parts, read_pipeline
from cymatic.pipelines.codes_to_sound import CodesToSound
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.pipelines.text_to_sound import TextToSound
from cymatic.pipelines.wave_codes_to_sound import WaveCodesToSound

Maker = TextToSound | CodesToSound | WaveCodesToSound


def starters() -> dict[str, Path]:
    """The models that ship with the package, by name."""
    root = Path(str(files("cymatic") / "starters"))
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{PIPELINE}"))}


def load(model: str | Path = "starter-sound", *, device: str = "cpu") -> Maker | SoundCodec:
    """The model called `model` (a starter's name, or a folder that `cymatic train` wrote), ready to be called.

    device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`. Raises ModelError where there is no such model or device, or the
    model can't be read.
    """
    folder = find_model(model)
    name = None if str(model) in starters() else folder.name
    file: Parts = read_pipeline(folder)
    if isinstance(file, CodecFile):
        return SoundCodec.from_folder(folder, device=choose_device(device), name=name)
    if isinstance(file, CodecGPTFile):
        return WaveCodesToSound.from_folder(folder, device=choose_device(device), name=name)
    if isinstance(file, CodesFile):
        return CodesToSound.from_folder(folder, device=choose_device(device), name=name)
    return TextToSound.from_folder(folder, device=choose_device(device), name=name)


def load_maker(model: str | Path = "starter-sound", *, device: str = "cpu") -> Maker:
    """A model that makes sounds of its own. Raises ModelError for one that does not, and as `load`."""
    made = load(model, device=device)
    if isinstance(made, SoundCodec):
        raise ModelError(
            f"{model} is a codec, which makes no sounds of its own; give a model that was trained to, or use cymatic "
            "encode and cymatic decode"
        )
    return made


def load_codec(model: str | Path, *, device: str = "cpu") -> SoundCodec:
    """A codec. Raises ModelError for another kind of model, and as `load`."""
    made = load(model, device=device)
    if not isinstance(made, SoundCodec):
        raise ModelError(f"{model} makes sounds and is no codec; give a model that turns sounds into codes")
    return made


def find_model(model: str | Path) -> Path:
    """The folder of a starter or a run. Raises ModelError where there is none."""
    known = starters()
    folder = known.get(str(model), Path(model))
    if not os.path.isdir(folder):
        raise ModelError(
            f'there is no model "{model}" (starters: {nearest(str(model), known)}); give the name of a starter or a '
            "folder that cymatic train wrote"
        )
    return folder


def choose_device(device: str) -> str:
    """`auto` is a GPU where there is one. Raises ModelError for a device that is not here."""
    import torch

    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if has[name])
    found = re.fullmatch(r"(cpu|cuda|mps)(?::([0-9]{1,3}))?", device)
    if found is None or not has[found[1]] or int(found[2] or 0) >= _devices(found[1]):
        here = ", ".join(name for name, present in has.items() if present)
        raise ModelError(f'there is no device "{device}" here; give one of: auto, {here}')
    return device


def _devices(kind: str) -> int:
    import torch

    return torch.cuda.device_count() if kind == "cuda" else 1
