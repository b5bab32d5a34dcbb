"""cymatic: words in, sound out.

    import cymatic

    george = cymatic.load("starter-sound")
    george("george says seven", seed=1).write("seven.wav")

`import cymatic` alone reads nothing but this file: torch and the rest come with the first name that is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cymatic.version import __version__

if TYPE_CHECKING:
    from cymatic.errors import Error
    from cymatic.media.picture import Picture
    from cymatic.media.sound import Sound
    from cymatic.pipelines.load import load

__all__ = ["Error", "Picture", "Sound", "__version__", "load"]

_HOMES = {
    "Error": "cymatic.errors",
    "Picture": "cymatic.media.picture",
    "Sound": "cymatic.media.sound",
    "load": "cymatic.pipelines.load",
}


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cymatic' has no attribute {name!r}; it offers {', '.join(__all__)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
