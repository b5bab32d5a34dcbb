"""Which rows keywords may be, and what is said of those that were taken, against counting."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cymatic.encoders.keywords import (
    Vocabulary,
    entropy_of_keywords,
    hard_perplexity,
    hit_rate,
    nearest_rows,
    soft_perplexity,
    used,
)
from cymatic.errors import Error


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=6), st.integers(0, 50))
def test_a_vocabulary_has_what_captions_have_and_maps_both_ways(captions, always):
    ids = used(captions, [always])
    assert ids.tolist() == sorted({always, *(one for caption in captions for one in caption)})
    vocabulary = Vocabulary(len(ids))
    if len(ids) == 1:
        with pytest.raises(Error, match="every token of the vocabulary is banned"):
            vocabulary.take(ids, ids.tolist())
        return
    ids = ids.flip(0)  # any order will do
    vocabulary.take(ids, [always, 99])
    assert vocabulary.banned.tolist() == [one == always for one in ids.tolist()]
    rows = torch.arange(len(ids))
    assert torch.equal(vocabulary.ids_of(rows), ids) and torch.equal(vocabulary.rows_of(ids), rows)
    every = torch.arange(60).view(6, 10)
    wanted = [ids.tolist().index(one) if one in ids else -1 for one in range(60)]
    assert vocabulary.rows_of(every).flatten().tolist() == wanted


def test_a_vocabulary_refuses_what_does_not_fit():
    vocabulary = Vocabulary(3)
    for ids in (torch.tensor([1, 2]), torch.tensor([1, 2, 1])):
        with pytest.raises(Error, match="this vocabulary holds 3"):
            vocabulary.take(ids)


def test_the_nearest_rows_by_either_measure():
    torch.manual_seed(0)
    table, words = torch.randn(9, 4), torch.randn(5, 3, 4)
    rows, scores = nearest_rows(words, table, 4)
    cosines = torch.cosine_similarity(words[:, :, None], table, dim=-1)
    assert torch.equal(rows, cosines.argsort(-1, descending=True)[..., :4])
    torch.testing.assert_close(scores, cosines.gather(-1, rows))
    rows, scores = nearest_rows(words, table, 9, by="pseudo_inverse")
    weights = torch.zeros(5, 3, 9).scatter(-1, rows, scores)
    torch.testing.assert_close(weights @ table, words, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights, torch.linalg.lstsq(table.T, words.flatten(0, 1).T).solution.T.view(5, 3, 9))
    with pytest.raises(Error, match="give a number from 1 to 9"):
        nearest_rows(words, table, 10)


def test_hits_are_counted_for_each_keyword():
    ids = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]], [[1, 9], [9, 2]], [[0, 0], [0, 0]]])
    assert hit_rate(ids, [[2, 4], [5], (2, 3), []]).tolist() == [0.5, 0.5]
    with pytest.raises(Error, match="give one for each"):
        hit_rate(ids, [[1]])


def test_perplexity_and_entropy_are_their_formulas():
    rows = torch.tensor([[0, 1], [2, 3], [0, 1]])
    assert hard_perplexity(rows[:2], 7) == pytest.approx(4)
    p = [2 / 6, 2 / 6, 1 / 6, 1 / 6]
    assert hard_perplexity(rows, 7) == pytest.approx(math.exp(-sum(x * math.log(x) for x in p)))
    shares = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0]], [[0, 0, 1.0], [1, 0, 0]]])
    mean = [2.5 / 4, 0.5 / 4, 1 / 4]
    assert soft_perplexity(shares) == pytest.approx(math.exp(-sum(x * math.log(x) for x in mean)))
    assert entropy_of_keywords(shares).tolist() == pytest.approx([0, math.log(2) / 2])
