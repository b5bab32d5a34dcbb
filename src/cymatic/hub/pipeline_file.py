"""`pipeline.json`: what makes a folder of parts a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from pydantic import Field

from cymatic.config import Config
from cymatic.errors import ModelError
from cymatic.hub.parts import CONFIG, FORMAT, check_format, read_json, write_json
from cymatic.priors.samplers import Interval, SamplerName

PIPELINE = "pipeline.json"
MOST_CAPTIONS = 10_000


class Parts(Config):
    """The parts of a model by folder, and the captions that it knows."""

    parts: dict[str, str]
    captions: tuple[str, ...] = Field(default=(), max_length=MOST_CAPTIONS)

    def folder(self, model: Path, name: str) -> Path:
        """Where part `name` lies. Raises ModelError where it is not named or points outside `model`."""
        if name not in self.parts:
            raise ModelError(f'{model / PIPELINE} names no "{name}", which a {_kind(type(self))} model needs')
        folder = model / self.parts[name]
        try:
            inside = folder.resolve().is_relative_to(model.resolve())
        except (OSError, RuntimeError, ValueError) as error:  # a name too long, a loop of links, a NUL
            raise ModelError(f'{model / PIPELINE}: "{name}" is no place for a part ({error})') from None
        if not inside:
            raise ModelError(f'{model / PIPELINE}: "{name}" points outside the model ({self.parts[name]}): refused')
        return folder

    def places(self, model: Path, names: Sequence[str]) -> dict[str, Path]:
        """The folders of the parts `names`. Raises ModelError where one is not there yet."""
        places = {name: self.folder(model, name) for name in names}
        for name, place in places.items():
            if not (place / CONFIG).is_file():
                raise ModelError(
                    f"{model} lacks its {name} ({self.parts[name]}/{CONFIG} is missing); if it is a run that was "
                    "stopped early, finish it with cymatic train --resume, otherwise copy it again"
                )
        return places


class PipelineFile(Parts):
    """A text-to-sound model by a flow over mels, and how it samples by default."""

    kind: Literal["text-to-sound"] = "text-to-sound"
    guidance: float = Field(default=2.0, ge=0, le=100)
    guidance_interval: Interval = (0.0, 1.0)
    steps: int = Field(default=12, ge=1, le=1000)
    sampler: SamplerName = "heun"


class DrawnCodes(Parts):
    """A model by a prior over codes, and how it draws them by default."""

    guidance: float = Field(default=2.0, ge=0, le=100)
    temperature: float = Field(default=1.0, gt=0, le=100)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)

    def or_usual(
        self, guidance: float | None, temperature: float | None, top_k: int | None, top_p: float | None
    ) -> dict[str, Any]:
        """What was asked for, and what is usual where nothing was."""
        asked = {"guidance": guidance, "temperature": temperature, "top_k": top_k, "top_p": top_p}
        return {name: getattr(self, name) if value is None else value for name, value in asked.items()}


class CodesFile(DrawnCodes):
    """A text-to-sound model by a prior over the codes of a spectrogram codec, and how it samples by default."""

    kind: Literal["mel-gpt"] = "mel-gpt"


class CodecFile(Parts):
    """A waveform codec on its own, and how many thousand bits a second it spends by default (None: all that it can)."""

    kind: Literal["waveform-codec"] = "waveform-codec"
    kbps: float | None = Field(default=None, gt=0)


class CodecGPTFile(DrawnCodes):
    """A text-to-sound model by a prior over the codes of a waveform codec, which needs no vocoder."""

    kind: Literal["codec-gpt"] = "codec-gpt"


PARTS_OF_CODES = ("condition", "codec", "prior", "vocoder")

F = TypeVar("F", bound=Parts)
FILES: tuple[type[Parts], ...] = (PipelineFile, CodesFile, CodecGPTFile, CodecFile)


def read_pipeline(model: Path, *kinds: type[F]) -> F:
    """What `model` is made of: one of `kinds`, or of any kind where none is given.

    Raises ModelError where it holds no pipeline.json, one that this version can't read, or one of another kind.
    """
    path = model / PIPELINE
    if not path.exists():
        raise ModelError(f"{model} is no model, for it holds no {PIPELINE}; give a folder that cymatic train wrote")
    values: dict[str, Any] = read_json(path)
    check_format(values, path)
    known = {_kind(one): one for one in (kinds or FILES)}
    found = values.get("kind", _kind(PipelineFile))
    if found not in known:
        raise ModelError(f'{model} is a model of the kind "{found}" where one of {sorted(known)} is needed')
    return cast(F, known[found].parse(values, str(path)))


def _kind(file: type[Parts]) -> str:
    return str(file.model_fields["kind"].default)


def write_pipeline(model: Path, pipeline: Parts) -> None:
    values = pipeline.model_dump(mode="json")
    write_json(model / PIPELINE, {"format": FORMAT, "kind": values.pop("kind"), **values})
