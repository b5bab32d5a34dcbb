"""Flickr8k with spoken captions, as published and as SpeechCLIP arranges it.

The pictures and five captions of each are Flickr8k's (Hodosh et al., 2013); the 40,000 recordings of the captions are
the Flickr Audio Caption Corpus (Harwath and Glass, 2015). Its archives hold

    flickr_audio/wavs/<picture>_<n>.wav
    flickr_audio/wav2capt.txt             <picture>_<n>.wav <picture>.jpg #<n>
    flickr_audio/wav2spk.txt              <picture>_<n>.wav <speaker>
    Flicker8k_Dataset/<picture>.jpg       or Images/, or any other folder
    Flickr8k.token.txt                    <picture>.jpg#<n>, a tab, the caption; or captions.txt with image,caption
    Flickr_8k.trainImages.txt, Flickr_8k.devImages.txt, Flickr_8k.testImages.txt   <picture>.jpg

Without wav2capt.txt the recordings' own names say what they are of, as SpeechCLIP reads them; without recordings each
caption is a row. Each recording is a row; those of one picture are one group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cymatic.data.known.known_layout import FileIndex, KnownLayout, ListLine, list_text
from cymatic.data.rows import Skipped
from cymatic.errors import Error

UTTERANCES, SPEAKERS, TOKENS, TABLE = "wav2capt.txt", "wav2spk.txt", "flickr8k.token.txt", "captions.txt"
SPLIT_LIST = re.compile(r"flickr_?8k\.(train|dev|test)images\.txt")
SPLITS = {"train": "train", "dev": "valid", "test": "test"}
TOKEN = re.compile(r"(\S+?)#(\d+)\s+(\S.*)")
TABLE_HEADER = "image,caption"

Key = tuple[str, int]  # of a caption: its picture's name, and its number


def flickr_lists(root: Path, files: Sequence[Path]) -> list[Path]:
    """The lists of Flickr8k among files: what says captions or recordings first, then splits and speakers."""
    by_name: dict[str, Path] = {}
    for path in files:
        by_name.setdefault(path.name.lower(), path)
    found = [by_name[name] for name in (UTTERANCES, TOKENS) if name in by_name]
    table = by_name.get(TABLE)
    if TOKENS not in by_name and table is not None and _is_table(table):
        found.append(table)
    if not found:
        return []
    splits = [path for name, path in by_name.items() if SPLIT_LIST.fullmatch(name)]
    return [*found, *splits, *(by_name[name] for name in (SPEAKERS,) if name in by_name)]


def _is_table(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline(100).strip().lower() == TABLE_HEADER.encode()
    except OSError:
        return False


def flickr_lines(lists: Sequence[Path], files: FileIndex) -> Iterator[ListLine]:
    """A line for each recording, or for each caption where there are none. Raises Error without captions."""
    of = {path.name.lower(): path for path in lists}
    captions = _captions(of)
    splits = _splits(lists)
    speakers = dict(_pairs(of[SPEAKERS])) if SPEAKERS in of else {}

    def line(picture: str, caption: str, wav: str | None, where: str) -> dict[str, str] | Skipped:
        stem = picture.rpartition(".")[0] or picture
        if splits and picture not in splits:
            return Skipped(where, f"{picture} is in no list of Flickr8k's splits", broken=False)
        split = {"split": splits[picture]} if splits else {}
        sound = {"audio": wav} if wav is not None else {}
        speaker = {"speaker": speakers[wav]} if wav in speakers else {}
        return {**sound, "picture": picture, "caption": caption, "group": stem, **speaker, **split}

    if UTTERANCES in of:
        for number, text in enumerate(list_text(of[UTTERANCES]).splitlines(), 1):
            where = f"{UTTERANCES} line {number}"
            cells = text.split()
            if not cells:
                continue
            if len(cells) != 3 or not cells[2].lstrip("#").isdigit():
                yield where, f'"{text:.80}" is no recording, picture and number of a caption, such as a_0.wav a.jpg #0'
                continue
            wav, picture, key = cells[0], cells[1], (cells[1], int(cells[2].lstrip("#")))
            if key in captions:
                yield where, line(picture, captions[key], wav, where)
            else:
                yield where, f"{picture} has no caption #{key[1]}"
        return
    recorded = {Path(path).stem: path.rpartition("/")[2] for path in files.paths if path.lower().endswith(".wav")}
    named = {key: f"{key[0].rpartition('.')[0]}_{key[1]}" for key in captions}
    spoken = any(name in recorded for name in named.values())
    for key, caption in captions.items():
        recording = recorded.get(named[key])
        where = f"{key[0]}#{key[1]}"
        if spoken and recording is None:
            yield where, f"has no recording {named[key]}.wav"
        else:
            yield where, line(key[0], caption, recording, where)


def _captions(of: Mapping[str, Path]) -> dict[Key, str]:
    """The captions by picture and number. Raises Error where no list has them."""
    if TOKENS in of:
        found = (TOKEN.match(text.strip()) for text in list_text(of[TOKENS]).splitlines())
        return {(match[1], int(match[2])): match[3].strip() for match in found if match}
    if TABLE not in of:
        raise Error(
            f"{of[UTTERANCES]} says which recording is of which caption, and the captions are not here; put "
            "Flickr8k.token.txt, from Flickr8k_text.zip, into the folder"
        )
    captions: dict[Key, str] = {}
    met = Counter[str]()
    for text in list_text(of[TABLE]).splitlines()[1:]:
        picture, comma, caption = text.partition(",")
        if comma and caption.strip():
            if caption.startswith('"') and caption.endswith('"'):
                caption = caption[1:-1].replace('""', '"')
            captions[picture, met[picture]] = caption.strip()
            met[picture] += 1
    return captions


def _splits(lists: Sequence[Path]) -> dict[str, str]:
    """The split of each picture in a list of one."""
    found = {}
    for path in lists:
        if match := SPLIT_LIST.fullmatch(path.name.lower()):
            found.update(dict.fromkeys(list_text(path).split(), SPLITS[match[1]]))
    return found


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    for text in list_text(path).splitlines():
        cells = text.split()
        if len(cells) == 2:
            yield cells[0], cells[1]


FLICKR = KnownLayout("Flickr8k", flickr_lists, flickr_lines)
