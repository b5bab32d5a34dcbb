"""The base of every configuration: frozen, validated, unknown keys refused with the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Self

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
    # Where a key takes one of several types, pydantic names the type that it tried, as in "mel.literal['auto']".
    key = ".".join(str(part) for part in first["loc"] if "[" not in str(part)) or "the settings"
    if first["type"] == "extra_forbidden":
        return f'unknown key "{key}"; {nearest(str(first["loc"][-1]), _fields_at(model, first["loc"][:-1]))}'
    if first["type"] == "missing":
        return f'"{key}" is missing'
    message = first["msg"].removeprefix("Value error, ")
    return f'"{key}" is {first["input"]!r:.80}: {message[0].lower()}{message[1:]}'


def _fields_at(model: type[BaseModel], path: tuple[int | str, ...]) -> set[str]:
    """The field names valid at `path` below `model` (a closed union's `kind` appears as a step in pydantic's path)."""
    fields = model.model_fields
    for step in path:
        if str(step) not in fields:
            continue
        annotation = fields[str(step)].annotation
        options = getattr(annotation, "__args__", (annotation,))
        nested = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if nested:
            fields = {name: field for option in nested for name, field in option.model_fields.items()}
    return set(fields)
