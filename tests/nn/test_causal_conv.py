"""Causal convolutions: torch's own numbers, no future, and blocks with a state that are the whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import draw
from torch.nn.functional import conv1d, conv_transpose1d, pad

from cymatic.errors import Error
from cymatic.nn.causal_conv import CausalConv, CausalConvTranspose
from cymatic.nn.snake import Snake
from cymatic.nn.streaming import StreamingState

DOWN = [{"kernel": 7}, {"kernel": 3, "dilation": 9}, {"kernel": 9, "stride": 4}, {"kernel": 4, "stride": 4},
        {"kernel": 5, "groups": 2}, {"kernel": 1}]  # fmt: skip
UP = [{"kernel": 8, "stride": 4}, {"kernel": 9, "stride": 4}, {"kernel": 3, "stride": 3}, {"kernel": 5},
      {"kernel": 32, "stride": 2, "groups": 4}]  # fmt: skip


def built(layer: type, settings: dict) -> CausalConv | CausalConvTranspose:
    torch.manual_seed(0)
    return layer(4, 8, **settings)


def in_blocks(layer, x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    state, made = StreamingState(), []
    for block in x.split(lengths, dim=-1):
        made.append(layer(block, state))
        state.commit()
    return torch.cat(made, dim=-1)


def test_down_by_torchs_own_convolution():
    layer, x = built(CausalConv, {"kernel": 9, "stride": 4}), draw(2, 4, 20)
    # Frame 0 ends with sample 3, so 5 zeros come before the first.
    torch.testing.assert_close(layer(x), conv1d(pad(x, (5, 0)), layer.weight, layer.bias, 4))


def test_up_by_torchs_own_convolution():
    layer, x = built(CausalConvTranspose, {"kernel": 9, "stride": 4}), draw(2, 4, 5)
    torch.testing.assert_close(layer(x), conv_transpose1d(x, layer.weight, layer.bias, 4)[..., :20])


@pytest.mark.parametrize("settings", DOWN)
@pytest.mark.parametrize("changed", [0, 1, 7, 11])
def test_a_frame_is_made_of_nothing_after_its_last_sample(settings, changed):
    layer, stride, x = built(CausalConv, settings), settings.get("stride", 1), draw(1, 4, 48)
    other = x.clone()
    other[..., changed * stride :] += 1
    first, second = layer(x), layer(other)
    assert torch.equal(first[..., :changed], second[..., :changed])
    assert not torch.equal(first[..., changed], second[..., changed])


@pytest.mark.parametrize("settings", UP)
@pytest.mark.parametrize("changed", [0, 1, 7, 11])
def test_a_frame_is_heard_from_its_first_sample_on(settings, changed):
    layer, stride, x = built(CausalConvTranspose, settings), settings.get("stride", 1), draw(1, 4, 12)
    other = x.clone()
    other[..., changed:] += 1
    first, second = layer(x), layer(other)
    assert torch.equal(first[..., : changed * stride], second[..., : changed * stride])
    assert not torch.equal(first[..., changed * stride], second[..., changed * stride])


@given(st.sampled_from([*((CausalConv, s) for s in DOWN), *((CausalConvTranspose, s) for s in UP)]),
       st.lists(st.integers(1, 9), min_size=1, max_size=5))  # fmt: skip
def test_blocks_are_the_whole(case, frames):
    layer = built(*case)
    unit = case[1].get("stride", 1) if case[0] is CausalConv else 1
    lengths = [n * unit for n in frames]
    x = draw(2, 4, sum(lengths))
    torch.testing.assert_close(in_blocks(layer, x, lengths), layer(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("kind", "settings"), [(CausalConv, DOWN[1]), (CausalConvTranspose, UP[4])])
def test_a_block_may_be_tried_before_it_is_complete(kind, settings):
    layer, x = built(kind, settings), draw(1, 4, 20)
    state, stride = StreamingState(), settings.get("stride", 1)
    first = layer(x[..., :10], state)
    state.commit()
    tried = layer(pad(x[..., 10:13], (0, 7)), state)[..., : 3 * stride]
    second = layer(x[..., 10:], state)
    state.commit()
    assert torch.equal(torch.cat([first, second], -1), in_blocks(layer, x, [10, 10]))
    torch.testing.assert_close(tried, second[..., : 3 * stride], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: CausalConv(1, 1, 3, stride=4), "3 taps 1 apart leave out samples"),
        (lambda: CausalConvTranspose(1, 1, 3, stride=4), "3 taps leave gaps"),
        (lambda: CausalConv(1, 1, 8, stride=4)(torch.zeros(1, 1, 6)), "6 samples are no whole number of strides of 4"),
    ],
)
def test_what_does_not_fit_is_refused(ask, said):
    with pytest.raises(Error, match=said):
        ask()


def test_snake_by_its_formula():
    snake, x = Snake(4), draw(2, 4, 9)
    with torch.no_grad():
        snake.log_a.copy_(torch.tensor([0.1, 1.0, 3.0, 20.0]).log()[:, None])
    for channel, a in enumerate((0.1, 1.0, 3.0, 20.0)):
        at = x[:, channel]
        expected = at + (a * at).sin() ** 2 / a
        torch.testing.assert_close(snake(x)[:, channel], expected)
    snake(x).sum().backward()
    assert (snake.log_a.grad != 0).all()
