"""`--captions`, of every command that reads what the files of a folder are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cymatic.data.captions_by_name import Captions
    from cymatic.data.folder import Folder

CAPTIONS_HELP = "Where names are captions, which: folder, file, both, or auto."
CaptionsOption = Annotated[str, typer.Option("--captions", help=CAPTIONS_HELP)]


def captions_asked(given: str | None) -> Captions | None:
    """What --captions says; None where it was not given. Raises Error for what is no way to make captions."""
    from cymatic.data.captions_by_name import captions_setting

    return None if given is None else captions_setting(given)


def say_chosen(asked: Captions, folders: Sequence[Folder], say: Callable[[str], None]) -> None:
    """Says which names `auto` made captions of, where it was asked for and there was a choice."""
    from cymatic.data.folder import chosen_captions

    for line in dict.fromkeys(map(chosen_captions, folders)) if asked == "auto" else ():
        if line:
            say(f"chosen {line}")
