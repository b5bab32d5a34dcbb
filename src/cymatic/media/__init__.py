"""What people hear and see: sounds, pictures, features, and their files. Adding a medium is one line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cymatic.media.audio import AUDIO
from cymatic.media.features import FEATURES
from cymatic.media.medium import Medium
from cymatic.media.picture import PICTURE

MEDIA: dict[str, Medium[Any]] = {medium.name: medium for medium in (AUDIO, PICTURE, FEATURES)}


def medium_of(path: str | Path) -> Medium[Any] | None:
    """The medium of a file by its suffix; None where no medium has it."""
    suffix = Path(path).suffix.lower()
    return next((medium for medium in MEDIA.values() if suffix in medium.suffixes), None)


def medium_of_value(value: Any) -> Medium[Any] | None:
    """The medium of a value by its type, such as a `Picture`; None where no medium's values are of it."""
    return next((one for one in MEDIA.values() if one.holds is not None and isinstance(value, one.holds)), None)
