"""Which models there are: what each is called, how large it is, under which licence, and what it makes.

Configs and the headers of weights are read and nothing is built, so that a folder of many runs is listed at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cymatic.encoders import ENCODERS
from cymatic.encoders.audiotoken import AudioTokenEmbedder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import CONFIG, WEIGHTS, read_part, read_shapes
from cymatic.hub.pipeline_file import PIPELINE, RECIPE, PipelineFile, read_pipeline
from cymatic.hub.readers.towers import ANY_ENCODER
from cymatic.hub.wave_codecs import ANY_CODEC
from cymatic.media import MEDIA
from cymatic.pipelines.load import find_model, starters
from cymatic.priors import PRIORS
from cymatic.training.recipe import parse_recipe, read_recipe
from cymatic.vocoders import VOCODERS

DEEPEST = 3  # folders in one another that are looked through for runs
GENERATIONS = 8  # of models that went on from each other, as far as their licence is looked for
KINDS: dict[str, tuple[Any, ...]] = {
    "encoder": ENCODERS, "prior": PRIORS, "codec": ANY_CODEC, "vocoder": VOCODERS, "token": (AudioTokenEmbedder,),
}  # fmt: skip


@dataclass(frozen=True)
class Listed:
    """One model. `name` is what --model takes. state: `ready`; `unfinished` for a run that is no model yet; `damaged`.

    megabytes: of its parts. version, licence: None where its pipeline.json, and what it went on from, say nothing.
    makes: None where that can't be told. problem: what is wrong, and what to do.
    """

    name: str
    folder: str
    starter: bool
    state: str
    version: int | None = None
    megabytes: float = 0.0
    licence: str | None = None
    makes: str | None = None
    problem: str | None = None


def models(folders: Sequence[Path]) -> list[Listed]:
    """The starters, then the runs in `folders`, or those folders themselves. Raises Error for a folder that is not
    there."""
    for folder in folders:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise Error(f"{folder} {what}; give folders that hold runs")
    found = {place.resolve(): look(name, place, starter=True) for name, place in starters().items()}
    for folder in folders:
        # By its own name, where links lead to it, too.
        for place in sorted(_runs(folder, DEEPEST), key=lambda run: (run.is_symlink(), len(run.parts), run)):
            found.setdefault(place.resolve(), look(str(place), place))
    return list(found.values())


def look(name: str, folder: Path, *, starter: bool = False) -> Listed:
    """What there is to say of the model in `folder`; whatever is wrong with it is said, too."""
    version = licence = None
    try:
        file = read_pipeline(folder)
        version, licence = file.version, _licence(folder, file, GENERATIONS)
        configs = _configs(folder, file)
        places = [*file.places(folder).values()]
        if (space := file.space_of(folder)) is not None:
            places += read_pipeline(space).places(space).values()
        size = round(sum(map(_size, places)) / 1e6, 1)
        return Listed(name, str(folder), starter, "ready", version, size, licence, _makes(file, configs))
    except (Error, OSError) as error:
        state = "unfinished" if _is_half(folder) else "damaged"
        return Listed(name, str(folder), starter, state, version, licence=licence, problem=str(error))


def _runs(folder: Path, deepest: int) -> Iterator[Path]:
    """The models and runs in `folder`, or itself; what lies inside a run is part of it."""
    if any((folder / name).is_file() for name in (PIPELINE, RECIPE)):
        yield folder
        return
    if not deepest:
        return
    try:
        below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError:  # somebody else's
        return
    for name in below:
        yield from _runs(folder / name, deepest - 1)


def _is_half(folder: Path) -> bool:
    """Whether it is a run that has not come to all of its parts."""
    if not (folder / RECIPE).is_file():
        return False
    try:
        file = read_pipeline(folder) if (folder / PIPELINE).exists() else None
        return file is None or any(not (file.folder(folder, name) / CONFIG).exists() for name in file.parts)
    except (ModelError, OSError):
        return False


def _configs(folder: Path, file: PipelineFile) -> dict[str, Any]:
    """The configs of its parts. Raises ModelError where one is missing, or can't be what it should be."""
    configs = {}
    for name, place in file.places(folder).items():
        _, configs[name] = read_part(place, KINDS.get(name, ANY_ENCODER))
        read_shapes(place / WEIGHTS)
    return configs


def _size(place: Path) -> int:
    """In bytes."""
    return sum((place / name).stat().st_size for name in (CONFIG, WEIGHTS))


def _makes(file: PipelineFile, configs: dict[str, Any]) -> str:
    if file.has_word:
        return "words of sounds, for a Stable Diffusion"
    if file.is_space:
        vectors = f"vectors of {' and '.join(sorted(_read_by(config) for config in configs.values()))}"
        return vectors if file.generator is None else f"{vectors}, and what {file.generator} makes of them"
    last = next(name for name in ("vocoder", "codec", "prior") if name in configs)
    gives = configs[last].reads if last == "prior" else configs[last].gives
    rate = f" at {gives.rate} Hz" if gives.waveform else ""
    nouns = MEDIA[gives.medium].nouns
    if file.kind == "codec":
        return f"codes of {nouns}{rate}"
    if "encoder" not in configs:
        raise ModelError("it names no encoder, which something that is made needs; train the model again")
    captions = f", {len(file.captions)} captions" if file.captions else ""
    return f"{nouns} from {_read_by(configs['encoder'])}{rate}{captions}"


def _read_by(encoder: Any) -> str:
    return "words" if encoder.reads is None else MEDIA[encoder.reads.medium].nouns


def _licence(folder: Path, file: PipelineFile, generations: int) -> str | None:
    """What the file says, or else what the models say whose weights this one took over."""
    if file.licence is not None or not generations or not (folder / RECIPE).is_file():
        return file.licence
    found = []
    for name in _origins(folder, file):
        try:
            place = find_model(name)
            found.append(_licence(place, read_pipeline(place), generations - 1))
        except (Error, OSError):  # it lay elsewhere by now
            continue
    return ", ".join(dict.fromkeys(one for one in found if one)) or None


def _origins(folder: Path, file: PipelineFile) -> list[str]:
    """The models whose weights a run took over."""
    try:
        recipe = parse_recipe(read_recipe(folder / RECIPE), str(folder / RECIPE))
    except (Error, OSError):
        return []
    names = [stage.start for stage in recipe.stages.values()]
    names += [
        codec for stage in recipe.stages.values() if (codec := getattr(stage, "codec", None)) not in recipe.stages
    ]
    if "vocoder" in file.parts and read_shapes(file.folder(folder, "vocoder") / WEIGHTS):
        names.append(recipe.vocoder.model)
    return [name for name in names if name]
