"""webdataset's archives as folders with a manifest."""

import io
import json
import tarfile

import numpy as np
import pytest
from tests.helpers import tone

from cymatic.data.folder import read_folder
from cymatic.data.unpacking import archives_in, unpack
from cymatic.errors import Error
from cymatic.media.picture import Picture


@pytest.fixture
def shard(tmp_path):
    """Two pictures with what is said about them, one of them with a sound, and things that are none."""
    Picture(np.eye(8)).write(tmp_path / "p.png")
    tone(440, 0.1).write(tmp_path / "s.wav")
    members = {
        "a/frog.png": (tmp_path / "p.png").read_bytes(), "a/frog.txt": b" ein\n Frosch ",
        "a/frog.json": json.dumps({"split": "valid", "licence": "CC0-1.0"}).encode(),
        "b/house.01.PNG": b"", "b/house.png": (tmp_path / "p.png").read_bytes(),
        "b/house.wav": (tmp_path / "s.wav").read_bytes(),
        "b/house.json": b'{"names": {"de": "Haus"}, "caption": "a house"}',
        "c/bare.txt": b"nothing beside it", "d/odd.xyz": b"?", "../../evil.png": (tmp_path / "p.png").read_bytes(),
        "../../evil.json": b"{", "../../evil.txt": b"evil",
    }  # fmt: skip
    with tarfile.open(tmp_path / "shard-0.tar", "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tmp_path / "shard-0.tar"


def test_a_shard_becomes_a_folder(shard, tmp_path):
    found = unpack(archives_in(shard), tmp_path / "out")
    assert found.rows == 3
    folder = read_folder(tmp_path / "out")
    by = {item.caption: item for item in folder.items}
    assert by.keys() == {"ein Frosch", "a house", "evil"}
    assert by["ein Frosch"].split == "valid" and by["ein Frosch"].fields["licence"] == "CC0-1.0"
    assert by["ein Frosch"].fields["key"] == "shard-0.tar:a/frog"
    assert set(by["a house"].files) == {"picture", "audio"}
    assert Picture.read(by["ein Frosch"].path()).width == 8
    assert read_folder(tmp_path / "out", captions_by=("names.de",)).items[0].caption == "Haus"


def test_what_is_left_out_is_named_and_nothing_is_written_elsewhere(shard, tmp_path):
    before = {path for path in tmp_path.parent.rglob("*")}
    found = unpack([shard], tmp_path / "out")
    assert {one.name for one in found.skipped} == {
        "shard-0.tar:b/house.01.PNG", "shard-0.tar:c/bare", "shard-0.tar:d/odd.xyz", "shard-0.tar:../../evil.json",
    }  # fmt: skip
    made = {path for path in tmp_path.parent.rglob("*")} - before
    assert all(path.is_relative_to(tmp_path / "out") for path in made)


def test_a_folder_of_shards_in_their_order(shard, tmp_path):
    shard.with_name("shard-1.tar").write_bytes(shard.read_bytes())
    assert unpack(archives_in(tmp_path), tmp_path / "out").rows == 6


@pytest.mark.parametrize("cut", [100, 700, 3000])
def test_a_damaged_archive_leaves_nothing(shard, tmp_path, cut):
    shard.write_bytes(shard.read_bytes()[:cut])
    before = sorted(tmp_path.iterdir())
    with pytest.raises(Error, match=r"shard-0.tar (is|is no|is cut|is damaged)"):
        unpack([shard], tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


def test_what_is_refused(shard, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(Error, match="there is there already; give the name of a new folder"):
        unpack([shard], tmp_path / "there")
    with pytest.raises(Error, match=r"can't be made: there is no folder"):
        unpack([shard], tmp_path / "no" / "out")
    with pytest.raises(Error, match="is no tar archive and no folder of them"):
        archives_in(tmp_path / "there")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(Error, match=r"holds no picture or sound; give another"):
        unpack([tmp_path / "empty.tar"], tmp_path / "out")
