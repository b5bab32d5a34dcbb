"""Prompts from a file, and names of files from prompts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from cymatic.errors import Error
from cymatic.files import reason

MOST_PROMPTS = 10_000
MOST_BYTES = 2**24  # of a file of prompts
LONGEST = 80  # bytes of a name before its number and suffix


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file in UTF-8, one a line; blank lines are passed over.

    Raises Error for a file that can't be read, is not UTF-8, or holds no prompt or more than 10,000.
    """
    try:
        if path.is_dir():
            raise Error(f"{path} is a folder; give a text file with a prompt a line")
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
    prompts = [line.strip() for line in text.splitlines() if line.strip()]
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise Error(f"{path} holds {len(prompts)} prompts; give 1 to {MOST_PROMPTS}, one a line")
    return prompts


def names_of(prompts: Sequence[str]) -> list[str]:
    """A file name without suffix for each prompt: its letters and digits, of any script, with - for what is between.

    >>> names_of(["A red apple!", "a red apple", "???"])
    ['a-red-apple', 'a-red-apple-2', 'prompt-3']
    """
    names: list[str] = []
    taken: set[str] = set()
    for number, prompt in enumerate(prompts, 1):
        name = first = _slug(prompt) or f"prompt-{number}"
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
