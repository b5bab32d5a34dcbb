"""Prompts from a file or a folder, and names of files from prompts. A prompt is words, or the path of a sound or a
picture."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cymatic.errors import Error
from cymatic.files import reason
from cymatic.media import medium_of

MOST_PROMPTS = 10_000
MOST_BYTES = 2**24  # of a file of prompts
LONGEST = 80  # bytes of a name before its number and suffix


def prompt_of(given: str) -> str | Path:
    """Words; or the path of a file, where they end like one of a medium, even where it is not there."""
    return Path(given) if medium_of(given) is not None else given


def read_prompts(path: Path) -> list[str | Path]:
    """The prompts of a text file in UTF-8, one a line; blank lines are passed over. Of a folder its sounds and
    pictures, by name.

    Raises Error for a file that can't be read, is not UTF-8, and where there is no prompt or more than 10,000.
    """
    if path.is_dir():
        return _files_in(path)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise Error(f"{path} is larger than {MOST_BYTES >> 20} MB; give a text file with a prompt a line")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Error(f"{path} is not UTF-8; save it as UTF-8, one prompt a line") from None
    except (FileNotFoundError, NotADirectoryError):
        raise Error(f"{path} does not exist; give a text file with a prompt a line") from None
    except OSError as error:
        raise Error(f"{path} can't be read ({reason(error)}); give a text file with a prompt a line") from None
    except ValueError as error:  # a NUL in the name
        raise Error(f"{str(path)!r:.200} can't be read ({error}); give a text file with a prompt a line") from None
    prompts = [prompt_of(line.strip()) for line in text.splitlines() if line.strip()]
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise Error(f"{path} holds {len(prompts)} prompts; give 1 to {MOST_PROMPTS}, one a line")
    return prompts


def _files_in(folder: Path) -> list[str | Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise Error(f"{folder} can't be read ({reason(error)}); give a folder of files, or a text file") from None
    found = [folder / name for name in names if not name.startswith(".") and medium_of(name) is not None]
    if not 1 <= len(found) <= MOST_PROMPTS:
        raise Error(f"{folder} holds {len(found)} sounds and pictures; give 1 to {MOST_PROMPTS}, or a text file")
    return list(found)


def names_of(prompts: Sequence[str | Path]) -> list[str]:
    """A file name without suffix for each prompt: its letters and digits, of any script, with - for what is between. Of
    a path those of its name.

    >>> names_of(["A red apple!", "a red apple", "???"])
    ['a-red-apple', 'a-red-apple-2', 'prompt-3']
    """
    names: list[str] = []
    taken: set[str] = set()
    for number, prompt in enumerate(prompts, 1):
        name = first = _slug(prompt.stem if isinstance(prompt, Path) else prompt) or f"prompt-{number}"
        again = 1
        while name in taken:
            again += 1
            name = f"{first}-{again}"
        taken.add(name)
        names.append(name)
    return names


def _slug(prompt: str) -> str:
    # Lower case and one Unicode form, since some file systems know no other difference.
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", prompt).casefold())
    kept = "".join(letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in text)
    name = "-".join(kept.split())
    return name.encode()[:LONGEST].decode(errors="ignore").rstrip("-")
