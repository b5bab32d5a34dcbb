"""A model by the name of a starter or by its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import cast

from cymatic.config import nearest
from cymatic.errors import ModelError
from cymatic.hub.pipeline_file import PIPELINE, PipelineFile, read_pipeline
from cymatic.hub.readers.stable_diffusion import is_stable_diffusion
from cymatic.media import MEDIA
from cymatic.pipelines.codec import MediaCodec, load_codec_pipeline
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.generate import Generator
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.pipelines.sound_word import SoundWord
from cymatic.pipelines.stable_diffusion import PictureDiffusion

Model = Generator | MediaCodec | SoundCodec | Embedder | PictureDiffusion


def starters() -> dict[str, Path]:
    """The models that ship with the package, by name."""
    root = Path(str(files("cymatic") / "starters"))
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{PIPELINE}"))}


def load(model: str | Path = "starter-sound", *, device: str = "cpu") -> Model:
    """The model called `model` (a starter's name, or a folder that `cymatic train` wrote), ready to be called.

    device: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto`. Raises ModelError where there is no such model or device, or the
    model can't be read.
    """
    folder = find_model(model)
    if is_stable_diffusion(folder):
        return PictureDiffusion.from_folder(folder, device=choose_device(device))
    file = read_pipeline(folder)
    name = str(model) if str(model) in starters() else folder.name
    return PIPELINES[file.kind](folder, file, device=choose_device(device), name=name)


def load_word(model: str | Path, *, device: str = "cpu") -> SoundWord:
    """What makes words of sounds for a Stable Diffusion. Raises ModelError for another model, and as `load`."""
    folder = find_model(model)
    file = read_pipeline(folder)
    if not file.has_word:
        raise ModelError(f"{model} makes no words of sounds; give what cymatic import BEATS --token EMBEDDER made")
    return SoundWord.from_folder(folder, file, device=choose_device(device))


def _word(folder: Path, file: PipelineFile, *, device: str, name: str) -> PictureDiffusion:
    """Sounds -> pictures. Raises ModelError where no Stable Diffusion is named, or it is not there."""
    if file.generator is None:
        raise ModelError(
            f"{name} makes words of sounds, which a Stable Diffusion draws; give the folder of one as the model, and "
            f"{name} with --token"
        )
    place = folder / file.generator
    if not is_stable_diffusion(place):
        raise ModelError(f"{name} draws with {file.generator}, which is no Stable Diffusion or not there; put it there")
    return PictureDiffusion.from_folder(place, word=load_word(folder, device=device), device=device, name=name)


def _encoders(folder: Path, file: PipelineFile, *, device: str, name: str) -> Embedder | Generator:
    """Aligned encoders; or a generator that reads them, where their file names one. Raises ModelError where that one is
    not there or has another space."""
    space = Embedder.from_folder(folder, file, device=device, name=name)
    if file.generator is None:
        return space
    place = starters().get(file.generator, folder / file.generator)
    try:
        named = read_pipeline(find_model(place))
        if not named.has_prior:
            raise ModelError(f"{file.generator} makes nothing of its own")
        return Generator.from_folder(place, named, device=device, name=file.generator).reading(space, file)
    except ModelError as error:
        raise ModelError(
            f"{name} makes nothing without {file.generator}, which it names: {error}; put it there, or use "
            f"{name} in cymatic rank and cymatic embed alone"
        ) from None


# What a pipeline.json makes of its parts.
PIPELINES: dict[str, Callable[..., Model]] = {
    "generator": Generator.from_folder,
    "codec": load_codec_pipeline,
    "encoders": _encoders,
    "word": _word,
}


def load_generator(model: str | Path = "starter-sound", *, device: str = "cpu") -> Generator:
    """A model that makes something of its own. Raises ModelError for one that does not, and as `load`."""
    if is_stable_diffusion(find_model(model)):
        raise ModelError(f"{model} draws from prompts and can do nothing else here; use cymatic picture")
    file = read_pipeline(find_model(model))
    if not file.has_prior and file.generator is None:
        raise ModelError(
            f"{model} makes nothing of its own; give a model with a prior, or use cymatic encode and cymatic decode "
            "with a codec"
        )
    return cast(Generator, load(model, device=device))


def load_prompted(model: str | Path, *, device: str = "cpu") -> Generator | PictureDiffusion:
    """What makes something of a prompt: a generator, or a Stable Diffusion. Raises ModelError as `load_generator`."""
    folder = find_model(model)
    if is_stable_diffusion(folder) or read_pipeline(folder).has_word:
        return cast(PictureDiffusion, load(model, device=device))
    return load_generator(model, device=device)


def load_codec(model: str | Path, *, device: str = "cpu") -> SoundCodec:
    """A codec whose codes are kept in files. Raises ModelError for another kind of model, and as `load`."""
    if read_pipeline(find_model(model)).kind == "codec":
        made = cast(MediaCodec | SoundCodec, load(model, device=device))
        if made.codec.kept_in_shards and not made.codec.sizes:
            raise ModelError(f"{model} gives no codes but latents for a prior; give a codec with a quantizer")
        if made.codec.kept_in_shards:
            return cast(SoundCodec, made)
        gives = made.codec.config.gives
        if not gives.vocoded:
            nouns = MEDIA[gives.medium].nouns
            raise ModelError(f"{model} is a codec of {nouns}, whose codes no file keeps; use cymatic reconstruct")
    raise ModelError(f"{model} is no codec; give a model that turns sounds into codes")


def load_embedder(model: str | Path, *, device: str = "cpu") -> Embedder:
    """Encoders that were aligned, a model of their own or inside another one. Raises ModelError for a model that holds
    none, and as `load`."""
    folder = find_model(model)
    file = read_pipeline(folder)
    called = str(model) if str(model) in starters() else folder.name
    if file.is_space:
        return Embedder.from_folder(folder, file, device=choose_device(device), name=called)
    inside = file.space_of(folder) or file.ranker_of(folder)
    if inside is None:
        raise ModelError(f"{model} finds and ranks nothing, for its encoders were not aligned; train one: picture-text")
    name = f"{called}/{inside.relative_to(folder).as_posix()}"
    return Embedder.from_folder(inside, read_pipeline(inside), device=choose_device(device), name=name)


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
