"""Codes side by side: padded, in the same order at every call, each epoch in the next variant."""

import pytest
import torch

from cymatic.data.codes import Coded, CodesBatches, codes_in_order
from cymatic.errors import Error


def coded(*lengths: int, variants: int = 1) -> list[Coded]:
    """Variant v of sound k holds the number 10 k + v everywhere."""
    return [
        Coded(f"sound {k}", tuple(torch.full((2, n + v), 10 * k + v) for v in range(variants)))
        for k, n in enumerate(lengths)
    ]


def test_each_epoch_meets_every_sound_once_in_the_next_variant():
    batches = CodesBatches(coded(3, 5, 4, 6, variants=2), 2, seed=1)
    assert batches.per_epoch == 2
    for epoch in range(3):
        some = [batches[2 * epoch + i] for i in range(2)]
        firsts = [int(item[0, 0]) for batch in some for item in batch.codes]
        assert sorted(firsts) == [10 * k + epoch % 2 for k in range(4)]
        for batch in some:
            for caption, codes, n in zip(batch.captions, batch.codes, batch.columns.tolist(), strict=True):
                k = int(caption.split()[1])
                assert n == (3, 5, 4, 6)[k] + epoch % 2
                assert (codes[:, :n] == 10 * k + epoch % 2).all() and (codes[:, n:] == 0).all()


def test_a_step_is_the_same_at_every_call():
    one, other = (CodesBatches(coded(*range(1, 9)), 3, seed=2) for _ in range(2))
    later = [one[step] for step in (4, 0, 4)]
    assert later[0].captions == later[2].captions == other[4].captions
    assert torch.equal(later[0].codes, other[4].codes)


def test_processes_share_a_batch():
    sounds = coded(3, 5, 4, 6)
    whole = CodesBatches(sounds, 4, seed=1)[0]
    parts = [CodesBatches(sounds, 4, seed=1, rank=rank, ranks=2)[0] for rank in range(2)]
    for rank, part in enumerate(parts):
        assert part.captions == whole.captions[rank::2]
        assert part.shard.items == 4 and part.shard.longest == 6
    with pytest.raises(Error, match="too small for 5 devices"):
        CodesBatches(sounds, 4, seed=1, ranks=5)


def test_measuring_takes_all_sounds_in_their_first_variant():
    batches = list(codes_in_order(coded(5, 2, 9, variants=2), 2))
    assert [batch.columns.tolist() for batch in batches] == [[2, 5], [9]]
    assert [caption for batch in batches for caption in batch.captions] == ["sound 1", "sound 0", "sound 2"]
