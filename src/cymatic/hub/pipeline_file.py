"""`pipeline.json`: what makes a folder of parts a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cymatic.config import Config
from cymatic.errors import ModelError
from cymatic.hub.parts import FORMAT, check_format, read_json, write_json
from cymatic.priors.samplers import Interval, SamplerName

PIPELINE = "pipeline.json"
MOST_CAPTIONS = 10_000


class PipelineFile(Config):
    """The parts of a text-to-sound model by folder, how it samples by default, and the captions that it knows."""

    kind: Literal["text-to-sound"] = "text-to-sound"
    parts: dict[str, str]
    guidance: float = Field(default=2.0, ge=0, le=100)
    guidance_interval: Interval = (0.0, 1.0)
    steps: int = Field(default=12, ge=1, le=1000)
    sampler: SamplerName = "heun"
    captions: tuple[str, ...] = Field(default=(), max_length=MOST_CAPTIONS)

    def folder(self, model: Path, name: str) -> Path:
        """Where part `name` lies. Raises ModelError where it is not named or points outside `model`."""
        if name not in self.parts:
            raise ModelError(f'{model / PIPELINE} names no "{name}", which a {self.kind} model needs')
        folder = model / self.parts[name]
        try:
            inside = folder.resolve().is_relative_to(model.resolve())
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, a NUL
            raise ModelError(f'{model / PIPELINE}: "{name}" is no place for a part ({error})') from None
        if not inside:
            raise ModelError(f'{model / PIPELINE}: "{name}" points outside the model ({self.parts[name]}): refused')
        return folder


def read_pipeline(model: Path) -> PipelineFile:
    """Raises ModelError where `model` holds no pipeline.json, or one that this version can't read."""
    path = model / PIPELINE
    if not path.exists():
        raise ModelError(f"{model} is no model, for it holds no {PIPELINE}; give a folder that cymatic train wrote")
    values: dict[str, Any] = read_json(path)
    check_format(values, path)
    return PipelineFile.parse(values, str(path))


def write_pipeline(model: Path, pipeline: PipelineFile) -> None:
    write_json(model / PIPELINE, {"format": FORMAT, **pipeline.model_dump(mode="json")})
