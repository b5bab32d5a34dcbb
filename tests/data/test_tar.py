"""Tar archives as streams: what Python's own writer makes is read, and damage is never passed over in silence."""

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.data.tar import TarReader, TarWriter
from cymatic.errors import Error


class Pipe(io.RawIOBase):
    """Gives a few bytes at a time and can't seek."""

    def __init__(self, data: bytes) -> None:
        self.inner = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self.inner.read(min(size, 700))

    def seekable(self) -> bool:
        return False


def contents(data, opened=io.BytesIO):
    reader = TarReader(opened(data), "a.tar")
    return {member.name: reader.read() for member in reader}


def written(files):
    stream = io.BytesIO()
    writer = TarWriter(stream)
    for name, data in files.items():
        writer.add(name, data)
    writer.close()
    assert writer.written == len(stream.getvalue())
    return stream.getvalue()


def by_python(files, form, extra=()):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for info in extra:
            tar.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1700000000.25  # pax has a header for such a time, as webdataset's
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


FILES = {"a.cym": b"x" * 700, "b/c.json": b"", "d.wav": b"y" * 512}


@pytest.mark.parametrize("opened", [io.BytesIO, Pipe])
def test_what_is_written_is_read(opened):
    assert contents(written(FILES), opened) == FILES
    with tarfile.open(fileobj=io.BytesIO(written(FILES))) as tar:
        assert {name: tar.extractfile(name).read() for name in tar.getnames()} == FILES


def test_the_same_files_are_the_same_bytes():
    assert written(FILES) == written(dict(FILES))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("opened", [io.BytesIO, Pipe])
def test_what_python_writes_is_read(form, opened):
    long = {"folder/" * 14 + "ä.wav": b"z"} if form == tarfile.USTAR_FORMAT else {"ö" * 150 + ".wav": b"z"}
    assert contents(by_python({**FILES, **long}, form), opened) == {**FILES, **long}


def test_folders_and_links_are_passed_by():
    folder, link = tarfile.TarInfo("d"), tarfile.TarInfo("l")
    folder.type, link.type, link.linkname = tarfile.DIRTYPE, tarfile.SYMTYPE, "/etc/passwd"
    assert contents(by_python(FILES, tarfile.GNU_FORMAT, [folder, link])) == FILES


def test_members_that_are_not_read_are_skipped():
    for opened in (io.BytesIO, Pipe):
        assert [member.name for member in TarReader(opened(written(FILES)), "a")] == list(FILES)


@pytest.mark.parametrize("cut", [1, 511, 512, 600, 1300, 1700])
@pytest.mark.parametrize("opened", [io.BytesIO, Pipe])
def test_a_cut_is_said(cut, opened):
    with pytest.raises(Error, match=r"a\.tar is (cut short|no tar archive)"):
        contents(written(FILES)[:cut], opened)


def test_what_is_no_tar():
    for data in (b"", b"RIFF" + bytes(600), b"x" * 2000):
        with pytest.raises(Error, match=r"a\.tar is no tar archive; give one that holds files, not compressed"):
            contents(data)


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + b"\xff" * 11, b"-1\0".ljust(12), b"zz".ljust(12)])
def test_a_size_that_lies_needs_no_memory(size):
    data = bytearray(written(FILES))
    at = 1536  # the second member's header
    data[at + 124 : at + 136] = size
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = f"{sum(data[at : at + 512]):06o}\0 ".encode()
    with pytest.raises(Error, match=r"a\.tar is (cut short|damaged at byte 1536 \(a size that can't be\))"):
        contents(bytes(data))


@settings(max_examples=60)
@given(st.integers(0, len(written(FILES)) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_an_error_or_harmless(place, flip):
    data = bytearray(written(FILES))
    data[place] ^= flip
    try:
        read = contents(bytes(data))
    except Error:
        return
    assert set(read) <= set(FILES) and all(len(read[name]) == len(FILES[name]) for name in read)


def test_a_name_that_fits_no_header():
    with pytest.raises(Error, match="can't be a name in a tar archive"):
        written({"x" * 300: b""})
