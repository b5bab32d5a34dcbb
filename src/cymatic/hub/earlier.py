"""What earlier versions wrote into `config.json`, in the keys of this one. No other module knows those keys.

Whoever takes a key away or gives it another name adds a line to `CHANGES`, under the `kind` of the mapping that held
it. Files are never rewritten: a `.cym` names its codec by a hash of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cymatic.errors import ModelError

DEEPEST = 16  # mappings in one another; no config has as many


@dataclass(frozen=True)
class Gone:
    """A key that this version doesn't have. `key`: its path below the mapping, such as `objective.time`.

    neutral: the values by which it did nothing. training: it changed how a part is trained and nothing else, so a part
    that was trained with it works without it.
    """

    key: str
    neutral: tuple[Any, ...]
    training: bool = False


@dataclass(frozen=True)
class Renamed:
    """A key that is called `to` by now, which may lie in another mapping; both are paths, as in `Gone`."""

    key: str
    to: str


Change = Gone | Renamed

CHANGES: dict[str, tuple[Change, ...]] = {
    "residual": (
        Gone("temperature", neutral=(None,), training=True),
        Gone("decorrelation", neutral=(0,), training=True),
    ),
    "waveform": (Renamed("tile", to="block"),),
}


def todays_config(values: Mapping[str, Any], where: str, *, to_train: bool = False) -> dict[str, Any]:
    """`values` of a part, and of all parts inside, in the keys of this version.

    where: what an error names, such as the file. to_train: these are settings of a training to come, so that keys that
    matter in training matter. Raises ModelError as `changed`.
    """
    return _todays(values, where, to_train, ())


def _todays(values: Mapping[str, Any], where: str, to_train: bool, path: tuple[str, ...]) -> dict[str, Any]:
    kind = values.get("kind")
    changes = CHANGES.get(kind, ()) if isinstance(kind, str) else ()
    own = changed(values, changes, where, to_train=to_train, path=path)
    if len(path) == DEEPEST:
        return own
    return {
        key: _todays(value, where, to_train, (*path, str(key))) if isinstance(value, dict) else value
        for key, value in own.items()
    }


def changed(
    values: Mapping[str, Any],
    changes: Sequence[Change],
    where: str,
    *,
    to_train: bool = True,
    path: tuple[str, ...] = (),
) -> dict[str, Any]:
    """`values` after `changes`, in their order; `values` itself is left as it is. `path`: where it lies, for errors.

    Raises ModelError where a key that is gone did something, and where a key stands beside its old name.
    """
    result = dict(values)
    for change in changes:
        *place, last = change.key.split(".")
        holder = _mapping(result, place)
        if holder is None or last not in holder:
            continue
        value = holder.pop(last)
        name = ".".join((*path, change.key))
        if isinstance(change, Gone):
            if value not in change.neutral and (to_train or not change.training):
                raise ModelError(
                    f'{where}: "{name}" is {value!r:.80}, and this version no longer has that option; leave it out, or '
                    "use the version that wrote it"
                )
            continue
        *place, last = change.to.split(".")
        holder = _mapping(result, place, make=True)
        if holder is None or last in holder:
            raise ModelError(
                f'{where}: "{name}" is called "{".".join((*path, change.to))}" by now, and that is there, too; give '
                "the second only"
            )
        holder[last] = value
    return result


def _mapping(values: dict[str, Any], place: Sequence[str], *, make: bool = False) -> dict[str, Any] | None:
    """The mapping at `place` below `values`, as a copy that lies there in its stead. None where there is none, unless
    it is to be made."""
    for step in place:
        below = values.get(step, {} if make else None)
        if not isinstance(below, dict):
            return None
        values[step] = dict(below)
        values = values[step]
    return values


# The settings of sampling that each kind of model had at the top of its pipeline.json.
SAMPLING: dict[str, tuple[str, ...]] = {
    "text-to-sound": ("guidance", "guidance_interval", "steps", "sampler"),
    "mel-gpt": ("guidance", "temperature", "top_k", "top_p"),
    "codec-gpt": ("guidance", "temperature", "top_k", "top_p"),
    "waveform-codec": (),
}
# What a text-to-sound model did where its file said nothing.
UNSAID: dict[str, Any] = {"guidance": 2.0, "guidance_interval": [0.0, 1.0], "steps": 12, "sampler": "heun"}
ENCODER = "encoder"
CALLED = {"text": ENCODER, "condition": ENCODER}  # parts, by their names then


def todays_pipeline(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values` of a pipeline.json in the keys of this version: what the parts are says what the model is, so that it
    has no kind, and settings of sampling stand under `sampling`. Raises ModelError for a kind that never was."""
    if "kind" not in values and not set(values) & {*SAMPLING["text-to-sound"], *SAMPLING["mel-gpt"]}:
        return dict(values)
    kind = values.get("kind", "text-to-sound")
    if not isinstance(kind, str) or kind not in SAMPLING:
        raise ModelError(f'{where} is a model of the kind "{kind}" where one of {sorted(SAMPLING)} is needed')
    result = {key: value for key, value in values.items() if key not in ("kind", *SAMPLING[kind])}
    said = {**UNSAID, **values}
    result["sampling"] = {key: said[key] for key in SAMPLING[kind] if key in said}
    parts = values.get("parts")
    if isinstance(parts, dict):
        result["parts"] = {CALLED.get(name, name): place for name, place in parts.items()}
    return result
