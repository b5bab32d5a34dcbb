"""Mels and video features as SpecVQGAN publishes them, read as they are: the layouts of VAS and of VGGSound.

VAS (Chen et al., 2020, arXiv 2008.00820) has a folder for each class, and its lists name `<class>/<video>`:

    features/<class>/melspec_10s_22050hz/<video>_mel.npy
    features/<class>/feature_resnet50_dim2048_21.5fps/<video>.pkl
    vas_train.txt, vas_valid.txt                                       here or one folder above

VGGSound (Chen et al., 2020, arXiv 2004.14368) has one folder for all, and a table of what each video is called:

    melspec_10s_22050hz/<video>_<start>_<end>_mel.npy
    feature_resnet50_dim2048_21.5fps/<video>_<start>_<end>.pkl
    vggsound.csv, vggsound_train.txt, vggsound_valid.txt, vggsound_test.txt   here or one folder above
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cymatic.config import nearest
from cymatic.data.reading import Example, of_one_width
from cymatic.data.rows import Skipped, check_strictly
from cymatic.data.spelling import Spelling, nfc
from cymatic.errors import Error
from cymatic.files import reason
from cymatic.hub.arrays import read_array
from cymatic.media.specvqgan import FRAMES, SPEC
from cymatic.signal.mel import MelSpec

MELS = "melspec_10s_22050hz"
FEATURE_SUFFIXES = (".npy", ".pkl")
SPLITS = ("train", "valid", "test")
NEEDED = ("train", "valid")
ID_LETTERS = 11  # of a YouTube video, with which each clip's name in VGGSound begins
LONGEST = 16 * FRAMES  # frames; more are no clip
SLACK = 1e-5  # beyond 0..1, for what was rounded


@dataclass
class GivenMels:
    """Clips by split with the captions that are their classes, the mel that they are on, and what was left out.

    `notes`: what is worth knowing and stops nothing. `dim`: numbers in one step of the features, None without.
    """

    root: Path
    layout: str
    splits: dict[str, list[Example]]
    spec: MelSpec = SPEC
    dim: int | None = None
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in alphabetic order: the place of one is its number."""
        return tuple(sorted({clip.caption for clips in self.splits.values() for clip in clips}))


@dataclass(frozen=True)
class _Layout:
    """What lies where. `classes`: VAS's, a folder for each class; else VGGSound's, one for all."""

    root: Path
    features: Path
    classes: bool

    @property
    def name(self) -> str:
        return "VAS" if self.classes else "VGGSound"

    def kind(self, name: str, kind: str) -> Path:
        """The folder of a clip's mel or features."""
        return self.features / name.partition("/")[0] / kind if self.classes else self.features / kind

    def kinds(self) -> set[str]:
        places = [place for place in self.features.iterdir() if place.is_dir()] if self.classes else [self.features]
        return {inner.name for place in places for inner in place.iterdir() if inner.is_dir()}

    def clips(self) -> Iterator[str]:
        """The names of all mels that are there."""
        for path in self.features.glob(f"*/{MELS}/*_mel.npy" if self.classes else f"{MELS}/*_mel.npy"):
            stem = path.name.removesuffix("_mel.npy")
            yield f"{path.parent.parent.name}/{stem}" if self.classes else stem


def is_given_mels(folder: str | Path) -> bool:
    """Whether `folder` holds mels in one of the two layouts."""
    return _layout(Path(folder)) is not None


def read_vas(
    folder: str | Path, *, features: str | None = None, role: str = "features", strict: bool = False
) -> GivenMels:
    """All clips of the lists whose mels are in `folder`, in memory (a mel of ten seconds takes 275 kB).

    features: the kind to read beside the mels, such as `feature_resnet50_dim2048_21.5fps`, or two that are put side by
    side, joined by `+`, which each example has as `given[role]`. A clip without them, or with broken ones, is left out.
    strict: whatever is broken stops it, a clip of the lists that is not there included.

    Raises Error where `folder` has neither layout, a list is missing or can't be read, no such features exist, or
    nothing is left.
    """
    root = Path(folder)
    layout = _layout(root)
    if layout is None:
        raise Error(
            f"{folder} holds no mels as SpecVQGAN lays them out; give the folder with features/<class>/{MELS}/ (VAS) "
            f"or {MELS}/ (VGGSound)"
        )
    kinds = tuple(features.split("+")) if features else ()
    there = layout.kinds() - {MELS}
    for kind in kinds:
        if kind not in there:
            raise Error(f'{folder} has no features "{kind}"; {nearest(kind, there)}')
    lists, label_of = _lists(layout)
    given = GivenMels(root, layout.name, {split: [] for split in lists})
    listed = _listed(layout, lists, label_of, given)
    present = {nfc(name): name for name in layout.clips()}
    absent = [name for name in listed if name not in present]
    if absent:
        given.notes.append(
            f"{len(absent)} of the {len(listed)} clips in the lists have no mel here, such as {absent[0]}"
        )
        if strict:
            raise Error(f"{given.notes[-1]}; copy them, or leave out --strict")
    if unlisted := sorted(present.keys() - listed.keys()):
        given.notes.append(f"{len(unlisted)} mels are in no list and are not read, such as {unlisted[0]}")
    names = [present[name] for name in listed if name in present]
    with ThreadPoolExecutor() as pool:
        read = list(pool.map(lambda name: _read(layout, name, kinds, label_of, role), names))
    clips = [clip for clip in read if isinstance(clip, Example)]
    given.skipped += [one for one in read if isinstance(one, Skipped)]
    given.dim, odd = of_one_width(clips, role)
    given.skipped += odd
    clips = [clip for clip in clips if clip.name not in {one.name for one in odd}]
    if strict:
        check_strictly(given.skipped)
    if not clips:
        why = "; ".join(f"{one.name}: {one.why}" for one in given.skipped[:3]) or "none of the lists' clips is there"
        raise Error(f"{folder} holds no mel that can be used ({why})")
    for clip in clips:
        given.splits[listed[nfc(clip.name)]].append(clip)
    lengths = Counter(clip.target.shape[1] for clip in clips)
    if others := sum(count for length, count in lengths.items() if length != FRAMES):
        one = next(clip for clip in clips if clip.target.shape[1] != FRAMES)
        given.notes.append(
            f"{others} mels are not {FRAMES} frames long and are used as they are, such as {one.name} with "
            f"{one.target.shape[1]}"
        )
    return given


def _layout(root: Path) -> _Layout | None:
    for features in (root / "features", root):
        if any(features.glob(f"*/{MELS}")):
            return _Layout(root, features, classes=True)
        if (features / MELS).is_dir():
            return _Layout(root, features, classes=False)
    return None


def _lists(layout: _Layout) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The lines of the list of each split, and for VGGSound the label of each video."""
    stem = layout.name.lower()
    found = {split: _found(layout.root, f"{stem}_{split}.txt") for split in SPLITS}
    if missing := [f"{stem}_{split}.txt" for split in NEEDED if found[split] is None]:
        raise Error(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing in {layout.root} and above it; "
            f"copy what says which clips are held out from SpecVQGAN's data folder"
        )
    lists = {split: _text(path).split("\n") for split, path in found.items() if path is not None}
    if layout.classes:
        return lists, {}
    table = _found(layout.root, "vggsound.csv")
    if table is None:
        raise Error(f"vggsound.csv, which names the classes, is missing in {layout.root} and above it; copy it there")
    labels = {row[0].strip(): row[2].strip() for row in csv.reader(_text(table).splitlines()) if len(row) > 2}
    return lists, labels


def _found(root: Path, name: str) -> Path | None:
    return next((place / name for place in (root, root.absolute().parent) if (place / name).is_file()), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Error(f"{path} is not UTF-8; save it as UTF-8, with one clip a line") from None
    except OSError as error:
        raise Error(f"{path} can't be read: {reason(error)}") from None


def _listed(layout: _Layout, lists: dict[str, list[str]], label_of: dict[str, str], given: GivenMels) -> dict[str, str]:
    """The split of each clip in the lists; one that is in two is held out."""
    named = re.compile(r"[^/\\]+/[^/\\]+" if layout.classes else r"[^/\\]+")
    splits: dict[str, str] = {}
    twice: list[str] = []
    for split in SPLITS:
        for number, line in enumerate(lists.get(split, ()), 1):
            name = nfc(line.strip().replace("\\", "/"))
            if not name:
                continue
            where = f"{layout.name.lower()}_{split}.txt line {number}"
            if not named.fullmatch(name) or ".." in name.split("/"):
                want = "<class>/<video>" if layout.classes else "<video>_<start>_<end>"
                given.skipped.append(Skipped(where, f'"{name:.80}" is no {want}'))
            elif not layout.classes and name[:ID_LETTERS] not in label_of:
                given.skipped.append(Skipped(where, f"{name} has no class in vggsound.csv"))
            else:
                if splits.get(name, split) != split:
                    twice.append(name)
                splits[name] = split
    if twice:
        given.notes.append(f"{len(twice)} clips are in two lists and count as held out, such as {twice[0]}")
    return splits


def _read(layout: _Layout, name: str, kinds: tuple[str, ...], label_of: dict[str, str], role: str) -> Example | Skipped:
    stem = name.rpartition("/")[2]
    label = label_of[name[:ID_LETTERS]] if not layout.classes else nfc(name.partition("/")[0].replace("_", " "))
    try:
        mel = _mel(read_array(layout.kind(name, MELS) / f"{stem}_mel.npy"))
        parts = [_features(layout.kind(name, kind), stem) for kind in kinds]
        if len({len(part) for part in parts}) > 1:
            raise Error(f"has features of {' and '.join(str(len(part)) for part in parts)} steps, which don't match")
    except Error as error:
        return Skipped(name, str(error))
    given = {role: torch.from_numpy(np.concatenate(parts, axis=1)).mT.contiguous()} if parts else {}
    return Example(mel, given, label, name=name)


def _mel(array: np.ndarray) -> Float[Tensor, "mels frames"]:
    """Raises Error for what is no mel in 0..1 with as many bands as the published ones."""
    if array.ndim != 2 or array.shape[0] != SPEC.mels or not 1 <= array.shape[1] <= LONGEST:
        turned = "; transpose it" if array.ndim == 2 and array.shape[1] == SPEC.mels else ""
        raise Error(f"its mel has the shape {list(array.shape)} where [{SPEC.mels}, {FRAMES}] is expected{turned}")
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        what = f"whole numbers ({array.dtype})" if array.dtype.kind != "f" else "NaN or infinity"
        raise Error(f"its mel holds {what} where numbers from 0 to 1 are expected")
    low, high = float(array.min()), float(array.max())
    if low < -SLACK or high > 1 + SLACK:
        raise Error(
            f"its mel lies between {low:.3g} and {high:.3g} where numbers from 0 to 1 are expected; make it as "
            'SpecVQGAN does (the mel "specvqgan-22k")'
        )
    return torch.from_numpy(array.astype(np.float32).clip(0, 1))


def _features(folder: Path, stem: str) -> Float[np.ndarray, "steps dim"]:
    """Raises Error where they are missing or no features."""
    spelling = Spelling()
    paths = [Path(spelling.of(folder, f"{stem}{suffix}")) for suffix in FEATURE_SUFFIXES]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise Error(f"has no features ({folder.name}/{stem}{FEATURE_SUFFIXES[0]} or {FEATURE_SUFFIXES[1]})")
    array = read_array(path)
    said = re.search(r"_dim([0-9]+)", folder.name)
    dim = int(said[1]) if said else array.shape[-1] if array.ndim else 0
    if array.ndim != 2 or array.shape[1] != dim or not array.size:
        raise Error(f"its features {path.name} have the shape {list(array.shape)} where [steps, {dim}] is expected")
    if not np.isfinite(array).all():
        raise Error(f"its features {path.name} hold NaN or infinity")
    return array.astype(np.float32)
