"""A folder of sounds as a dataset: which files, what they are called, and which are held out.

Two layouts are read: a `manifest.jsonl` with the fields audio, caption and split (one object a line), or a plain folder
whose files are named as their captions ("dog-bark_03.wav" is "dog bark").
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from cymatic.errors import Error

AUDIO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("wav", "flac", "ogg", "oga", "opus", "mp3", "aif", "aiff", "aifc", "au", "snd", "caf", "w64", "rf64"),
        *("m4a", "aac", "wma", "mp4", "webm", "amr"),  # through ffmpeg, where there is one
    )
)
VALID_SHARE = 0.1


@dataclass(frozen=True)
class Item:
    """One recording: where it is, what it is called, and whether it is trained on (`train`) or held out (`valid`)."""

    audio: Path
    caption: str
    split: str


@dataclass
class Folder:
    """A folder's items, and what was left out with the reason, so that nothing goes missing unsaid."""

    root: Path
    items: list[Item]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def of(self, split: str) -> list[Item]:
        return [item for item in self.items if item.split == split]


def read_folder(path: str | Path) -> Folder:
    """Reads the layout of `path`; no sound is opened yet.

    Raises Error where `path` is no folder or holds nothing to train on.
    """
    root = Path(path)
    if not root.exists():
        raise Error(f"{path} does not exist; give a folder of sounds")
    if not root.is_dir():
        raise Error(f"{path} is a file; give the folder that holds the sounds")
    manifest = root / "manifest.jsonl"
    folder = _read_manifest(root, manifest) if manifest.is_file() else _read_names(root)
    if not folder.of("train"):
        named = "; ".join(f"{name}: {why}" for name, why in folder.skipped[:3])
        raise Error(
            f"{path} holds no sound to train on{f' ({named})' if named else ''}; give a folder with a manifest.jsonl "
            "or with sounds named as their captions, such as dog-bark_03.wav"
        )
    return folder


def caption_of(name: str) -> str:
    """A file's name as a caption: separators become spaces, a take number goes ("dog-bark_03" is "dog bark")."""
    words = re.sub(r"[\s_\-]+", " ", name).strip()
    without_take = re.sub(r"(\s+\(?\d+\)?)+$", "", words).strip()
    return without_take or words


def _read_manifest(root: Path, manifest: Path) -> Folder:
    folder = Folder(root, [])
    try:
        lines = manifest.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Error(f"{manifest} can't be read ({error}); it should be UTF-8 with one JSON object a line") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{manifest.name} line {number}"
        try:
            row = json.loads(line)
            audio, caption = row["audio"], row["caption"]
            if not (isinstance(audio, str) and isinstance(caption, str) and audio and caption.strip()):
                raise TypeError
            inside = (root / audio).resolve().is_relative_to(root.resolve())
        except (OSError, RuntimeError, ValueError, KeyError, TypeError):  # of them a NUL in a name, a loop of links
            folder.skipped.append((where, 'needs the texts "audio" and "caption"'))
            continue
        if not inside:
            folder.skipped.append((where, f"{audio} lies outside the folder"))
            continue
        split = row.get("split") or split_of(audio)
        if split not in ("train", "valid", "test"):
            folder.skipped.append((where, f'split "{split}" is none of train, valid, test'))
            continue
        folder.items.append(Item(root / audio, caption, split))
    return folder


def _read_names(root: Path) -> Folder:
    folder = Folder(root, [])
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if hidden or not path.is_file():
            continue
        name = str(path.relative_to(root))
        if path.suffix.lower() not in AUDIO_SUFFIXES:
            folder.skipped.append((name, "is not a sound by its extension"))
            continue
        folder.items.append(Item(path, caption_of(path.stem), split_of(name)))
    if folder.items and not folder.of("train"):  # a handful of files may all hash to valid
        folder.items = [Item(item.audio, item.caption, "train") for item in folder.items]
    return folder


def split_of(name: str) -> str:
    """`valid` for a tenth of all names, by hash, so that adding files moves none of the others."""
    share = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:4]) / 2**32
    return "valid" if share < VALID_SHARE else "train"
