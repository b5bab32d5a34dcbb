"""The words in the names of files, told from what only tells takes apart.

Names are split where a separator stands (space, `_`, `-`, a dot that is in no number), where upper case follows lower
case (`SnareRim`), and between letters and digits (`kick01`). Of the end of a file's name there go:

- numbers: `kick 2`, `kick_03`, `kick (1)`. But the number of a drum machine (`kick 808`) is a word where no neighbour
  of it (`kick 807`) is there, and so is one digit after `tom`, of which a kit has several;
- round robins, velocity layers and copies: `RR2`, `v64`, `vel 100`, `layer 3`, `take 2`, `copy`;
- hard, soft and their like, where some name in the pack is there with two of them, or with one and without, so that
  they are layers.

At the beginning, numbers with a leading zero go (`01 Kick`), and with them others as wide in that folder. Names of
notes (`C3`, `F#2`) are words. At least one word stays.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise

MACHINES = {"303", "505", "606", "626", "707", "727", "808", "909"}
DYNAMICS = {*("hard", "soft", "medium", "med", "loud", "quiet", "ghost"), *("ppp", "pp", "mp", "mf", "ff", "fff")}
NUMBERED = {"tom", "toms"}
MARKS = {"rr", "robin", "v", "vel", "velocity", "layer", "lyr", "take", "tk"}  # a number follows
_SEPARATORS = re.compile(r"[\s_\-]+|(?<!\d)\.(?=\w)|\.(?=[^\W\d])")
_BRACKETS = re.compile(r"(?<=\w)(?=[(\[]\d+[)\]]$)")  # before the number of OpenHat(2)
_NOTE = re.compile(r"[A-Ga-g](#|b|s|♯|♭)?\d")
_HEX = re.compile(r"(?=[0-9a-f]*\d[a-f])[0-9a-f]+", re.IGNORECASE)
_NUMBER = re.compile(r"[(\[]?\d+[)\]]?")
_ORDINAL = re.compile(r"\d+(st|nd|rd|th)", re.IGNORECASE)
_LAYER = re.compile(r"[(\[]?(v|rr)\d{1,3}[)\]]?", re.IGNORECASE)


def words_of_name(name: str) -> list[str]:
    """All words of a name, in NFC; none of separators alone."""
    words: list[str] = []
    for token in _SEPARATORS.split(_BRACKETS.sub(" ", unicodedata.normalize("NFC", name))):
        words += _split(token) if token else []
    return words


def _split(token: str) -> list[str]:
    """At changes of case and between letters and digits, but not in a note, an ordinal or an id."""
    if _NOTE.fullmatch(token) or _ORDINAL.fullmatch(token) or _LAYER.fullmatch(token) or is_id(token):
        return [token]
    cuts = [0, *(i for i in range(1, len(token)) if _parts(token, i)), len(token)]
    parts = [token[start:end] for start, end in pairwise(cuts)]
    if len(parts) > 1 and (whole := _NOTE.fullmatch("".join(parts[-2:]))):  # PianoC3
        parts[-2:] = [whole[0]]
    return parts


def _parts(token: str, i: int) -> bool:
    """Whether a word ends before character i."""
    before, after = token[i - 1], token[i]
    if before.islower() and after.isupper():
        return i > 1  # iPhone
    if before.isupper() and after.isupper():
        return token[i + 1 : i + 3].islower() and len(token[i + 1 : i + 3]) == 2  # HHClosed, and not DJs
    if before.isalpha() and after.isdigit():
        return i > 1 and token[i - 2].isalpha()  # kick01, and not w2
    if before.isdigit() and after.isalpha():
        return token[i : i + 2].isalpha() and len(token[i : i + 2]) == 2 and not _ORDINAL.match(token[_run(token, i) :])
    return False


def _run(token: str, i: int) -> int:
    """Where the digits begin that end before character i."""
    while i and token[i - 1].isdigit():
        i -= 1
    return i


def is_id(word: str) -> bool:
    """Whether it is made of letters and digits in turns or a number in hex, as hashes and video ids are, and so says
    nothing."""
    if len(word) >= 4 and _HEX.fullmatch(word) and word[:3] not in MACHINES:
        return True
    if len(word) < 6:
        return False
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(word) if (a + b).isalnum())
    return changes >= 3


class TakeFree:
    """The names of a folder's files without what tells takes apart, which the names around them decide, too.

    Given pairs of a folder and a name without suffix.
    """

    def __init__(self, names: Iterable[tuple[str, str]]) -> None:
        self._names: dict[tuple[str, str], list[str]] = {}
        self._numbers: dict[tuple[str, ...], set[int]] = defaultdict(set)  # by folder and words: numbers at the end
        widths: dict[str, set[int]] = defaultdict(set)  # by folder: of leading numbers, where one has a leading zero
        dynamics: dict[tuple[str, ...], set[str]] = defaultdict(set)  # by folder and words: which of `DYNAMICS` follow
        for folder, name in names:
            words = self._names[folder, name] = words_of_name(name)
            if words and words[0].isdigit() and words[0].startswith("0") and len(words[0]) > 1:
                widths[folder].add(len(words[0]))
            if len(words) > 1 and words[-1].isdigit():
                self._numbers[folder, *_keys(words[:-1])].add(int(words[-1]))
        self._widths = widths
        self._layered = False
        for folder, name in self._names:
            words, found = self._stripped(folder, self._names[folder, name], layered=True)
            dynamics[folder, *_keys(words)].add(found[0] if found else "")
        self._layered = any(len(found) > 1 for found in dynamics.values())

    def words(self, folder: str, name: str) -> list[str]:
        """The words of one of the names."""
        return self._stripped(folder, self._names[folder, name], self._layered)[0]

    def _stripped(self, folder: str, words: list[str], layered: bool) -> tuple[list[str], list[str]]:
        """The words that stay, and which of `DYNAMICS` went."""
        left, gone = list(words), list[str]()
        if left and left[0].isdigit() and len(left[0]) in self._widths[folder] and not all(map(_says_nothing, left)):
            del left[0]
        while len(left) > 1:
            last = left[-1].lower()
            if last in ("copy", "(copy)") or _LAYER.fullmatch(last):
                left.pop()
            elif _NUMBER.fullmatch(last):
                if not last.startswith(("(", "[")) and self._names_it(folder, left):
                    break
                left.pop()
                if len(left) > 1 and left[-1].lower() in MARKS:
                    left.pop()
                    if len(left) > 1 and left[-1].lower() == "round":
                        left.pop()
            elif layered and last.strip("()[]") in DYNAMICS:
                gone.append(last.strip("()[]"))
                left.pop()
            else:
                break
        return left, gone

    def _names_it(self, folder: str, words: list[str]) -> bool:
        """Whether the number at the end of `words` is a part of the name."""
        last = words[-1]
        if last in MACHINES:
            return not {int(last) - 1, int(last) + 1} & self._numbers.get((folder, *_keys(words[:-1])), set())
        return len(last) == 1 and words[-2].lower() in NUMBERED


def _says_nothing(word: str) -> bool:
    """Whether it is a number, an id or a letter."""
    return is_id(word) or sum(letter.isalpha() for letter in word) < 2


def _keys(words: list[str]) -> list[str]:
    return [word.casefold() for word in words]
