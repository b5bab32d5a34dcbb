"""What was fetched by hand: folders and archives, whole, lacking and damaged."""

import tarfile
import zipfile
from pathlib import Path

import pytest

from cymatic.data.published.originals import InFolder, OnNetwork, local
from cymatic.errors import Error

FILES = {"top/audio/a.wav": b"a" * 5000, "top/audio/b.wav": b"b" * 5000, "top/LICENSE": b"free", "top/x/LICENSE": b"no"}
WANTED = {"a.wav": b"a" * 5000, "b.wav": b"b" * 5000, "LICENSE": b"free"}


def write_folder(place: Path) -> Path:
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def write_zip(place: Path) -> Path:
    with zipfile.ZipFile(place / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in reversed(FILES.items()):
            archive.writestr(name, data)
    return place / "all.zip"


def write_tar(place: Path) -> Path:
    with tarfile.open(place / "all.tar.gz", "w:gz") as archive:
        archive.add(write_folder(place / "files") / "top", "top")
    return place / "all.tar.gz"


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_files_are_found_by_name_wherever_they_lie(tmp_path: Path, write) -> None:
    originals = local(write(tmp_path))
    assert dict(originals.each(list(WANTED))) == WANTED
    assert dict(originals.each([])) == {}


@pytest.mark.parametrize("write", [write_folder, write_zip, write_tar])
def test_what_is_missing_is_counted_and_named(tmp_path: Path, write) -> None:
    with pytest.raises(Error, match=r"lacks 2 of the 3 files that are needed \(c\.wav, d\.wav\); fetch all of it"):
        list(local(write(tmp_path)).each(["a.wav", "c.wav", "d.wav"]))


def test_the_repository_s_own_folder_is_not_searched(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "a.wav").write_bytes(b"")
    with pytest.raises(Error, match="lacks 1 of the 1"):
        list(InFolder(tmp_path).each(["a.wav"]))


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_an_archive_that_was_cut_short(tmp_path: Path, write) -> None:
    archive = write(tmp_path)
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(Error, match="fetch it again"):
        list(local(archive).each(list(WANTED)))


def test_a_damaged_member_is_named(tmp_path: Path) -> None:
    archive = write_zip(tmp_path)
    data = bytearray(archive.read_bytes())
    place = data.index(b"top/audio/a.wav") + len("top/audio/a.wav") + 2
    data[place : place + 4] = b"\0\0\0\0"
    archive.write_bytes(data)
    with pytest.raises(Error, match=r"all\.zip can't be read at a\.wav .*fetch it again"):
        list(local(archive).each(["a.wav"]))


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>not found</html>")
    with pytest.raises(Error, match="neither a folder nor a zip or tar archive that is whole"):
        local(tmp_path / "page.zip")
    with pytest.raises(Error, match="does not exist; give --from"):
        local(tmp_path / "nothing")


def test_single_files_are_fetched_from_their_places(tmp_path: Path) -> None:
    asked = []

    def fetch(address: str, path: Path, **_: object) -> Path:
        asked.append(address)
        path.write_bytes(b"data")
        return path

    originals = OnNetwork("https://example.org/c0ffee", tmp_path, places={"a b.wav": "audio/a b.wav"}, fetch=fetch)
    assert dict(originals.each(["a b.wav", "LICENSE"])) == {"a b.wav": b"data", "LICENSE": b"data"}
    assert asked == ["https://example.org/c0ffee/audio/a%20b.wav", "https://example.org/c0ffee/LICENSE"]
