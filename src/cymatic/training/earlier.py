"""What recipes of earlier versions say, in the keys of this one. No other module knows those keys.

Whoever takes a key of a recipe away or gives it another name adds a line to `CHANGES`, under the recipe's kind; for
keys of parts, such as `quantizer`, `hub.earlier` has them, for files and recipes alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cymatic.hub.earlier import Change, Gone, changed, todays_config

CHANGES: dict[str, tuple[Change, ...]] = {
    "waveform-codec": (
        Gone("objective.stft", neutral=(0,)),
        Gone("objective.time", neutral=(0,)),
        Gone("objective.emphasis", neutral=(0,)),
    ),
}
# The kinds of parts that recipes may leave out.
UNSAID: dict[str, dict[str, str]] = {"waveform-codec": {"quantizer": "residual"}}


def todays_recipe(values: Mapping[str, Any], kind: str, where: str) -> dict[str, Any]:
    """`values` of a recipe of this kind in the keys of this version. Raises ModelError as `hub.earlier.changed`."""
    result = changed(values, CHANGES.get(kind, ()), where)
    for key, part in UNSAID.get(kind, {}).items():
        if isinstance(result.get(key), dict):
            result[key] = {"kind": part, **result[key]}
    return todays_config(result, where, to_train=True)
