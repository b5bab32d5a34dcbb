"""What a resumed run keeps of itself where its data are others by now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from cymatic.config import Config
from cymatic.data.examples import Data, Example
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import read_config
from cymatic.training.built import Context

NAMED = 3


def own_config(place: Path, kind: type[nn.Module], wanted: Config) -> Any:
    """The config of a part that a run has, with what it once took from its data: the names of its classes, say.

    Raises ModelError where the recipe wants another part.
    """
    found: Config = read_config(place, (kind,))
    other = [name for name, value in wanted if value not in (None, ()) and dict(found)[name] != value]
    if other:
        raise ModelError(
            f"{place} does not fit the run's recipe: its {other[0]} is {dict(found)[other[0]]!r:.80}, and the recipe's "
            f"{dict(wanted)[other[0]]!r:.80}; a resumed run keeps its recipe"
        )
    return found


def kept_of(context: Context, data: Data, known: Sequence[Example]) -> Data:
    """`data` with those of its items to train on that are `known`; the rest is named. Raises Error where none is."""
    left = len(data.train) - len(known)
    if not left:
        return data
    here = set(map(id, known))
    names = dict.fromkeys(one.caption or "no caption" for one in data.train if id(one) not in here)
    such = ", ".join(list(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")
    why = "longer than any, or of another class, than those that the run began with"
    if not known:
        raise Error(f"none of the items can be trained on by this run: all are {why}; begin a new run with --out")
    context.say(f"note   {left} items are left out, for they are {why} ({such}); a new run would learn them")
    weights = [weight for one, weight in zip(data.train, data.weights, strict=False) if id(one) in here]
    epoch = [one for one in data.epoch if id(one) in here]
    return replace(data, train=list(known), epoch=epoch, weights=weights)
