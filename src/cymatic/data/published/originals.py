"""The files as published, wherever they are: a folder, a zip or tar archive, or single files on the network.

Files go by their names alone, for in each pack these are unique: a clone of the repository, an archive of it or the
bare folder of sounds will all do.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import quote

from cymatic.data.published.download import Checksum, Fetch, fetch
from cymatic.errors import Error
from cymatic.files import reason

Entry = TypeVar("Entry")
LARGEST = 64 << 20  # bytes; no file that a pack is made of comes near


@runtime_checkable
class Originals(Protocol):
    """Where files can be taken from."""

    def each(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The files of those names with what they hold, in the order that is quickest. Raises Error."""


def local(path: Path) -> Originals:
    """What was brought by hand. Raises Error where it is neither a folder nor an archive."""
    try:
        if path.is_dir():
            return InFolder(path)
        if not path.exists():
            raise Error(f"{path} does not exist; give --from a folder or an archive that is there")
        if zipfile.is_zipfile(path):
            return InZip(path)
        if tarfile.is_tarfile(path):
            return InTar(path)
    except OSError as error:
        raise Error(f"{path} can't be read: {reason(error)}; give --from a folder or an archive") from error
    raise Error(f"{path} is neither a folder nor a zip or tar archive that is whole; fetch it again")


class InFolder:
    """Files in a folder, however deep; of two of one name the one that lies less deep counts."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def each(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        wanted, found = set(names), dict[str, Path]()
        for folder, below, files in os.walk(self.root):
            below[:] = sorted(name for name in below if not name.startswith("."))  # .git is large
            for name in wanted.intersection(files):
                place = Path(folder, name)
                if name not in found or len(place.parts) < len(found[name].parts):
                    found[name] = place
        _all_there(names, found, self.root)
        for name in names:
            yield name, _whole(found[name].read_bytes, found[name])


class InZip:
    """Files in a zip archive."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def each(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                found = _shallowest(names, ((info.filename, info) for info in archive.infolist() if not info.is_dir()))
                _all_there(names, found, self.path)
                for name in names:
                    info = found[name]
                    _check_size(info.file_size, name, self.path)
                    yield name, _whole(partial(archive.read, info), self.path, name)
        except (zipfile.BadZipFile, OSError) as error:
            raise _damaged(self.path, error) from error


class InTar:
    """Files in a tar archive, compressed or not; read once from its start, since it can't be entered elsewhere."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def each(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        try:
            with tarfile.open(self.path) as archive:
                members = archive.getmembers()
                found = _shallowest(names, ((member.name, member) for member in members if member.isreg()))
                _all_there(names, found, self.path)
                for name, member in sorted(found.items(), key=lambda pair: pair[1].offset):
                    _check_size(member.size, name, self.path)
                    file = archive.extractfile(member)
                    assert file is not None  # it is a regular file
                    yield name, _whole(file.read, self.path, name)
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise _damaged(self.path, error) from error


class OnNetwork:
    """Single files below one address, each fetched into `folder` and kept there."""

    def __init__(
        self,
        address: str,
        folder: Path,
        *,
        places: Mapping[str, str] | None = None,
        checksums: Mapping[str, Checksum] | None = None,
        fetch: Fetch = fetch,
    ) -> None:
        """places: where a name lies below `address`, if not at its top."""
        self.address, self.folder, self.fetch = address, folder, fetch
        self.places, self.checksums = places or {}, checksums or {}

    def each(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        for name in names:
            address = f"{self.address}/{quote(self.places.get(name, name))}"
            path = self.fetch(address, self.folder / name, checksum=self.checksums.get(name))
            yield name, _whole(path.read_bytes, path)


def _shallowest(names: Collection[str], entries: Iterator[tuple[str, Entry]]) -> dict[str, Entry]:
    wanted, found = set(names), dict[str, tuple[int, Entry]]()
    for place, entry in entries:
        path = PurePosixPath(place)
        if path.name in wanted and (path.name not in found or len(path.parts) < found[path.name][0]):
            found[path.name] = (len(path.parts), entry)
    return {name: entry for name, (_, entry) in found.items()}


def _all_there(names: Collection[str], found: Collection[str], where: Path) -> None:
    missing = [name for name in names if name not in found]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise Error(
            f"{where} lacks {len(missing)} of the {len(names)} files that are needed ({shown}); fetch all of it"
        )


def _check_size(size: int, name: str, where: Path) -> None:
    if size > LARGEST:
        raise Error(f"{name} in {where} is {size} bytes large, and at most {LARGEST} were expected; fetch it again")


def _whole(read: Callable[[], bytes], where: Path, name: str = "") -> bytes:
    try:
        return read()
    except (
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
    ) as e:
        raise _damaged(where, e, name) from e


def _damaged(where: Path, error: BaseException, name: str = "") -> Error:
    said = reason(error) if isinstance(error, OSError) else str(error)
    return Error(f"{where} can't be read{f' at {name}' if name else ''} ({said}); fetch it again")
