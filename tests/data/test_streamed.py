"""Shards as batches: every sound once an epoch, in an order that seed and step determine, resumed or not."""

import pytest
import torch
from tests.data.test_shards import HEADER, as_cym, codes

from cymatic.data.batches import Streamed
from cymatic.data.shard_filter import ShardFilter, shard_statistics
from cymatic.data.shards import Shards, write_shard
from cymatic.errors import Error, ModelError

WANTED = ShardFilter(HEADER.sha256, levels=2, longest=9)


def sounds(begin, count):
    for i in range(begin, begin + count):
        about = {
            "caption": f"sound {i}",
            "seconds": 0.1,
            "source": f"{i}.wav",
            "split": "valid" if i % 5 == 4 else "train",
        }
        yield f"{i:06}", as_cym(codes(i)), about


@pytest.fixture
def shards(tmp_path):
    for shard in range(3):
        write_shard(tmp_path / f"{shard}.tar", sounds(10 * shard, 10))
    return Shards(tmp_path)


def test_a_survey_counts_what_can_be_used(shards):
    found = shard_statistics(shards, WANTED)
    train = [i for i in range(30) if i % 5 != 4]
    assert found.count == sum(5 + i % 7 <= 9 for i in train) and found.longest == 9
    assert found.too_long == sum(5 + i % 7 > 9 for i in range(30))
    assert [one.caption for one in found.valid] == [f"sound {i}" for i in range(4, 30, 5) if 5 + i % 7 <= 9]
    assert found.captions == {f"sound {i}" for i in train if 5 + i % 7 <= 9}
    assert torch.equal(found.valid[0].target, torch.from_numpy(codes(4))[:2])
    assert found.fingerprint == shard_statistics(shards, WANTED).fingerprint
    everything = shard_statistics(shards, ShardFilter(HEADER.sha256, 3, 9, "cut"))
    assert (everything.count, everything.too_long) == (24, 0)


def batches(shards, seed=0, wanted=WANTED, **ranks):
    return Streamed(shards, wanted, shard_statistics(shards, wanted).count, 4, seed, **ranks)


def test_an_epoch_meets_each_sound_once(shards):
    stream = batches(shards)
    for epoch in range(2):
        met = [stream[epoch * stream.per_epoch + i] for i in range(stream.per_epoch)]
        captions = [caption for batch in met for caption in batch.captions]
        assert len(set(captions)) == len(captions) == stream.per_epoch * 4
        for batch in met:
            for caption, row, columns in zip(batch.captions, batch.target, batch.lengths, strict=True):
                assert torch.equal(row[:, :columns], torch.from_numpy(codes(int(caption.split()[1])))[:2])
                assert not row[:, columns:].any()
    assert [one.captions for one in met] != [stream[i].captions for i in range(stream.per_epoch)]


def test_any_step_can_be_asked_for(shards):
    straight = batches(shards)
    wanted = [straight[step] for step in range(9)]
    for step in (7, 2, 3, 8, 0):
        one = batches(shards)[step]
        assert one.captions == wanted[step].captions and torch.equal(one.target, wanted[step].target)
    jumping = batches(shards)
    assert [jumping[step].captions for step in (5, 6, 1, 2)] == [wanted[step].captions for step in (5, 6, 1, 2)]
    assert [batches(shards, seed=1)[i].captions for i in range(3)] != [one.captions for one in wanted[:3]]


def test_processes_share_a_batch(shards):
    whole = batches(shards)
    parts = [batches(shards, rank=rank, ranks=3) for rank in range(3)]
    for step in range(4):
        captions = whole[step].captions
        for rank, part in enumerate(parts):
            one = part[step]
            assert one.captions == captions[rank::3]
            assert one.shard is not None and (one.shard.items, one.shard.rank) == (4, rank)


def test_long_sounds_are_cut_anywhere(shards):
    stream = batches(shards, wanted=ShardFilter(HEADER.sha256, 3, 5, "cut"))
    begins = set()
    for step in range(3 * stream.per_epoch):
        batch = stream[step]
        for caption, row in zip(batch.captions, batch.target, strict=True):
            whole = torch.from_numpy(codes(int(caption.split()[1])))
            (begin,) = (i for i in range(whole.shape[1] - 4) if torch.equal(whole[:, i : i + 5], row))
            begins.add(begin)
    assert len(begins) > 3


def test_what_does_not_fit(shards, tmp_path):
    with pytest.raises(ModelError, match=r"0.wav was encoded by tiny \(abababab\), and this recipe's codec is another"):
        shard_statistics(shards, ShardFilter("cd" * 32, 2, 9))
    with pytest.raises(ModelError, match=r"0.wav has 3 levels of codes and 4 are wanted"):
        shard_statistics(shards, ShardFilter(HEADER.sha256, 4, 9))
    with pytest.raises(Error, match="is too small for 5 devices"):
        batches(shards, rank=0, ranks=5)
    stream = batches(shards)
    (tmp_path / "1.tar").unlink()
    with pytest.raises(Error, match="holds fewer sounds than when the training began"):
        for step in range(stream.per_epoch):
            stream[step]
