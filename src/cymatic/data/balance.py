"""Which examples an epoch meets where each value of a field counts the same, however many examples have it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from cymatic.config import nearest
from cymatic.data.folder import Item
from cymatic.data.reading import Example
from cymatic.errors import Error
from cymatic.seeds import mixed


def check_field(field: str, items: Sequence[Item]) -> None:
    """Raises Error where no item has the field."""
    known = {"caption", "group"}.union(*(item.fields for item in items))
    if field not in known:
        raise Error(f'no item has the field "{field}" that data.balance names; {nearest(field, known)}')


def value_of(field: str, item: Item, caption: str) -> str:
    """What an item has in a field, as a text; an item without it is a value of its own."""
    fields: dict[str, Any] = {**item.fields, "caption": caption, "group": item.group}
    value = fields.get(field)
    return str(item.path()) if value in (None, "") else str(value)


def values_of(values: Sequence[str], power: float) -> list[str]:
    """The values that count the same: each of them, or of one that n examples have, about `n^power` with as many
    examples each."""
    counts, met = Counter(values), Counter[str]()
    found = []
    for value in values:
        shares = max(1, round(counts[value] ** power))
        found.append(value if shares == 1 else f"{value} {met[value] % shares + 1}/{shares}")
        met[value] += 1
    return found


def groups_of(examples: Sequence[Example]) -> list[list[int]]:
    """The places of the examples of each value, the values as they come first; none where nothing is balanced."""
    groups: dict[str, list[int]] = {}
    for place, one in enumerate(examples):
        if one.balanced_by is not None:
            groups.setdefault(one.balanced_by, []).append(place)
    return list(groups.values())


def rounds_of(groups: Sequence[Sequence[int]]) -> int:
    """How often an epoch meets each value, so that it is about as long as there are examples."""
    return max(1, round(sum(map(len, groups)) / len(groups)))


def drawn(groups: Sequence[Sequence[int]], seed: int, epoch: int) -> list[int]:
    """The places that an epoch meets: of each value as many, one after the other in an order that changes whenever all
    were met, going on where the epoch before ended."""
    rounds = rounds_of(groups)
    places = []
    for number, group in enumerate(groups):
        begin, end = epoch * rounds, (epoch + 1) * rounds
        for turn in range(begin // len(group), -(-end // len(group))):
            order = np.random.Generator(np.random.PCG64(mixed(seed, number, turn))).permutation(len(group))
            first = turn * len(group)
            places += [group[i] for i in order[max(0, begin - first) : end - first]]
    return places
