"""What libraries say to programmers is kept from users, in threads too."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cymatic.errors import Note

_TURN = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """No warning is shown within it but a Note.

    Python's filters of warnings belong to the whole process. Two threads that change them at once restore each other's
    state, and what is ignored for a moment may stay ignored. So threads take turns: hold this for short calls only.
    """
    with _TURN, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", Note)
        yield
