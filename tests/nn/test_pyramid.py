"""Grids down to a coarse grid and up again."""

import pytest
import torch
from torch.nn.functional import softmax

from cymatic.errors import ModelError
from cymatic.nn.grid import Double, GridAttention, Halve, Norm, NormConv, ResidualBlock
from cymatic.nn.pyramid import Down, PyramidShape, Up, fold, unfold

SHAPES = {
    "three levels": PyramidShape(width=8, multiples=(1, 2, 2), blocks=1, attention=(1, 2), latent=6, groups=4),
    "patches": PyramidShape(width=12, multiples=(1, 2), blocks=2, latent=5, patch=(2, 4)),
    "one level": PyramidShape(width=8, multiples=(1,), blocks=1, latent=3, patch=(4, 2), groups=2),
}
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@every_shape
@pytest.mark.parametrize("channels", [1, 3], ids=["spectrogram", "picture"])
def test_down_and_up_keep_the_size_and_teach_every_weight(shape, channels):
    torch.manual_seed(0)
    down, up = Down(shape, channels), Up(shape, channels)
    high, wide = shape.cell
    x = torch.randn(2, channels, 2 * high, 3 * wide)
    z = down(x)
    assert z.shape == (2, shape.latent, 2, 3)
    y = up(z)
    assert y.shape == x.shape
    (y - x).square().sum().backward()
    for part in (down, up):
        without = [name for name, p in part.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
        # A bias that all keys share, or a constant just before a norm of single channels, changes nothing.
        assert all("bias" in name for name in without), without
    assert up.last.shape[0] == channels * shape.patch[0] * shape.patch[1]


@every_shape
def test_a_picture_alone_equals_itself_in_a_batch(shape):
    down = Down(shape, 1)
    x = torch.randn(3, 1, 2 * shape.cell[0], 2 * shape.cell[1])
    torch.testing.assert_close(down(x)[1:2], down(x[1:2]), atol=1e-5, rtol=1e-4)


def test_attention_stands_where_it_is_asked_for_and_in_the_middle():
    shape = SHAPES["three levels"]
    for part, blocks in ((Down(shape, 1), 1), (Up(shape, 1), 2)):
        assert [len(level.attention) for level in part.levels] == [0, blocks, blocks]
        assert isinstance(part.middle[1], GridAttention)


@pytest.mark.parametrize("patch", [(1, 1), (2, 3), (4, 1)])
def test_folding_is_undone(patch):
    x = torch.arange(2 * 3 * 8 * 6.0).reshape(2, 3, 8, 6)
    folded = fold(x, patch)
    assert folded.shape == (2, 3 * patch[0] * patch[1], 8 // patch[0], 6 // patch[1])
    assert torch.equal(unfold(folded, patch), x)
    if patch == (2, 3):
        assert torch.equal(folded[0, :6, 1, 1], x[0, 0, 2:4, 3:6].flatten()), "a patch's own pixels, row by row"


def test_attention_against_the_naive_one():
    torch.manual_seed(0)
    layer = GridAttention(8, 4)
    x = torch.randn(2, 8, 3, 5)
    places = layer.norm(x).flatten(2).mT
    q, k, v = layer.qkv(places).split(8, dim=-1)
    naive = layer.out(softmax(q @ k.mT / 8**0.5, dim=-1) @ v).mT.reshape(x.shape)
    torch.testing.assert_close(layer(x), x + naive)


def test_halving_pads_below_and_to_the_right():
    layer = Halve(1)
    torch.nn.init.ones_(layer.conv.weight)
    torch.nn.init.zeros_(layer.conv.bias)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layer(x)[0, 0, 0, 0] == x[..., :3, :3].sum()
    assert layer(x)[0, 0, 1, 1] == x[..., 2:, 2:].sum()


def test_doubling_is_nearest_and_then_three_by_three():
    torch.manual_seed(0)
    layer, x = Double(6), torch.randn(2, 6, 4, 5, requires_grad=True)
    wide = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    naive = torch.nn.functional.conv2d(wide, layer.conv.weight, layer.conv.bias, padding=1)
    torch.testing.assert_close(layer(x), naive)
    g = torch.randn_like(naive)
    inputs = (x, layer.conv.weight, layer.conv.bias)
    found, expected = torch.autograd.grad(layer(x), inputs, g), torch.autograd.grad(naive, inputs, g)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_norm_swish_and_convolution_and_their_gradients():
    torch.manual_seed(0)
    layer, x = NormConv(8, 5, 4), torch.randn(2, 8, 4, 6, requires_grad=True)
    torch.nn.init.normal_(layer.norm.weight)
    torch.nn.init.normal_(layer.norm.bias)
    y = torch.nn.functional.group_norm(x, 4, layer.norm.weight, layer.norm.bias, 1e-6)
    naive = torch.nn.functional.conv2d(y * y.sigmoid(), layer.conv.weight, layer.conv.bias, padding=1)
    torch.testing.assert_close(layer(x), naive)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), naive)
    g = torch.randn_like(naive)
    inputs = (x, *layer.parameters())
    found, expected = torch.autograd.grad(layer(x), inputs, g), torch.autograd.grad(naive, inputs, g)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_as_many_groups_as_a_width_can_make():
    assert [Norm(width, 32).num_groups for width in (128, 48, 6, 5)] == [32, 16, 2, 1]
    assert ResidualBlock(8, 8, 4).shortcut(torch.ones(1, 8, 1, 1)).sum() == 8


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"attention": [5]}, "names a level beyond 0 to 4"),
        ({"multiples": [1, 0]}, "multiples are 1 to 64"),
        ({"multiples": []}, "multiples"),
        ({"patch": [0, 4]}, "sides of a patch"),
        ({"with": 3}, 'did you mean "width"'),
    ],
)
def test_wrong_sizes_are_named(wrong, said):
    with pytest.raises(ModelError, match=said):
        PyramidShape.parse({"multiples": [1, 1, 2, 2, 4], **wrong}, "here")
