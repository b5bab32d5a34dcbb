"""Values as JSON has them."""

from __future__ import annotations

import json
import math
from typing import Any


def plain(value: object) -> Any:
    """Values as JSON has them: six digits are enough, NaN and infinity are null, keys are text."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | frozenset):
        return [plain(one) for one in (sorted(value) if isinstance(value, frozenset) else value)]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def as_json(value: object) -> bytes:
    """`plain` as bytes."""
    return (json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")
