"""The mels and video features of VAS as SpecVQGAN publishes them, brought into the layout that `data.vas` reads.

An archive holds one kind of one class: the mels of `dog`, say. It is fetched, compared with its published checksum,
unpacked beside the place of `vas/features/<class>/<kind>`, and moved there when all of it is on the disk; then the
archive goes. So what lies at its place is whole, and is not fetched again.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path, PurePosixPath

from cymatic.config import nearest
from cymatic.data.published.catalogue import VAS, VAS_CLASSES, VAS_COMMIT, find
from cymatic.data.published.download import Checksum, DownloadError
from cymatic.data.published.get import Watch
from cymatic.data.tar import Member, TarReader
from cymatic.errors import Error
from cymatic.files import reason, sync

ARCHIVES = find(VAS).address
LISTS_AT = f"https://raw.githubusercontent.com/v-iashin/SpecVQGAN/{VAS_COMMIT}/data"
LISTS = ("vas_train.txt", "vas_valid.txt")
MELS = "melspec_10s_22050hz"
KINDS = {
    "rgb": "feature_rgb_bninception_dim1024_21.5fps",
    "flow": "feature_flow_bninception_dim1024_21.5fps",
    "resnet50": "feature_resnet50_dim2048_21.5fps",
}
USUAL = ("rgb", "flow")  # what SpecVQGAN's and MelSpec_GPT_VQVAE's scripts fetch
NONE = "none"
LARGEST, MOST = 16 << 20, 20_000  # bytes of a file, files of an archive: the published ones have 2 MB and 3,200
CLIP = re.compile(r"[^/\\]+/[^/\\]+")  # a line of a list


@dataclass(frozen=True)
class Archive:
    """One archive: the files of one kind of one class."""

    label: str
    kind: str

    @property
    def file_name(self) -> str:
        return f"{self.label}_{self.kind}.tar"

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return "_mel.npy" if self.kind == MELS else ".pkl"


def archives(features: Sequence[str] = (), classes: Sequence[str] = ()) -> list[Archive]:
    """What is to be had of the classes (by default all): their mels, and the features named (rgb and flow; `none` for
    the mels alone). Raises Error for other names."""
    chosen = tuple(features) or USUAL
    if NONE in chosen and len(chosen) > 1:
        raise Error(f"--features {NONE} was given beside others; give it alone, or leave it out")
    for what, names, known in (("features", chosen, (*KINDS, NONE)), ("class", classes, VAS_CLASSES)):
        for name in names:
            if name not in known:
                raise Error(f'VAS has no {what} "{name}"; {nearest(name, known)}')
    kinds = [MELS, *(KINDS[name] for name in KINDS if name in chosen)]
    return [Archive(label, kind) for label in VAS_CLASSES if label in (classes or VAS_CLASSES) for kind in kinds]


def checksums() -> dict[str, Checksum]:
    """Of the archives, by name."""
    text = (files("cymatic.data.published") / "tables" / "vas.md5").read_text(encoding="utf-8")
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: Checksum("md5", digits) for digits, name in rows}


def get_vas(
    folder: Path,
    given: Path | None = None,
    watch: Watch | None = None,
    *,
    features: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Path:
    """Brings VAS into `folder`/vas and returns that; what is there already stays and is not fetched again.

    given: a folder of the archives and lists, so that no network is needed; it is left as it is. features, classes: see
    `archives`. Raises Error in one sentence; what is whole, and what has arrived of the next archive, stays for the
    next call.
    """
    watch = watch or Watch()
    wanted = archives(features, classes)
    target, downloads = folder / VAS, folder / "downloads" / VAS
    if given is not None and not given.is_dir():
        what = "is not a folder" if given.exists() else "does not exist"
        raise Error(f"{given} {what}; give --from a folder that holds the archives of VAS")
    missing = [archive for archive in wanted if not _is_there(target, archive)]
    lists = [name for name in LISTS if not (target / name).is_file()]
    try:
        source = _Source(given, downloads, watch, [*lists, *(archive.file_name for archive in missing)])
        sums = checksums()
        for name in lists:
            found = source.file(name, f"{LISTS_AT}/{name}", None)
            _place_list(found, target / name)
            if given is None:
                found.unlink()
        for number, archive in enumerate(missing, 1):
            address = f"{ARCHIVES}/{archive.file_name}"
            watch.say(f"{archive.file_name} ({number} of {len(missing)})")
            path = source.file(archive.file_name, address, sums.get(archive.file_name))
            _unpack(path, archive, target, folder / f"{VAS}.part", watch)
            if given is None:
                path.unlink()
    except DownloadError as error:
        raise Error(f"{error}; {by_hand(folder, features, classes)}") from error
    except OSError as error:
        raise Error(
            f"{error.filename or target} can't be written: {reason(error)}; mend that and run again, and it goes on"
        ) from error
    for left in (downloads, folder / "downloads", folder / f"{VAS}.part"):
        if left.is_dir() and not any(left.iterdir()):
            left.rmdir()
    return target


def by_hand(folder: Path, features: Sequence[str] = (), classes: Sequence[str] = ()) -> str:
    """What to put where, for whom has no network here."""
    place = folder / "downloads" / VAS
    options = [*(f"--features {name}" for name in features), *(f"--classes {name}" for name in classes)]
    again = " ".join(
        [f"cymatic data get {VAS} -o {shlex.quote(str(folder))} --from {shlex.quote(str(place))}", *options]
    )
    kinds = ", ".join(dict.fromkeys(archive.kind for archive in archives(features, classes)))
    labels = ", ".join(dict.fromkeys(archive.label for archive in archives(features, classes)))
    return (
        f"without a network, put {ARCHIVES}/CLASS_KIND.tar (CLASS: {labels}; KIND: {kinds}) and {LISTS_AT}/{LISTS[0]} "
        f"and {LISTS[1]} (fetched elsewhere) into {place} and run: {again}"
    )


class _Source:
    """Where archives and lists come from: a folder given, or the network by way of `downloads`."""

    def __init__(self, given: Path | None, downloads: Path, watch: Watch, names: Sequence[str]) -> None:
        """Raises Error where the folder lacks some of `names`."""
        self._given, self._downloads, self._watch = given, downloads, watch
        if given is not None and (lacks := [name for name in names if not (given / name).is_file()]):
            shown = ", ".join(lacks[:3]) + (", ..." if len(lacks) > 3 else "")
            raise Error(
                f"{given} lacks {len(lacks)} of the {len(names)} files that are needed ({shown}); put them there, or "
                "choose with --features and --classes"
            )

    def file(self, name: str, address: str, checksum: Checksum | None) -> Path:
        """The file, as published. Raises DownloadError, or Error for a checksum that differs."""
        if self._given is None:
            return self._watch.fetch(address, self._downloads / name, checksum=checksum, on_bytes=self._watch.on_bytes)
        try:
            if checksum is not None:
                checksum.check(self._given / name)
        except DownloadError as error:
            raise Error(str(error)) from None
        return self._given / name


def _is_there(target: Path, archive: Archive) -> bool:
    place = target / "features" / archive.label / archive.kind
    return place.is_dir() and any(place.glob(f"*{archive.suffix}"))


def _place_list(source: Path, target: Path) -> None:
    """Raises Error for what is no list of clips, such as a page that a network shows instead."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not all(CLIP.fullmatch(line) and "<" not in line for line in lines):
        raise Error(f"{source} is no list of clips, one <class>/<video> a line; move it away and run again")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    shutil.copyfile(source, part)
    sync(part)
    os.replace(part, target)


def _unpack(path: Path, archive: Archive, target: Path, work: Path, watch: Watch) -> None:
    """All files of the archive into their folder, which appears whole or not at all. Only the last part of a member's
    name is used, so that nothing can be written elsewhere."""
    place, made = target / "features" / archive.label / archive.kind, work / f"{archive.label}_{archive.kind}"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    size, count = path.stat().st_size, 0
    with open(path, "rb") as stream:
        reader = TarReader(stream, str(path))
        for member, name in _files(reader, archive):
            if member.size > LARGEST or count == MOST:
                what = f"{name} of {member.size} bytes" if member.size > LARGEST else f"more than {MOST} files"
                raise Error(f"{path} holds {what}, which the published one does not; fetch it again")
            watch.on_unpacked(member.offset, size)
            (made / name).write_bytes(reader.read())
            count += 1
    if not count:
        raise Error(f"{path} holds no *{archive.suffix}; fetch it again")
    for file in (*made.iterdir(), made):
        sync(file)
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    if place.exists():
        raise Error(f"{place} is in the way, for it holds no *{archive.suffix}; move it away and run again")
    os.rename(made, place)
    sync(place.parent)


def _files(reader: TarReader, archive: Archive) -> Iterator[tuple[Member, str]]:
    """The members that are wanted, with the names of their files."""
    for member in reader:
        name = PurePosixPath(member.name.replace("\\", "/")).name
        if name.endswith(archive.suffix) and not name.startswith(".") and "\0" not in name:
            yield member, name
