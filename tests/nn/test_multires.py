"""Multiresolution convolutions and wavelets: the reference's numbers, naive versions, and blocks."""

import math

import pytest
import torch
from tests.helpers import draw
from torch.nn.functional import conv1d, gelu, pad

from cymatic.errors import Error
from cymatic.nn.multires import MultiresConv, MultiresUp
from cymatic.nn.streaming import StreamingState
from cymatic.nn.wavelet import WaveletUp


@pytest.fixture(scope="module")
def layers(reference):
    return reference("seed_wavelet_layers")


@pytest.fixture(scope="module")
def weights(layers):
    return torch.load(layers.folder / "layers.pt", weights_only=True)


def wavelets(weights: dict[str, torch.Tensor], **settings) -> WaveletUp:
    (hidden, inside, kernel), outside = weights["conv_in.weight"].shape, weights["conv_out.weight"].shape[0]
    layer = WaveletUp(inside, hidden, outside, kernel=kernel, points=weights["space"].shape[-1], **settings)
    names = {"read": "conv_in", "write": "conv_out"}
    held = {
        f"{ours}.{part}": weights[f"{theirs}.{part}"] for ours, theirs in names.items() for part in ("weight", "bias")
    }
    layer.load_state_dict({**held, "scale": weights["wavelet_scale"].flatten()})
    return layer


@torch.no_grad()
def test_the_reference_multires(layers, weights):
    said, held = layers.config["multires"], weights["multires"]
    layer = MultiresConv(said["channels"], said["kernel_size"], said["depth"])
    layer.load_state_dict({"h0": held["h0"], "h1": held["h1"], "weights": held["w"]})
    layers.agrees("multires", layer(layers.inputs["multires"]))


@torch.no_grad()
def test_the_reference_scale_block(layers, weights):
    said, theirs = layers.config["scale"], weights["scale"]
    sizes = (said[name] for name in ("in_channels", "out_channels", "kernel_size", "multires_depth"))
    layer = MultiresUp(*sizes, stride=said["scale_factor"])
    names = {"h0": "multires.h0", "h1": "multires.h1", "w": "multires.weights"}
    held = {ours: theirs[f"multires_conv.{name}"] for name, ours in names.items()}
    layer.load_state_dict({**held, "mix.weight": theirs["conv.weight"], "mix.bias": theirs["conv.bias"]})
    layers.agrees("scale", layer(layers.inputs["scale"]))


@pytest.mark.parametrize("name", ["wavelet", "wavelet_shared"])
@torch.no_grad()
def test_the_reference_wavelets(layers, weights, name):
    said = layers.config[name]
    more = {"shared": not said.get("channelwise_scale", True), "reach": float(said.get("interval", [-10, 10])[1])}
    layer = wavelets(weights[name], stride=said["scale_factor"], mode="moving-sum", **more)
    layers.agrees(name, layer(layers.inputs[name]))


@torch.no_grad()
def test_waves_that_overlap_are_added_by_hand(layers, weights):
    x, said = layers.inputs["wavelet"], layers.config["wavelet"]
    stride, points, frames = said["scale_factor"], said["n_points"], x.shape[-1]
    layer = wavelets(weights["wavelet"], stride=stride)
    notes = conv1d(pad(x, (layer.read.kernel_size[0] - 1, 0)), layer.read.weight, layer.read.bias)
    sound = torch.zeros(len(x), len(layer.scale), frames * stride + points - stride)
    for c in range(len(layer.scale)):
        for i in range(points):
            u = -10 + 20 * i / (points - 1)
            psi = math.cos(u) * math.exp(-(u**2) / float(layer.scale[c]))
            for frame in range(frames):
                sound[:, c, frame * stride + i] += notes[:, c, frame] * psi
    made = conv1d(pad(sound[..., : frames * stride], (2, 0)), layer.write.weight, layer.write.bias)
    torch.testing.assert_close(layer(x), made, atol=1e-5, rtol=0)


@torch.no_grad()
def test_multires_by_its_formula():
    layer, x = MultiresConv(1, 2, 3), draw(1, 1, 30)
    low, y = x[0, 0], layer.weights[0, -1] * x[0, 0]
    for j in range(3):
        earlier = pad(low, (2**j, 0))[: -(2**j)]
        high = layer.h1[0, 0, 0] * earlier + layer.h1[0, 0, 1] * low
        low = layer.h0[0, 0, 0] * earlier + layer.h0[0, 0, 1] * low
        y = y + layer.weights[0, 3 - j] * high
    torch.testing.assert_close(layer(x)[0, 0], gelu(y + layer.weights[0, 0] * low))


LAYERS = {
    "multires": lambda: MultiresConv(3, 3, 4),
    "multires up": lambda: MultiresUp(3, 5, 2, 3, stride=3),
    "wavelets": lambda: WaveletUp(3, 8, 2, stride=3, kernel=5, points=12),
    "wavelets, shared": lambda: WaveletUp(3, 8, 2, stride=3, kernel=5, points=12, shared=True),
}
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@every_layer
@pytest.mark.parametrize("lengths", [[1] * 20, [7, 13], [3, 1, 16]])
@torch.no_grad()
def test_blocks_with_a_state_are_the_whole(make, lengths):
    torch.manual_seed(0)
    layer, x, state, made = make(), draw(2, 3, 20), StreamingState(), []
    for block in x.split(lengths, dim=-1):
        made.append(layer(block, state))
        state.commit()
    torch.testing.assert_close(torch.cat(made, -1), layer(x), atol=1e-6, rtol=0)


@every_layer
@torch.no_grad()
def test_no_output_knows_what_comes_later(make):
    torch.manual_seed(0)
    layer, x = make(), draw(1, 3, 40)
    other = x.clone()
    other[..., 25:] += 1
    first, second = layer(x), layer(other)
    until = first.shape[-1] * 25 // 40
    assert torch.equal(first[..., :until], second[..., :until])
    assert not torch.equal(first[..., until], second[..., until])


MORE_WAVELETS = [
    lambda: WaveletUp(3, 8, 2, stride=1, kernel=5, points=12),
    lambda: WaveletUp(3, 8, 2, stride=3, kernel=5, points=12, mode="moving-sum"),
]


@pytest.mark.parametrize("make", [*LAYERS.values(), *MORE_WAVELETS])
def test_a_gradient_reaches_every_parameter(make):
    layer = make()
    layer(draw(2, 3, 30)).square().mean().backward()
    assert not [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]


@pytest.mark.parametrize("change", [{"points": 13}, {"kernel": 4}])
def test_waves_of_no_whole_strides_are_refused(change):
    with pytest.raises(Error, match="give whole strides and odd taps"):
        WaveletUp(3, 8, 2, **{"stride": 3, "kernel": 5, "points": 12, **change})
