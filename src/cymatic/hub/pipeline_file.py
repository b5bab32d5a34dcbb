"""`pipeline.json`: what makes a folder of parts a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cymatic.config import Config
from cymatic.errors import ModelError
from cymatic.hub.earlier import todays_pipeline
from cymatic.hub.parts import CONFIG, FORMAT, check_format, read_json, write_json

PIPELINE = "pipeline.json"
RECIPE = "recipe.yaml"  # of a run, there from its first step on
MOST_CAPTIONS = 10_000

Kind = Literal["generator", "codec", "encoders", "word"]


class PipelineFile(Config):
    """The parts of a model by folder, the captions that it knows, and how it is used where the user says nothing.

    sampling: settings of its prior. scale: of encoders that were aligned, by what their similarities become logits
    (the inverse of the temperature that was learned). ranker: a folder inside the model with aligned encoders, by
    which the best of what it makes are kept. space: such a folder, too: its vectors are what the prior reads, and
    it ranks where no ranker is named. generator: of encoders, a model (a starter's name, or a folder, from here
    where it is a relative one) that has this very space, and makes something of whatever its encoders read here.
    kbps: how many thousand bits a second a codec spends (None: all that it can). version: of a model that is
    published again and again; licence: of its weights, in a few words. No hash of a model is over this file, so
    neither changes what a `.cym` file says of its codec.
    """

    parts: dict[str, str] = Field(min_length=1)
    captions: tuple[str, ...] = Field(default=(), max_length=MOST_CAPTIONS)
    sampling: dict[str, Any] = Field(default_factory=dict)
    scale: float | None = Field(default=None, gt=0)
    ranker: str | None = Field(default=None, min_length=1)
    space: str | None = Field(default=None, min_length=1)
    generator: str | None = Field(default=None, min_length=1, max_length=4096)
    kbps: float | None = Field(default=None, gt=0)
    version: int | None = Field(default=None, ge=1)
    licence: str | None = Field(default=None, min_length=1, max_length=200)

    def stamp(self, name: str, sha256: str) -> dict[str, Any]:
        """What the info of something made says of the model that made it."""
        version = {} if self.version is None else {"version": self.version}
        return {"model": name, **version, "sha256": sha256}

    @property
    def kind(self) -> Kind:
        """What the parts make together."""
        if self.has_prior:
            return "generator"
        if self.has_word:
            return "word"
        return "encoders" if self.is_space else "codec"

    @property
    def has_prior(self) -> bool:
        """Whether something is made by a prior of its own."""
        return "prior" in self.parts

    @property
    def is_space(self) -> bool:
        """Whether there are aligned encoders and nothing else."""
        return self.parts.keys().isdisjoint(("prior", "codec", "token"))

    @property
    def has_word(self) -> bool:
        """Whether it makes words of sounds, for a Stable Diffusion (AudioToken)."""
        return "token" in self.parts

    def folder(self, model: Path, name: str) -> Path:
        """Where part `name` lies. Raises ModelError where it is not named or points outside `model`."""
        if name not in self.parts:
            raise ModelError(f'{model / PIPELINE} names no "{name}", which is needed here; it has {sorted(self.parts)}')
        return _inside(model, name, self.parts[name])

    def ranker_of(self, model: Path) -> Path | None:
        """Where the encoders lie that rank what the model makes; None where there are none. Raises as `folder`."""
        return None if self.ranker is None else _inside(model, "ranker", self.ranker)

    def space_of(self, model: Path) -> Path | None:
        """Where the encoders lie whose vectors the prior reads; None where there are none. Raises as `folder`."""
        return None if self.space is None else _inside(model, "space", self.space)

    def places(self, model: Path, names: Sequence[str] | None = None) -> dict[str, Path]:
        """The folders of the parts `names`, or of all. Raises ModelError where one is not there yet."""
        places = {name: self.folder(model, name) for name in (self.parts if names is None else names)}
        for name, place in places.items():
            if not (place / CONFIG).is_file():
                raise ModelError(
                    f"{model} lacks its {name} ({self.parts[name]}/{CONFIG} is missing); if it is a run that was "
                    "stopped early, finish it with cymatic train --resume, otherwise copy it again"
                )
        return places


def _inside(model: Path, name: str, relative: str) -> Path:
    """The folder `relative` of `model`. Raises ModelError where that is no folder's name, or outside of it."""
    folder = model / relative
    try:
        inside = folder.resolve().is_relative_to(model.resolve())
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, a NUL
        raise ModelError(f'{model / PIPELINE}: "{name}" is no place for a part ({error})') from None
    if not inside:
        raise ModelError(f'{model / PIPELINE}: "{name}" points outside the model ({relative}): refused')
    return folder


def read_pipeline(model: Path) -> PipelineFile:
    """What `model` is made of. Raises ModelError where it holds no pipeline.json, or one that this version can't
    read."""
    path = model / PIPELINE
    if not path.exists() and (model / RECIPE).exists():
        raise ModelError(f"{model} is a run that is no model yet; finish it with cymatic train --resume --out {model}")
    if not path.exists():
        raise ModelError(f"{model} is no model, for it holds no {PIPELINE}; give a folder that cymatic train wrote")
    values: dict[str, Any] = read_json(path)
    check_format(values, path)
    return PipelineFile.parse(todays_pipeline(values, str(path)), str(path))


def write_pipeline(model: Path, pipeline: PipelineFile) -> None:
    values = pipeline.model_dump(mode="json", exclude_none=True)
    write_json(model / PIPELINE, {"format": FORMAT, **values})
