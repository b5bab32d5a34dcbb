"""What causal layers remember between blocks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv1d, conv_transpose1d

from cymatic.nn.streaming import StreamingState, add_overlap, extend_left

LAYER = nn.Identity()  # a name to remember things under


@pytest.mark.parametrize("block", [1, 2, 5, 30])
def test_a_convolution_in_blocks_is_the_whole(block):
    x, weight = torch.randn(1, 2, 30), torch.randn(3, 2, 4)
    whole = conv1d(extend_left(None, LAYER, x, 3), weight)
    state, made = StreamingState(), []
    for segment in x.split(block, -1):
        made.append(conv1d(state.extend_left(LAYER, segment, 3), weight))
        state.commit()
    torch.testing.assert_close(torch.cat(made, -1), whole)


@pytest.mark.parametrize("block", [1, 2, 5, 30])
def test_overlaps_are_added(block):
    x, weight = torch.randn(1, 2, 30), torch.randn(2, 3, 10)
    whole = add_overlap(None, LAYER, conv_transpose1d(x, weight, stride=2), 8)
    state, made = StreamingState(), []
    for segment in x.split(block, -1):
        made.append(state.add_overlap(LAYER, conv_transpose1d(segment, weight, stride=2), 8))
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
    assert torch.equal(extend_left(None, LAYER, x, 2, dim=1)[:, 2:], x)
    assert torch.equal(StreamingState().extend_left(LAYER, x, 2, dim=1), extend_left(None, LAYER, x, 2, dim=1))
