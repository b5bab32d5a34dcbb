"""Shards: what goes in comes out, in an order that the seed determines, once for all processes; damage is named."""

import io
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cymatic.data.shards import Shards, find_shards, write_shard
from cymatic.data.tar import TarWriter
from cymatic.errors import Error
from cymatic.media.cym import CymHeader, CymWriter

HEADER = CymHeader("tiny", "ab" * 32, 2000, 1, 40, (16, 16, 16))


def codes(i, frames=None):
    return np.random.default_rng(i).integers(0, 16, (3, 5 + i % 7 if frames is None else frames))


def as_cym(values):
    stream = io.BytesIO()
    writer = CymWriter(stream, HEADER)
    writer.add(values)
    writer.close(values.shape[1] * 40)
    return stream.getvalue()


def about(i):
    return {"caption": f"sound {i}", "seconds": 0.1 * i, "source": f"{i}.wav", "split": "train"}


def sounds(numbers):
    return [(f"{i:06}", as_cym(codes(i)), about(i)) for i in numbers]


def write_tar(path, files):
    with open(path, "wb") as stream:
        writer = TarWriter(stream)
        for name, data in files:
            writer.add(name, data)
        writer.close()


@pytest.fixture
def folder(tmp_path):
    for shard in range(5):
        write_shard(tmp_path / f"shard-{shard}.tar", sounds(range(10 * shard, 10 * shard + 3 + 2 * shard)))
    return tmp_path


NUMBERS = [10 * shard + i for shard in range(5) for i in range(3 + 2 * shard)]


def numbers(found):
    return [int(one.key) for one in found]


def test_what_goes_in_comes_out(folder):
    for i, one in zip(NUMBERS, Shards(folder), strict=True):
        assert np.array_equal(one.codes, codes(i)) and one.header == HEADER
        assert (one.key, one.caption, one.seconds, one.source, one.split) == (
            f"{i:06}", f"sound {i}", 0.1 * i, f"{i}.wav", "train",
        )  # fmt: skip
    assert numbers(Shards(folder / "shard-1.tar")) == [10, 11, 12, 13, 14]


def test_the_same_sounds_are_the_same_bytes(tmp_path):
    sizes = [write_shard(tmp_path / f"{name}.tar", iter(sounds(range(4)))) for name in "ab"]
    first, second = ((tmp_path / f"{name}.tar").read_bytes() for name in "ab")
    assert first == second and sizes == [len(first)] * 2


def test_webdataset_would_find_its_pairs(tmp_path):
    import tarfile

    write_shard(tmp_path / "a.tar", sounds(range(2)))
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["000000.cym", "000000.json", "000001.cym", "000001.json"]
        assert json.load(tar.extractfile("000001.json")) == about(1)
        assert {(info.mtime, info.uid, info.gid, info.uname) for info in tar} == {(0, 0, 0, "")}


def test_seed_and_epoch_determine_the_order(folder):
    shards = Shards(folder)
    orders = {(seed, epoch): numbers(shards.shuffled(seed, epoch)) for seed in range(2) for epoch in range(2)}
    assert orders[0, 0] == numbers(Shards(folder).shuffled(0, 0))
    assert len({tuple(order) for order in orders.values()}) == 4
    assert all(sorted(order) == NUMBERS for order in orders.values())


@settings(max_examples=25)
@given(st.integers(1, 6), st.integers(0, 5), st.integers(1, 50))
def test_each_sound_comes_once_for_all_processes_together(tmp_path_factory, ranks, seed, buffer):
    folder = tmp_path_factory.getbasetemp() / "ranks"
    if not folder.exists():
        folder.mkdir()
        for shard in range(3):
            write_shard(folder / f"{shard}.tar", sounds(range(10 * shard, 10 * shard + 4)))
    shares = [numbers(Shards(folder, rank=rank, ranks=ranks).shuffled(seed, buffer=buffer)) for rank in range(ranks)]
    whole = numbers(Shards(folder).shuffled(seed, buffer=buffer))
    assert shares == [whole[rank::ranks] for rank in range(ranks)]
    assert sorted(whole) == [*range(4), *range(10, 14), *range(20, 24)]


def test_memory_does_not_grow_with_the_shard(tmp_path):
    def peak(count):
        path = tmp_path / f"{count}.tar"
        write_shard(path, ((f"{i:06}", as_cym(codes(i, 500)), about(i)) for i in range(count)))
        tracemalloc.start()
        assert sum(1 for _ in Shards(path).shuffled(0, buffer=10)) == count
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(20)
    assert peak(120) < 1.3 * peak(30)


# --- damage


def test_a_flipped_byte_costs_one_sound(folder):
    data = bytearray((folder / "shard-2.tar").read_bytes())
    data[512 + 60] ^= 1  # in the first sound's block
    (folder / "shard-2.tar").write_bytes(data)
    shards = Shards(folder)
    assert numbers(shards) == [n for n in NUMBERS if n != 20]
    (skipped,) = shards.skipped
    assert skipped.name == f"{folder / 'shard-2.tar'}:000020" and "damaged" in skipped.why
    with pytest.raises(Error, match=r"shard-2\.tar:000020: .*; mend or remove it, or leave out --strict"):
        list(Shards(folder, strict=True))
    list(shards)
    assert len(shards.skipped) == 1  # of what was read last


def test_a_cut_shard_gives_what_is_whole(folder):
    data = (folder / "shard-4.tar").read_bytes()
    (folder / "shard-4.tar").write_bytes(data[: len(data) // 2])
    shards = Shards(folder)
    found = numbers(shards)
    assert found == NUMBERS[: len(found)] and len(NUMBERS) - 8 < len(found) < len(NUMBERS)
    assert shards.skipped[-1].name == str(folder / "shard-4.tar") and "is cut short" in shards.skipped[-1].why


GOOD = [("000000.cym", as_cym(codes(0))), ("000000.json", json.dumps(about(0)).encode())]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ([("x.cym", as_cym(codes(1)))], "lacks its .json"),
        ([("x.json", b"{}")], "lacks its .cym"),
        ([("x.cym", as_cym(codes(1))), ("x.json", b"{}")], "does not say caption, seconds, source and split"),
        ([("x.cym", as_cym(codes(1))), ("x.json", b"[" * 100_000)], "does not say caption"),
        ([("x.cym", as_cym(codes(1))[:-9]), ("x.json", GOOD[1][1])], "cut short"),
        ([("x.cym", b""), ("x.json", GOOD[1][1])], "is empty"),
        ([("x.cym", b"RIFF"), ("x.json", GOOD[1][1])], "no .cym file"),
        ([("../x.cym", b"")], "leads out of its archive"),
        ([("/etc/x.cym", b"")], "leads out of its archive"),
        ([("a\nb.cym", b"")], "holds characters that no name should"),
        ([("x.y.cym", b"")], "holds a dot"),
        ([("x.exe", b"")], "is no codes and nothing about them"),
        ([("x.json", b" " * (2**20 + 1))], "more than the 1048576 that can be"),
        ([*GOOD[:1]], "is there twice"),
        ([("x.cym", GOOD[0][1]), ("x.json", GOOD[1][1]), *GOOD], "is there twice, or out of order"),
        ([("x.cym", b""), ("x.cym", b"")], "is there twice"),
    ],
)
def test_what_can_not_be_is_named_and_left_out(tmp_path, files, why):
    write_tar(tmp_path / "a.tar", [*GOOD, *files])
    shards = Shards(tmp_path / "a.tar")
    assert [one.key for one in shards][:1] == ["000000"]
    assert any(why in one.why for one in shards.skipped)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar"]


@settings(max_examples=40)
@given(st.integers(0, 4000), st.integers(1, 255))
def test_no_byte_of_a_shard_brings_it_down(tmp_path_factory, place, flip):
    path = tmp_path_factory.getbasetemp() / "flipped.tar"
    write_shard(path, sounds(range(3)))
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= flip
    path.write_bytes(data)
    shards = Shards(path)
    found = list(shards)
    assert all(np.array_equal(one.codes, codes(int(one.key))) for one in found if one.key.isdigit())
    assert len(found) == 3 or shards.skipped


@pytest.mark.parametrize("key", ["", "a.b", "../a", "a/../b", "/a", "a\\b", "a\n", "x" * 201])
def test_keys_that_can_not_be_are_not_written(tmp_path, key):
    with pytest.raises(Error, match="can't be the key of a sound"):
        write_shard(tmp_path / "a.tar", [(key, b"", {})])
    assert list(tmp_path.iterdir()) == []


def test_half_a_shard_is_none(tmp_path):
    def failing():
        yield from sounds(range(2))
        raise Error("the disk of the sounds broke")

    with pytest.raises(Error, match="the disk of the sounds broke"):
        write_shard(tmp_path / "a.tar", failing())
    with pytest.raises(Error, match="000001 came after 000002; give the sounds"):
        write_shard(tmp_path / "a.tar", sounds([2, 1]))
    assert list(tmp_path.iterdir()) == []


def test_no_shards(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(Error, match=r"holds no shard \(\*.tar\)"):
            find_shards(place)
