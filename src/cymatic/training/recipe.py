"""Recipes: what to train and how, in one YAML file: data, and stages in their order."""

from __future__ import annotations

from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, model_validator

from cymatic.config import Config, nearest
from cymatic.data.settings import DataSettings
from cymatic.errors import ModelError
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer
from cymatic.training.earlier import as_stages
from cymatic.training.settings import MOST_MINUTES, TrainingSettings, VocoderSettings
from cymatic.training.stages import SPACE, STAGES, AnyStage, Stage

DEFAULT = "text-to-sound"  # the preset of a recipe that names no stages


class Recipe(Config):
    """Data, and stages by name in the order in which they are trained.

    minutes, steps: how long the whole run may take, or how many steps each stage makes, where a stage says nothing.
    vocoder: what turns mels into sounds, where the last stage gives mels.
    """

    data: DataSettings = DataSettings()
    stages: dict[str, AnyStage] = Field(min_length=1)
    vocoder: VocoderSettings = VocoderSettings()
    minutes: float | None = Field(default=None, gt=0, le=MOST_MINUTES)
    steps: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.minutes is not None and self.steps is not None:
            raise ValueError("steps and minutes are both given; give one of them, and null for the other")
        for name in self.stages:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f'a stage is called "{name}"; give it a name of letters, digits, - and _')
        return self

    @model_validator(mode="after")
    def _spaces_come_first(self) -> Self:
        names = list(self.stages)
        for place, (name, stage) in enumerate(self.stages.items()):
            if stage.task not in ("prior", "alignment") or stage.space is None:
                continue
            aligned = self.stages.get(stage.space)
            if aligned is None and stage.task == "prior" and SPACE in names:
                raise ValueError(
                    f"the space of {name} is copied from {stage.space} into the run's folder {SPACE}, which a stage is "
                    f"called, too; leave that stage out (--set stages.{SPACE}=null), or call it otherwise"
                )
            if aligned is None:
                continue
            if aligned.task != "alignment" or names.index(stage.space) >= place:
                raise ValueError(
                    f'the space of {name} is "{stage.space}", which is no earlier stage of aligned encoders'
                )
            own = {"encoder": stage.encoder} if stage.task == "prior" else stage.parts
            for (role, part), (ours, encoder) in product(aligned.parts.items(), own.items()):
                if part.dim != encoder.dim:
                    raise ValueError(
                        f"the {role} of {stage.space} has dim {part.dim}, and the {ours} of {name} {encoder.dim}; "
                        "give both the same"
                    )
        return self

    @property
    def last(self) -> str:
        """The name of the last stage."""
        return list(self.stages)[-1]

    def lasting(self, name: str) -> TrainingSettings:
        """How a stage trains, with the length that it has from the recipe where it has none of its own."""
        settings = self.stages[name].training
        if settings.steps is not None or settings.minutes is not None:
            return settings
        if self.minutes is None:
            return settings.model_copy(update={"steps": self.steps})
        shares = {other: stage.share for other, stage in self.stages.items()}
        return settings.model_copy(update={"minutes": self.minutes * shares[name] / sum(shares.values())})

    @property
    def has_length(self) -> bool:
        """Whether it says how long each stage trains."""
        lengths = [self.lasting(name) for name in self.stages]
        return all(one.minutes is not None or one.steps is not None for one in lengths)

    def lasting_for(self, *, minutes: float | None = None, steps: int | None = None) -> Recipe:
        """The recipe with this length instead of its own; of several stages, those with a length of their own keep
        it."""
        recipe = self.model_copy(update={"minutes": minutes, "steps": steps})
        if len(self.stages) == 1:
            open_ended = self.stages[self.last].training.model_copy(update={"minutes": None, "steps": None})
            recipe = recipe.with_stage(self.last, training=open_ended)
        return recipe

    def at(self, folder: str) -> Recipe:
        """The recipe with its data in another place."""
        return self.model_copy(update={"data": self.data.model_copy(update={"folder": folder})})

    def read_as(self, settings: DataSettings) -> Recipe:
        """The recipe with captions made as in these settings of the same data."""
        captions = {"captions": settings.captions, "packs": settings.packs}
        return self.model_copy(update={"data": self.data.model_copy(update=captions)})

    def with_stage(self, name: str, **changes: Any) -> Recipe:
        """The recipe with other values in one of its stages."""
        stage = self.stages[name].model_copy(update=changes)
        return self.model_copy(update={"stages": {**self.stages, name: stage}})

    def going_on_from(self, model: str | None) -> Recipe:
        """The recipe as it goes on from a model. Of several stages the first is that model's part then, and left out;
        those that use it take the model's.

        Raises ModelError where there is nothing to leave out.
        """
        (first, stage), *others = self.stages.items()
        if not others:
            return self.model_copy(update={"stages": {first: stage.going_on_from(model)}})
        if model is None:
            return self
        return self.model_copy(update={"stages": {name: stage.instead_of(first, model) for name, stage in others}})


def shipped() -> dict[str, Path]:
    """The recipes inside the package, by name."""
    return {path.stem: path for path in sorted(Path(str(files("cymatic") / "recipes")).glob("*.yaml"))}


def read_recipe(name: str | Path) -> dict[str, Any]:
    """The settings in a shipped recipe (by name) or a YAML file (by path), not yet validated.

    Raises ModelError where there is no such recipe or it is not a YAML mapping.
    """
    path = shipped().get(str(name), Path(name))
    if not path.is_file():
        raise ModelError(
            f'there is no recipe "{name}"; {nearest(str(name), shipped())} (or give the path of a YAML file)'
        )
    if is_lfs_pointer(path):
        raise ModelError(f"{path} {IS_LFS_POINTER}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds a {type(values).__name__} instead of settings such as `stages: ...`")
    if strange := [key for key in values if not isinstance(key, str)]:
        raise ModelError(f"{path} has the key {strange[0]!r}; keys should be names such as `stages`")
    return values


def parse_recipe(values: dict[str, Any], where: str) -> Recipe:
    """The validated recipe; one of an earlier version, or of no stages, becomes stages first (see `training.earlier`).

    Raises ModelError naming `where` for an unknown key or value.
    """
    return Recipe.parse(as_stages(values, where), where)


def with_settings(values: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """`values` with `a.b=c` settings laid over them; each value is read as YAML.

    A stage may be named without `stages`, and what its part holds without `part`: `prior.width=256` is
    `stages.prior.part.width=256`.
    """
    result = _copied(values)
    for setting in settings:
        key, equals, text = setting.partition("=")
        path = key.strip().split(".")
        if not equals or not all(path):
            raise ModelError(f'--set "{setting}" is not of the form a.b=c, such as prior.width=256')
        *above, last = _whole_path(result, path)
        place = result
        for step in above:
            below = place.get(step)
            place[step] = below if isinstance(below, dict) else {}
            place = place[step]
        try:
            place[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ModelError(f'--set "{setting}": {text!r} is not a YAML value') from None
    return result


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in values.items()}


def _whole_path(values: dict[str, Any], path: list[str]) -> list[str]:
    stages = values.get("stages")
    if not isinstance(stages, dict):
        return path
    if path[0] == "sampling" and (priors := [name for name, one in stages.items() if one.get("task") == "prior"]):
        path = [priors[-1], *path]
    if path[0] == "training":
        path = [list(stages)[-1], *path]
    if path[0] in stages:
        path = ["stages", *path]
    if len(path) > 3 or (len(path) == 3 and path[0] == "stages"):
        stage = stages.get(path[1])
        known = {*Stage.model_fields, *STAGE_KEYS}
        if path[0] == "stages" and isinstance(stage, dict) and path[2] not in known and "part" in stage:
            return [*path[:2], "part", *path[2:]]
    return path


STAGE_KEYS = frozenset(key for stage in STAGES for key in stage.model_fields)


def make_recipe(name: str | Path | None, settings: list[str]) -> Recipe:
    """The validated recipe; unknown keys are refused with the nearest valid name (ModelError)."""
    where = f"recipe {name}" if name is not None else "the settings"
    values = with_settings(as_stages(read_recipe(DEFAULT if name is None else name), where), settings)
    if isinstance(stages := values.get("stages"), dict):  # null leaves one out
        values["stages"] = {stage: one for stage, one in stages.items() if one is not None}
    return Recipe.parse(values, where)


def write_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every value spelled out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
