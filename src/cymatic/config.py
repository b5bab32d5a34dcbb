"""The base of every configuration: frozen, validated, unknown keys refused with the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from cymatic.errors import ModelError


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean "width"?` for the known name closest to `name`, else the list of all known names."""
    names = sorted(known)
    if not names:
        return "none is known"
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(names)}"


class Config(BaseModel):
    """A frozen settings object; a part is built from exactly one of these and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @classmethod
    def parse(cls, values: Any, where: str) -> Self:
        """Validates `values` (as read from JSON or YAML), naming `where` they came from.

        Raises ModelError in one sentence: the first offending key, what it held and what was expected.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ModelError(f"{where}: {explain(error, cls)}") from None


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a pydantic error as one sentence for a reader."""
    problems = error.errors()
    first = problems[0]
    if not isinstance(first["input"], dict):  # a plain value where one of some names would do, too: say the names
        first = next((p for p in problems if p["type"] == "literal_error" and p["input"] == first["input"]), first)
    path, fields = _place(model, first["loc"])
    key = ".".join(path) or "the settings"
    if first["type"] == "extra_forbidden":
        return f'unknown key "{key}"; {nearest(path[-1], fields)}'
    if first["type"] == "missing":
        return f'"{key}" is missing'
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # of several keys, which it names itself
        return f'"{key}": {message}'
    return f'"{key}" is {first["input"]!r:.80}: {message[0].lower()}{message[1:]}'


def _place(model: type[BaseModel], steps: tuple[int | str, ...]) -> tuple[list[str], set[str]]:
    """The keys on the way that pydantic names, and the keys that are known where the last one stands.

    Where a key takes one of several types, pydantic names the type that it tried, too: `literal['auto']`, or the tag of
    a closed union, such as `flow`. Those are no keys.
    """
    path: list[str] = []
    here: list[Any] = [model]
    fields: set[str] = set()
    for step in map(str, steps):
        models = [one for one in here if isinstance(one, type) and issubclass(one, BaseModel)]
        tagged = [one for one in models if step in _tags(one)]
        if "[" in step or (len(models) > 1 and tagged):
            here = tagged or here
            continue
        path.append(step)
        fields = {name for one in models for name in one.model_fields}
        within = [one.model_fields[step].annotation for one in models if step in one.model_fields]
        within += [of[-1] for one in here if (of := [of for of in get_args(one) if of is not Ellipsis])]  # inside of it
        here = [option for one in within for option in _options(one)]
    return path, fields


def _options(annotation: Any) -> list[Any]:
    """The types that an annotation allows, one by one."""
    if get_origin(annotation) is Annotated:
        return _options(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [option for one in get_args(annotation) for option in _options(one)]
    return [annotation]


def _tags(model: type[BaseModel]) -> set[str]:
    """What tells a model from others in a closed union: the values of its fields that have one value each."""
    annotations = (field.annotation for field in model.model_fields.values())
    values = (get_args(one) for one in annotations if get_origin(one) is Literal)
    return {str(value[0]) for value in values if len(value) == 1}
