"""SpokenCOCO (Hsu et al., 2020, arXiv 2012.15454): MS-COCO's captions read aloud, each recording a row.

    SpokenCOCO/SpokenCOCO_train.json, SpokenCOCO_val.json
    SpokenCOCO/wavs/train/0/<utterance>.wav
    train2014/<picture>.jpg, val2014/<picture>.jpg        MS-COCO's, there or in another folder, such as mscoco_img

A list is `{"data": [{"image": "val2014/x.jpg", "captions": [{"text", "speaker", "uttid", "wav"}, ...]}, ...]}`. Lists
by Karpathy's splits (SpokenCOCO_train_karpathy.json and so on) come before the others where they are there, and those
of one caption an entry (`_unrolled`) are read as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cymatic.data.known.known_layout import FileIndex, KnownLayout, ListLine, list_text
from cymatic.errors import Error

LIST = re.compile(r"SpokenCOCO_(train|val|test)((?:_unrolled)?)((?:_karpathy)?)\.json")
SPLITS = {"train": "train", "val": "valid", "test": "test"}


def coco_lists(root: Path, files: Sequence[Path]) -> list[Path]:
    """The lists of one kind: Karpathy's splits before the published ones, whole entries before unrolled ones."""
    kinds: dict[tuple[bool, bool], list[Path]] = {}
    for path in files:
        if match := LIST.fullmatch(path.name):
            kinds.setdefault((not match[3], bool(match[2])), []).append(path)
    return kinds[min(kinds)] if kinds else []


def coco_lines(lists: Sequence[Path], files: FileIndex) -> Iterator[ListLine]:
    """A line for each recording. Raises Error for a list that is no such JSON."""
    for path in lists:
        match = LIST.fullmatch(path.name)
        assert match is not None
        split = SPLITS[match[1]]
        for number, entry in enumerate(_entries(path), 1):
            where = f"{path.name} entry {number}"
            picture = entry.get("image") if isinstance(entry, dict) else None
            if not isinstance(picture, str):
                yield where, 'has no "image"'
                continue
            spoken = entry.get("captions", entry.get("caption"))
            for one in spoken if isinstance(spoken, list) else [spoken]:
                if not isinstance(one, dict) or not all(isinstance(one.get(key), str) for key in ("wav", "text")):
                    yield where, 'has a caption without "wav" and "text"'
                    continue
                line = {"audio": one["wav"], "picture": picture, "caption": one["text"], "split": split}
                line |= {key: str(one[key]) for key in ("speaker", "uttid") if key in one}
                yield where, {**line, "group": PurePosixPath(picture).stem}


def _entries(path: Path) -> list[Any]:
    try:
        held = json.loads(list_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{path} is no JSON ({error}); fetch it again") from None
    data = held.get("data") if isinstance(held, dict) else None
    if not isinstance(data, list):
        raise Error(f'{path} has no list "data"; fetch it again, or give it another name')
    return data


SPOKEN_COCO = KnownLayout("SpokenCOCO", coco_lists, coco_lines)
