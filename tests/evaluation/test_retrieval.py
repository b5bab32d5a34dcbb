"""Recall among unique contents against counting, and as a model's items are searched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.encoders.align import RECALLS
from cymatic.evaluation.retrieval import belonging, both_ways, once


@given(st.lists(st.sampled_from(["a", "b", "c", b"a", ""]), min_size=1, max_size=9))
def test_each_content_comes_once(contents):
    places, numbers = once(contents)
    named = [content or i for i, content in enumerate(contents)]
    assert [named[place] for place in places] == list(dict.fromkeys(named))
    assert [named[places[number]] for number in numbers.tolist()] == named


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=9), st.integers(0, 99))
def test_recall_of_utterances_among_unique_pictures_is_counted(pairs, seed):
    """Items of an utterance and a picture, of which either may come again: found where any item has both."""
    utterances, pictures = (list(column) for column in zip(*pairs, strict=True))
    (_, of_rows), (_, of_columns) = once([f"u{u}" for u in utterances]), once([f"p{p}" for p in pictures])
    rows, columns = list(dict.fromkeys(utterances)), list(dict.fromkeys(pictures))
    alike = torch.tensor([[a == b or c == d for b, d in pairs] for a, c in pairs])
    own = belonging(alike, of_rows, of_columns)
    for i, u in enumerate(rows):
        for j, p in enumerate(columns):
            assert bool(own[i, j]) == any(
                (a == u and d == p) and (a == b or c == d) for a, c in pairs for b, d in pairs
            )
    similarity = torch.rand(len(rows), len(columns), generator=torch.Generator().manual_seed(seed))
    for found in both_ways(similarity, own):

        def share(scores, owned, k=found.first):
            hits = 0
            for row, mine in zip(scores.tolist(), owned.tolist(), strict=True):
                best = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:k]
                hits += any(mine[j] for j in best)
            return hits / len(scores)

        forth, back = share(similarity, own), share(similarity.T, own.T)
        assert (found.forth, found.back) == pytest.approx((forth, back))
        assert found.mean == pytest.approx((forth + back) / 2)
    assert [found.first for found in both_ways(similarity, own)] == list(RECALLS)


def test_five_utterances_of_a_picture_do_not_crowd_out_the_others():
    """Among all items one picture fills the first five places; among unique pictures it fills one."""
    pictures = torch.eye(3)
    owner = torch.tensor([0] * 5 + [1] * 5 + [2] * 5)
    said = pictures[owner].clone()
    said[5:10] = torch.tensor([0.8, 0.6, 0.0])  # nearer to picture 0 than to their own
    alike = owner[:, None] == owner
    everything = both_ways(said @ pictures[owner].T, alike)
    places, numbers = once([f"p{i}" for i in owner.tolist()])
    unique = both_ways(said @ pictures[owner][places].T, belonging(alike, torch.arange(15), numbers), (1, 2))
    assert everything[1].first == 5 and everything[1].forth == pytest.approx(2 / 3)
    assert [one.forth for one in unique] == pytest.approx([2 / 3, 1])
    assert [one.back for one in unique] == pytest.approx([1, 1])
