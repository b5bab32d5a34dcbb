"""Captions from the fields of a manifest: an item may be called by its name, an alias, its name in another language.

A field holds a text, a list of texts, or texts by language; of these `names.de` takes one language, `names` all. Each
field is a group: training draws a group first, and then one of its texts, so that a long list of keywords counts no
more than one name. A field that is listed twice is drawn twice as often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cymatic.config import nearest
from cymatic.data.captions import caption_key
from cymatic.data.spelling import nfc
from cymatic.errors import Error

Groups = tuple[tuple[str, ...], ...]


def groups_of(line: Mapping[str, Any], fields: Sequence[str]) -> Groups:
    """The texts of each field of a manifest's line that has some, each text once in its group."""
    found = (_distinct(_texts(_inside(line, field))) for field in fields)
    return tuple(group for group in found if group)


def check_fields(lines: Iterable[Mapping[str, Any]], fields: Sequence[str], where: str) -> None:
    """Raises Error for a field that holds no text in any line."""
    lines = list(lines)
    for field in fields:
        if lines and not any(groups_of(line, (field,)) for line in lines):
            known = {name for line in lines for name in _names(line)}
            raise Error(f'no line of {where} has a text in "{field}"; {nearest(field, known)}')


def fields_with_texts(line: Mapping[str, Any]) -> list[str]:
    """The fields of a line that captions could be made of, in their order."""
    return [name for name in line if groups_of(line, (name,))]


def _names(line: Mapping[str, Any]) -> list[str]:
    languages = (f"{name}.{one}" for name, value in line.items() if isinstance(value, Mapping) for one in value)
    return [*fields_with_texts(line), *languages]


def _inside(line: Mapping[str, Any], field: str) -> Any:
    """The value of a field, or of a language of it; a field whose own name has a point comes first."""
    if field in line:
        return line[field]
    name, point, language = field.rpartition(".")
    held = line.get(name) if point else None
    return held.get(language) if isinstance(held, Mapping) else None


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [" ".join(nfc(value).split())]
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value if isinstance(one, str) for text in _texts(one)]
    return []


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for text in texts:
        if text:
            first.setdefault(caption_key(text), text)
    return tuple(first.values())
