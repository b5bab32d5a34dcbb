"""audio_generation's CausalVQAE: the reference's codes and sound, and each difference in words."""

import math
import shutil
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import pad

from cymatic.errors import ModelError
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.lumen import LumenCodec, LumenCodecConfig, Unit, act, read_lumen
from cymatic.hub.readers.peer_codecs import PEERS, read_peer

RATE = 16_000  # no file says it


@pytest.fixture(scope="module")
def vqae(reference):
    return reference("seed_causal_vqae")


@pytest.fixture
def file(vqae, tmp_path):
    shutil.copyfile(vqae.folder / "model.pt", tmp_path / "model.pt")
    return tmp_path / "model.pt"


def sound(vqae):
    """Their input, as the codec takes it."""
    wave = vqae.inputs["wave"]
    return wave.mT if vqae.config["kw"].get("input_format") == "b l c" else wave


def agrees(codec, vqae):
    latent = codec.encode(sound(vqae))
    vqae.agrees("indices", latent.codes.mT)
    vqae.agrees("quantized", latent.z)
    with torch.no_grad():
        made = codec.decode(latent)
    vqae.agrees("recon", made.mT if vqae.config["kw"].get("input_format") == "b l c" else made)


def test_it_says_what_the_reference_says(vqae, tmp_path):
    path, kw = vqae.folder / "model.pt", vqae.config["kw"]
    codec = read_lumen(path, rate=RATE)
    config = codec.config
    blocks, levels, size = kw["n_blocks"], kw["num_quantizers"], kw["codebook_size"]
    strides = kw["strides"] if isinstance(kw["strides"], list) else [kw["strides"]] * blocks
    assert config.strides == tuple(strides) and config.units == kw["n_layers_per_block"] - 1
    assert (config.width, config.dim) == (kw["first_block_channels"], kw["codebook_dim"])
    assert config.growth == kw.get("channel_multiplier", 2)
    assert config.depthwise == (kw.get("depthwise", False) and config.units > 0)
    waves = kw["wavelet_decoders"]
    assert [rise == "wavelet" for rise in config.rises] == (waves if isinstance(waves, list) else [waves] * blocks)
    assert config.sizes == tuple(size if isinstance(size, list) else [size] * levels)
    assert (codec.rate, codec.hop, codec.levels) == (RATE, math.prod(strides), levels)
    agrees(codec, vqae)
    save_part(tmp_path / "codec", codec)
    agrees(load_part(tmp_path / "codec", PEERS), vqae)
    agrees(read_peer(path), vqae)


@torch.no_grad()
def test_the_loss_is_what_the_levels_leave_over(vqae):
    codec = read_lumen(vqae.folder / "model.pt")
    rest, total = codec.encoder(sound(vqae)).mT, torch.zeros(())
    for level, codebook in enumerate(codec.codebooks):
        rest = rest - codebook(vqae.expected["indices"][..., level])
        total += rest.square().mean()
    vqae.agrees("commit_loss", total)


@torch.no_grad()
def test_fewer_levels_and_any_length(vqae):
    codec, wave = read_lumen(vqae.folder / "model.pt"), sound(vqae)
    fewer = max(1, codec.levels - 1)
    latent = codec.encode(wave, levels=fewer)
    assert torch.equal(latent.codes, vqae.expected["indices"].mT[:, :fewer])
    most = wave.shape[-1] - 10
    shorter = replace(latent, lengths=torch.full_like(latent.lengths, most))
    assert codec.decode(shorter).shape == (*wave.shape[:2], most)
    for samples in (1, codec.hop - 1, codec.hop + 1, most):
        latent = codec.encode(wave[..., :samples])
        assert latent.codes.shape == (len(wave), codec.levels, -(-samples // codec.hop))
    assert not codec.streamable


def test_the_published_size():
    with torch.device("meta"):
        codec = LumenCodec(LumenCodecConfig())
    assert codec.hop == 480 and codec.levels_at(9.0) == 10


def changed(file, change) -> None:
    torch.save(change(torch.load(file, weights_only=True)), file)


def new_names(tensors):
    new = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    return {".".join([*(parts := n.split("."))[:-1], new.get(parts[-1], parts[-1])]): t for n, t in tensors.items()}


def test_new_names_of_weight_normalisation(file, vqae):
    changed(file, new_names)
    agrees(read_lumen(file), vqae)


def test_names_of_a_wrapper_around_the_model(file, vqae):
    changed(file, lambda t: {f"module.{name}": tensor for name, tensor in t.items()})
    agrees(read_lumen(file), vqae)


def test_without_a_map(file, vqae):
    changed(file, lambda t: {k: v for k, v in t.items() if ".som." not in k and "ema" not in k})
    agrees(read_lumen(file), vqae)


VARIANTS = {
    "depthwise": LumenCodecConfig(
        width=3, strides=(2, 3), units=2, depthwise=True, rises=("repeat", "wavelet"), dim=5, sizes=(7, 7)
    ),
    "three times the channels": LumenCodecConfig(
        channels=2, width=2, growth=3, strides=(4, 1, 3), units=1, rises=("wavelet",) * 3, dim=4, sizes=(6, 9, 5)
    ),
    "as many channels": LumenCodecConfig(
        width=6, growth=1, strides=(5,), units=3, rises=("repeat",), dim=3, sizes=(8,)
    ),
    "no units": LumenCodecConfig(
        width=2, strides=(2, 2, 2, 3), units=0, rises=("repeat",) * 4, dim=6, sizes=(16,) * 12
    ),
    "a transposed way up": LumenCodecConfig(
        width=2, strides=(2, 3), units=1, depthwise=True, rises=("transposed", "repeat"), dim=4, sizes=(9, 9)
    ),
}  # fmt: skip


def theirs(codec) -> dict[str, torch.Tensor]:
    """The tensors of a codec under the names of CausalVQAE, which are written down here a second time.

    Weights of convolutions come as direction and magnitude, a wavelet's scale among four dimensions, codebooks on their
    side, and in between lies what only their training needs.
    """
    state, made, coarsest = codec.state_dict(), {}, len(codec.config.strides)

    def conv(ours, name):
        weight = state[f"{ours}.weight"]
        norm = weight.flatten(1).norm(dim=1).reshape(-1, 1, 1)
        made.update({f"{name}.weight_g": norm, f"{name}.weight_v": 3 * weight, f"{name}.bias": state[f"{ours}.bias"]})

    def units(ours, name):
        for j in range(codec.config.units):
            if codec.config.depthwise:
                conv(f"{ours}.units.{j}.near.0", f"{name}.layers.{j}.0.conv1.0.conv")
                conv(f"{ours}.units.{j}.near.1", f"{name}.layers.{j}.0.conv1.1.conv")
            else:
                conv(f"{ours}.units.{j}.near", f"{name}.layers.{j}.0.conv1.conv")
            conv(f"{ours}.units.{j}.mix", f"{name}.layers.{j}.0.conv2.conv")

    conv("encoder.0", "encoders.0.1.conv")
    conv("decoder.0", "decoders.0.conv")
    for i, rise in enumerate(codec.config.rises, start=1):
        units(f"encoder.{i}", f"encoders.{i}")
        conv(f"encoder.{i}.change", f"encoders.{i}.layers.{codec.config.units}.0.conv")
        units(f"decoder.{i}", f"decoders.{i}")
        layer = f"decoders.{i}.in_conv.0"
        if rise != "wavelet":
            conv(f"decoder.{i}.change", f"{layer}.conv")
            continue
        points = codec.decoder[i].change.points
        space = torch.linspace(-10, 10, points)[None, None, None]
        scale = state[f"decoder.{i}.change.scale"][None, :, None, None]
        made |= {f"{layer}.wavelet_scale": scale, f"{layer}.space": space, f"{layer}.cos_kernel": space.cos()}
        for ours, name in (("read", "conv_in"), ("write", "conv_out")):
            made |= {
                f"{layer}.{name}.{kind}": state[f"decoder.{i}.change.{ours}.{kind}"] for kind in ("weight", "bias")
            }
    conv(f"encoder.{coarsest + 1}", f"encoders.{coarsest + 1}.conv")
    conv(f"decoder.{coarsest + 1}", f"decoders.{coarsest + 1}.conv")
    for i, size in enumerate(codec.config.sizes):
        made[f"quantizer.quantizers.{i}.codebook"] = state[f"codebooks.{i}.weight"].T
        made[f"quantizer.quantizers.{i}.cluster_frequency"] = torch.ones(size)
    return made


@pytest.mark.parametrize("name", VARIANTS)
@torch.no_grad()
def test_whatever_their_constructor_builds_is_read(name, tmp_path):
    torch.manual_seed(0)
    codec = LumenCodec(VARIANTS[name]).eval()
    torch.save(theirs(codec), tmp_path / "model.pt")
    read = read_lumen(tmp_path / "model.pt")
    assert read.config == codec.config
    wave = torch.randn(2, codec.channels, 5 * codec.hop + 1)
    latent = read.encode(wave)
    assert torch.equal(latent.codes, codec.encode(wave).codes)
    torch.testing.assert_close(read.decode(latent), codec.decode(latent), atol=1e-5, rtol=0)
    save_part(tmp_path / "codec", read)
    assert torch.equal(load_part(tmp_path / "codec", PEERS).encode(wave).codes, latent.codes)


@torch.no_grad()
def test_a_depthwise_unit_is_a_gain_and_then_taps():
    torch.manual_seed(0)
    unit, x = Unit(3, 9, depthwise=True), torch.randn(2, 3, 40)
    gain, near = unit.near
    scaled = x * gain.weight[:, 0] + gain.bias[:, None]
    reached = torch.nn.functional.conv1d(pad(scaled, (54, 0)), near.weight, near.bias, dilation=9)
    inside = torch.nn.functional.conv1d(act(reached), unit.mix.weight, unit.mix.bias)
    torch.testing.assert_close(unit(x), act(x + inside))


def test_levels_of_different_sizes_are_counted_one_by_one():
    with torch.device("meta"):
        codec = LumenCodec(LumenCodecConfig(sizes=(1024, 256, 16, 2)))
    kbps = [1.0, 1.8, 2.2, 2.3]  # 10, 18, 22 and 23 bits for each of 100 frames
    assert [codec.levels_at(some) for some in kbps] == [1, 2, 3, 4]
    assert [codec.levels_at(some - 0.01) for some in kbps] == [1, 1, 2, 3]


def of_the_first_versions(tensors):
    """Strides of an even number of taps."""
    name = next(
        n for n in tensors if n.startswith("encoders.1.layers.") and n.count(".") == 6 and n.endswith("weight_v")
    )
    return {**tensors, name: tensors[name][..., 1:]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "decoders.0.conv.bias"}, r"decoders\.0\.conv\.bias is missing"),
        (lambda t: {**t, "mu_logvar.bias": torch.zeros(3)}, r"mu_logvar\.bias is unexpected"),
        (
            lambda t: {**t, "encoders.0.1.conv.bias": torch.zeros(999)},
            r"encoders\.0\.1\.conv\.bias is \[999\] instead of \[\d+\]",
        ),
        (lambda t: {**t, "decoders.0.conv.bias": t["decoders.0.conv.bias"] * torch.nan}, "holds NaN"),
        (lambda t: {k: v for k, v in t.items() if "encoders.2." not in k}, "no whole CausalVQAE"),
        (lambda t: {"a.weight": torch.zeros(3)}, "does not hold a CausalVQAE"),
        (lambda t: {**t, "decoders.1.in_conv.0.space": torch.linspace(-2, 2, 24)}, "other ends than -10 and 10"),
        (
            of_the_first_versions,
            "no whole CausalVQAE .* as in its first versions.*; give a state_dict of its last version",
        ),
    ],
)
def test_differences_are_named(file, change, said):
    changed(file, change)
    with pytest.raises(ModelError, match=said):
        read_lumen(file)
