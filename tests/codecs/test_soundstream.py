"""SoundStream's network: its size, no future, blocks with a state, and that it learns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers import draw

from cymatic.codecs.soundstream import SoundStreamNet, SoundStreamShape, lumen
from cymatic.errors import ModelError
from cymatic.nn.streaming import StreamingState
from cymatic.nn.wavelet import WaveletUp

TINY = SoundStreamShape(strides=(2, 3), widths=(4, 6, 8))
SHAPES = {
    "leaky": TINY,
    "snake": TINY.model_copy(update={"activation": "snake"}),
    "multires": TINY.model_copy(update={"multires": (0, 1)}),
    "wavelets": TINY.model_copy(update={"wavelets": (1,)}),
    "both": TINY.model_copy(update={"wavelets": (0,), "multires": (0, 1)}),
}
LOOKS_AHEAD = TINY.model_copy(update={"wavelets": (1,), "wavelet": "moving-sum"})
causal_shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_shape = pytest.mark.parametrize("shape", [*SHAPES.values(), LOOKS_AHEAD], ids=[*SHAPES, "moving sum"])


def built(shape: SoundStreamShape, channels: int = 1) -> SoundStreamNet:
    torch.manual_seed(0)
    return SoundStreamNet(shape, channels, dim=5).eval()


@every_shape
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_as_many_frames_as_hops(shape, channels, frames):
    net = built(shape, channels)
    assert (net.hop, net.delay) == (6, 0)
    z = net.encoder(draw(2, channels, frames * 6))
    assert z.shape == (2, 5, frames)
    assert net.decoder(z).shape == (2, channels, frames * 6)


@causal_shapes
@torch.no_grad()
def test_no_output_knows_what_comes_later(shape):
    net, x = built(shape), draw(1, 1, 20 * 6)
    z = net.encoder(x)
    made = net.decoder(z)
    for frame in (0, 1, 10, 19):
        other = x.clone()
        other[..., frame * 6 :] += draw(1, 1, (20 - frame) * 6, seed=2)
        again = net.encoder(other)
        assert torch.equal(again[..., :frame], z[..., :frame])
        assert not torch.equal(again[..., frame], z[..., frame])
        assert torch.equal(net.decoder(again)[..., : frame * 6], made[..., : frame * 6])
        assert not torch.equal(net.decoder(again)[..., frame * 6 :], made[..., frame * 6 :])


@causal_shapes
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=5))
@torch.no_grad()
def test_blocks_with_a_state_are_the_whole(shape, lengths):
    net = built(shape, 2)
    x, state = draw(2, 2, sum(lengths) * 6), StreamingState()
    found, made = [], []
    for block in x.split([n * 6 for n in lengths], dim=-1):
        found.append(net.encoder(block, state))
        made.append(net.decoder(found[-1], state))
        state.commit()
    z = net.encoder(x)
    assert net.streamable
    torch.testing.assert_close(torch.cat(found, -1), z, atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.cat(made, -1), net.decoder(z), atol=1e-5, rtol=0)


@every_shape
def test_a_gradient_reaches_every_parameter(shape):
    net = built(shape)
    net.decoder(net.encoder(draw(2, 1, 60))).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert net.decoder.last.grad is not None


@torch.no_grad()
def test_a_moving_sum_looks_ahead_and_says_so():
    net, z = built(LOOKS_AHEAD), draw(1, 5, 20)
    other = z.clone()
    other[..., 10:] += 1
    assert not net.streamable
    assert not torch.equal(net.decoder(other)[..., :60], net.decoder(z)[..., :60])


@torch.no_grad()
@pytest.mark.parametrize("activation", ["leaky", "snake"])
def test_at_first_a_sound_comes_out_about_as_loud(activation):
    shape = SoundStreamShape(strides=(2, 4, 5), widths=(8, 16, 32, 64), activation=activation)
    net, x = built(shape), draw(4, 1, 40 * 50) * 0.1
    loudness = net.decoder(net.encoder(x)).std() / x.std()
    assert 0.1 < loudness < 30


def test_the_published_lumen():
    shape = lumen()
    assert shape.hop == 480
    with torch.device("meta"):
        net = SoundStreamNet(shape, 1, 512)
    widths = [stage.change.out_channels for stage in net.encoder.stages]
    assert (net.encoder.read.out_channels, *widths) == (32, 64, 128, 256, 512, 1024)
    assert net.streamable and [type(stage.change) is WaveletUp for stage in net.decoder.stages].index(True) == 1
    assert [stage.change.kernel_size[0] for stage in net.encoder.stages] == [5, 7, 9, 9, 11]


def test_it_learns_eight_tones():
    net = built(SoundStreamShape(strides=(2, 4), widths=(8, 16, 32))).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    hz = torch.linspace(240, 1600, 8)[:, None, None]
    x = 0.4 * torch.sin(2 * torch.pi * hz * torch.arange(400) / 8000)
    for _ in range(90):
        loss = (net.decoder(net.encoder(x)) - x).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * x.square().mean()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"strides": [2, 3, 4]}, "3 widths for 3 strides; give one more"),
        ({"strides": [2, 0]}, "whole numbers from 1 whose product"),
        ({"strides": [60000, 60000]}, "whole numbers from 1 whose product"),
        ({"widths": [4, 0, 8]}, "whole numbers from 1 to 8192"),
        ({"multires": [2]}, r"stages \(2,\) are named and there are 0 to 1"),
        ({"activation": "snaek"}, "'snaek'"),
        ({"kernal": 7}, 'did you mean "kernel"'),
    ],
)
def test_impossible_sizes_are_refused(change, said):
    with pytest.raises(ModelError, match=said):
        SoundStreamShape.parse({**TINY.model_dump(), **change}, "config.json")
