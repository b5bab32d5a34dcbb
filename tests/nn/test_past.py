"""What causal layers remember between tiles."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, conv_transpose1d

from cymatic.nn.streaming import StreamingState

LAYER = nn.Identity()  # a name to remember things under


@pytest.mark.parametrize("tile", [1, 2, 5, 30])
def test_a_convolution_goes_on_where_it_was(tile):
    x, weight = torch.randn(1, 2, 30), torch.randn(3, 2, 4)
    whole = conv1d(before(None, LAYER, x, 3), weight)
    state, made = StreamingState(), []
    for piece in x.split(tile, -1):
        made.append(conv1d(state.extend_left(LAYER, piece, 3), weight))
        state.commit()
    torch.testing.assert_close(torch.cat(made, -1), whole)


@pytest.mark.parametrize("tile", [1, 2, 5, 30])
def test_what_rings_over_is_added(tile):
    x, weight = torch.randn(1, 2, 30), torch.randn(2, 3, 10)
    whole = over(None, LAYER, conv_transpose1d(x, weight, stride=2), 8)
    state, made = StreamingState(), []
    for piece in x.split(tile, -1):
        made.append(state.add_overlap(LAYER, conv_transpose1d(piece, weight, stride=2), 8))
        state.commit()
    torch.testing.assert_close(torch.cat(made, -1), whole)


def test_what_was_not_committed_is_forgotten():
    state = StreamingState()
    state.extend_left(LAYER, torch.ones(1, 1, 2), 2)
    assert not state.extend_left(LAYER, torch.ones(1, 1, 2), 2)[..., :2].any()
    state.commit()
    assert state.extend_left(LAYER, torch.ones(1, 1, 2), 2).all()


def test_along_another_axis():
    x = torch.randn(2, 5, 3)
    assert torch.equal(before(None, LAYER, x, 2, dim=1)[:, 2:], x)
    assert torch.equal(StreamingState().before(LAYER, x, 2, dim=1), before(None, LAYER, x, 2, dim=1))
