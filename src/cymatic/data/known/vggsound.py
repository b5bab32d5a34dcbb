"""VGGSound (Chen et al., 2020, arXiv 2004.14368) as AudioToken reads it: sounds and videos by name, a table of classes.

    vggsound.csv                                     in the folder or one above: video, start second, class, split
    audio/<video>_<start>_<end>.wav                  the sounds; or the videos alone, whose sound ffmpeg reads
    video/<video>_<start>_<end>.mp4                  not read for pictures
    frames/<video>_<start>_<end>.jpg                 one frame of each, wherever it lies; or a folder of frames by that
                                                     name, of which the middle one is taken

A clip's first eleven letters are the video on YouTube; start and end, if they are there, are in seconds or
milliseconds. The table has no header as it was published; AudioToken's has ytid, class and set. What is there is read;
how many clips of the table are not is said. VGGSound has no split for what is held out while training, so a hash of the
video takes a tenth of `train`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cymatic.data.known.known_layout import FileIndex, KnownLayout, ListLine
from cymatic.data.rows import Skipped, split_named
from cymatic.data.table_lines import csv_cells
from cymatic.errors import Error
from cymatic.files import reason
from cymatic.media import medium_of
from cymatic.media.audio import AUDIO
from cymatic.media.picture import PICTURE

TABLE = "vggsound.csv"
CLIP = re.compile(r"([\w-]{11})(?:_(\d+))?(?:_(\d+))?")  # video, start, end
SECONDS = 10  # of a clip
VIDEOS = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".flv", ".3gp", ".3g2", ".asf", ".wmv"}
COLUMNS = {
    "video": ("ytid", "youtube_id", "youtube id", "youtubeid", "video", "video_id", "# youtube id"),
    "start": ("start", "start_seconds", "start seconds", "time"),
    "label": ("class", "label", "caption"),
    "split": ("set", "split", "train/test split", "subset"),
}
NO_FRAME = (
    "has a sound and no frame; extract one of each video, such as frames/X.jpg beside audio/X.wav: ffmpeg -ss 5 -i "
    "video/X.mp4 -frames:v 1 frames/X.jpg"
)


@dataclass(frozen=True)
class TableClip:
    """A line of the table: where in its video a clip begins in seconds (None: not said), its class and its split."""

    start: int | None
    label: str
    split: str | None


def vggsound_lists(root: Path, files: Sequence[Path]) -> list[Path]:
    """The table, where a sound by the name of one of its videos is there."""
    above = root.absolute().parent / TABLE
    tables = [path for path in files if path.name.lower() == TABLE] or ([above] if above.is_file() else [])
    sounds = (path for path in files if medium_of(path) is AUDIO)
    named = {match[1] for path in sounds if (match := CLIP.fullmatch(path.stem))}
    if not tables or not named:
        return []
    try:
        return tables[:1] if named & _table(tables[0]).keys() else []
    except Error:
        return []


def vggsound_lines(lists: Sequence[Path], files: FileIndex) -> Iterator[ListLine]:
    """A line for each sound that is named as a clip of the table."""
    table = _table(lists[0])
    sounds: dict[str, list[str]] = defaultdict(list)
    frames: dict[str, list[str]] = defaultdict(list)
    for path in files.paths:
        stem, folder = PurePosixPath(path).stem, PurePosixPath(path).parent.name
        medium = medium_of(path)
        if medium is PICTURE:
            frames[stem if CLIP.fullmatch(stem) else folder].append(path)
        elif medium is AUDIO and CLIP.fullmatch(stem):
            sounds[stem].append(path)
    met = set()
    for stem, paths in sorted(sounds.items()):
        where = min(paths, key=lambda path: (PurePosixPath(path).suffix.lower() in VIDEOS, path))
        match = CLIP.fullmatch(stem)
        assert match is not None
        clips = table.get(match[1], [])
        clip = clips[0] if len(clips) == 1 else next((one for one in clips if one.start == _start(match)), None)
        if clip is None:
            few = "several clips in the table, and its name says no start of one" if clips else "no line in the table"
            yield where, Skipped(where, f"has {few}", broken=False)
            continue
        met.add((match[1], clip.start))
        found = sorted(frames[stem])
        picture = {"picture": found[len(found) // 2]} if found else {}
        split = {"split": clip.split} if clip.split not in (None, "train") else {}
        yield where, {"audio": where, **picture, "caption": clip.label, "group": match[1], "label": clip.label, **split}
    if absent := sum(map(len, table.values())) - len(met):
        name = lists[0].name
        yield name, Skipped(name, f"names {absent} clips that are not here", broken=False)


def _start(match: re.Match[str]) -> int | None:
    """The second at which a clip begins, by its name."""
    if match[2] is None:
        return None
    start = int(match[2])
    return start // 1000 if match[3] is not None and int(match[3]) - start == 1000 * SECONDS else start


def _table(path: Path) -> dict[str, list[TableClip]]:
    """The clips of each video. Raises Error where the table can't be read."""
    found: dict[str, list[TableClip]] = defaultdict(list)
    columns = {"video": 0, "start": 1, "label": 2, "split": 3}
    try:
        for _, cells in csv_cells(path):
            cells = [cell.strip() for cell in cells or ()]
            if not found and (header := _columns(cells)):
                columns = header
                continue
            values = {name: cells[at] for name, at in columns.items() if at < len(cells)}
            if not values.get("label"):
                continue
            start = values.get("start", "")
            second = int(float(start)) if re.fullmatch(r"\d+(\.\d*)?", start) else None
            found[values["video"]].append(TableClip(second, values["label"], split_named(values.get("split", ""))))
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
        raise Error(f"{path} can't be read: {why}; fetch vggsound.csv again") from None
    return found


def _columns(cells: Sequence[str]) -> dict[str, int]:
    """Where a header has its columns; none where the line is no header."""
    lower = [cell.lower() for cell in cells]
    places = {name: next((lower.index(one) for one in names if one in lower), None) for name, names in COLUMNS.items()}
    known = {name: place for name, place in places.items() if place is not None}
    return known if {"video", "label"} <= known.keys() else {}


VGGSOUND = KnownLayout("VGGSound", vggsound_lists, vggsound_lines, lacks={PICTURE.name: NO_FRAME})
