"""Captions of what has no text of its own: from folders' names, from files' names, or from both.

Which of them is found out, where nobody says, by these rules:

1. Where a file lies outside any folder, or all in one, its own name is the caption.
2. Where file names say something beyond their folders', names within a folder differ, and at least half of the files
   have a name that is found in another folder or again in their own, the caption is both: folders are kits or families,
   and files the instruments (`The Kit 1.0/SnareRim-2`).
3. Where half of the innermost folders' files lie under a name that is found below other folders, too
   (`808/Kick/1`, `909/Kick/1`), it is both as well.
4. Otherwise it is the folder's name, if there are two of different names, and else the file's.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from cymatic.config import nearest
from cymatic.data.name_words import MACHINES, TakeFree, is_id, words_of_name
from cymatic.data.rows import SPLITS
from cymatic.errors import Error

CaptionsBy = Literal["auto", "folder", "file", "both"]
CAPTIONS_BY: tuple[CaptionsBy, ...] = get_args(CaptionsBy)
Captions: TypeAlias = CaptionsBy | tuple[str, ...]  # or the fields of a manifest, see `data.caption_fields`
ALIKE = 0.8  # of a text that was meant for one of these names
OFTEN = 0.5  # of the files


def captions_setting(given: str) -> Captions:
    """One of `CAPTIONS_BY`, or a manifest's fields with commas between them. Raises Error for what is neither."""
    for known in CAPTIONS_BY:
        if given == known:
            return known
    fields = tuple(field.strip() for field in given.split(","))
    if all(fields) and not get_close_matches(given, CAPTIONS_BY, n=1, cutoff=ALIKE):
        return fields
    raise Error(f'captions can\'t be made by "{given}"; {nearest(given, CAPTIONS_BY)}')


@dataclass(frozen=True)
class ByName:
    """How captions were made of names: of which (`by` is no `auto` any more), and why, where there was a choice.

    captions: of each file, empty where it has none. labels: the names of their folders as captions, where these are
    captions or parts of them.
    """

    by: CaptionsBy
    why: str
    captions: dict[Path, str]
    labels: dict[Path, str]


def caption_of(name: str) -> str:
    """A folder's name as a caption: separators become spaces, a take number goes ("dog-bark_03" is "dog bark")."""
    words = re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFC", name)).strip()
    without_take = re.sub(r"(\s+\(?\d+\)?)+$", "", words).strip()
    return without_take or words


def captions_by_name(root: Path, paths: Sequence[Path], by: CaptionsBy, depth: int) -> ByName:
    """The caption of each of `paths`, which lie below `root`. depth: how many of the outermost folders stand for splits
    and where they lie, and so name nothing."""
    parts = {path: Path(os.path.relpath(path.parent, root)).parts[depth:] for path in paths}
    free = TakeFree((str(path.parent), path.stem) for path in paths)
    words = {path: free.words(str(path.parent), path.stem) for path in paths}
    labels = {path: caption_of(some[-1]) if some else "" for path, some in parts.items()}
    classes = all(parts.values()) and len(set(labels.values())) > 1
    if by == "auto":
        chosen, why = _chosen(parts, words, classes)
    else:
        chosen, why = by, "that was asked for"
    if chosen == "folder":
        return ByName(chosen, why, labels, labels)
    own = {path: " ".join(some) for path, some in words.items()}
    if chosen == "file":
        return ByName(chosen, why, own, {})
    common = _common(list(parts.values())) if parts else 0
    both = {path: " ".join(_joined(parts[path][common:], words[path])) for path in paths}
    return ByName("both", why, both, {path: label for path, label in labels.items() if label})


def _chosen(parts: dict[Path, tuple[str, ...]], words: dict[Path, list[str]], classes: bool) -> tuple[CaptionsBy, str]:
    """What `auto` comes to, and the reason."""
    usual: CaptionsBy = "folder" if classes else "file"
    if not any(parts.values()):
        return "file", ""
    if not all(parts.values()):
        return "file", "some files lie in no folder that could name them"
    if len(set(parts.values())) < 2:
        return "file", "there is one folder only"
    count = len(parts)
    told = {path: _beyond(words[path], parts[path]) for path in parts}
    inside: dict[tuple[str, ...], Counter[tuple[str, ...]]] = defaultdict(Counter)
    for path, name in told.items():
        if name:
            inside[parts[path]][name] += 1
    folders = Counter(name for names in inside.values() for name in names)
    telling = sum(bool(name) for name in told.values())
    several = sum(sum(names.values()) for names in inside.values() if len(names) > 1)
    if telling >= OFTEN * count and several >= OFTEN * telling:
        elsewhere = sum(bool(name) and folders[name] > 1 for name in told.values())
        again = sum(bool(name) and (folders[name] > 1 or inside[parts[path]][name] > 1) for path, name in told.items())
        if elsewhere >= OFTEN * count:
            return "both", f"{_percent(elsewhere, count)} of the files have a name that other folders have, too"
        if again >= OFTEN * count:
            return (
                "both",
                f"{_percent(again, count)} of the files have a name that is there more than once",
            )
        why = f"only {_percent(again, count)} of the files have a name that there is more than once"
    elif telling < OFTEN * count:
        why = "the names of the files say no more than their folders'"
    else:
        why = "the files of one folder have one name"
    parents: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for some in set(parts.values()):
        if not _is_split(some[-1]):
            parents[_key(caption_of(some[-1]))].add(some[:-1])
    if len({_key(caption_of(some[-1])) for some in parts.values()}) > 1:
        below = sum(len(parents[_key(caption_of(some[-1]))]) > 1 for some in parts.values())
        if below >= OFTEN * count:
            return "both", f"{_percent(below, count)} of the files lie in a folder whose name is there in other folders"
    return usual, why if classes else "the folders have one name"


def _percent(some: int, count: int) -> str:
    return f"{100 * some / count:.0f} %"


def _joined(parts: Sequence[str], name: Sequence[str]) -> list[str]:
    """The words of folders and of a file, none of the later ones that an earlier part has already."""
    found: list[str] = []
    last = [name] if any(map(_is_word, name)) else []  # a number alone is a take
    for words in [*(words_of_name(part) for part in parts if not _is_split(part)), *last]:
        known = {_key(word) for word in found}
        found += [word for word in words if not (_is_word(word) and _key(word) in known)]
    return found or list(name)


def _beyond(words: Sequence[str], parts: Sequence[str]) -> tuple[str, ...]:
    """What a file's name says that the names of its folders don't."""
    known = {_key(word) for part in parts for word in words_of_name(part)}
    return tuple(_key(word) for word in words if _tells(word) and _key(word) not in known)


def _tells(word: str) -> bool:
    """Whether a word says something: two letters, one of a script whose letters are words, a note, a drum machine."""
    letters = [letter for letter in word if letter.isalpha()]
    script = any(unicodedata.category(letter) == "Lo" for letter in letters)
    note = len(letters) == 1 and word[0].isalpha() and word[-1].isdigit()
    return not is_id(word) and (len(letters) > 1 or script or note or word in MACHINES)


def _is_word(word: str) -> bool:
    return word in MACHINES or any(letter.isalpha() for letter in word)


def _key(word: str) -> str:
    """What a word and its plural have in common."""
    word = unicodedata.normalize("NFC", word).casefold()
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def _is_split(name: str) -> bool:
    return name.strip().lower() in SPLITS


def _common(parts: Sequence[tuple[str, ...]]) -> int:
    """How many of the outermost folders name nothing, since all files lie in them; the innermost stays."""
    depth = 0
    while all(len(some) > depth + 1 and some[depth] == parts[0][depth] for some in parts):
        depth += 1
    return depth
