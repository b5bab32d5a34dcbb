"""audio_generation's CausalVQAE: the reference's codes and sound, and each difference in words."""

import shutil

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from cymatic.errors import ModelError
from cymatic.hub.lumen import LumenCodec, LumenCodecConfig, read_lumen
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.transformers_codecs import PEERS, read_peer


@pytest.fixture(scope="module")
def reference(fixtures_dir):
    folder = fixtures_dir / "seed_causal_vqae"
    inputs, expected = (np.load(folder / f"{part}.npz") for part in ("inputs", "expected"))
    return folder / "model.pt", torch.from_numpy(inputs["wave"]), {k: torch.from_numpy(expected[k]) for k in expected}


@pytest.fixture
def file(reference, tmp_path):
    shutil.copyfile(reference[0], tmp_path / "model.pt")
    return tmp_path / "model.pt"


def agrees(codec, wave, expected):
    latent = codec.encode(wave)
    assert torch.equal(latent.codes, expected["indices"].mT)
    torch.testing.assert_close(latent.z, expected["quantized"], atol=7e-5, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(codec.decode(latent), expected["recon"], atol=2e-4, rtol=0)


def test_it_says_what_the_reference_says(reference, tmp_path):
    path, wave, expected = reference
    codec = read_lumen(path, rate=16_000)
    config = codec.config
    assert (config.strides, config.units, config.width, config.dim) == ((2, 3, 4), 2, 4, 10)
    assert config.rises == ("repeat", "wavelet", "repeat") and config.sizes == (24, 24, 24)
    assert (codec.rate, codec.hop, codec.levels) == (16_000, 24, 3)
    agrees(codec, wave, expected)
    save_part(tmp_path / "codec", codec)
    agrees(load_part(tmp_path / "codec", PEERS), wave, expected)
    agrees(read_peer(path), wave, expected)


@torch.no_grad()
def test_the_loss_is_what_the_levels_leave_over(reference):
    path, wave, expected = reference
    codec = read_lumen(path)
    rest, total = codec.encoder(wave).mT, 0.0
    for level, codebook in enumerate(codec.codebooks):
        rest = rest - codebook(expected["indices"][..., level])
        total += float(rest.square().mean())
    assert total == pytest.approx(float(expected["commit_loss"]), abs=8e-6)


@torch.no_grad()
def test_fewer_levels_and_any_length(reference):
    path, wave, expected = reference
    codec = read_lumen(path)
    latent = codec.encode(wave, levels=2)
    assert torch.equal(latent.codes, expected["indices"].mT[:, :2])
    assert codec.decode(latent, 950).shape == (2, 1, 950)
    for samples in (1, 23, 25, 950):
        latent = codec.encode(wave[..., :samples])
        assert latent.codes.shape == (2, 3, -(-samples // 24))
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


def test_new_names_of_weight_normalisation(file, reference):
    changed(file, new_names)
    agrees(read_lumen(file), *reference[1:])


def test_without_a_map(file, reference):
    changed(file, lambda t: {k: v for k, v in t.items() if ".som." not in k and "ema" not in k})
    agrees(read_lumen(file), *reference[1:])


@torch.no_grad()
def test_a_transposed_way_up(file, reference):
    """The other decoder that they had: each frame rings over two strides and a sample, and what rings on is cut."""
    root, wave = "decoders.3.in_conv.0.conv", reference[1]
    weight = torch.randn(8, 4, 5, generator=torch.Generator().manual_seed(0))

    def transposed(tensors):
        return {**tensors, f"{root}.weight_v": weight, f"{root}.weight_g": weight.flatten(1).norm(dim=1)[:, None, None]}

    changed(file, transposed)
    codec = read_lumen(file)
    assert codec.config.rises == ("repeat", "wavelet", "transposed")
    change, x = codec.decoder[3].change, torch.randn(1, 8, 6)
    expected = torch.nn.functional.conv_transpose1d(x, weight, change.bias, stride=2)[..., :12]
    torch.testing.assert_close(change(x), expected)
    assert codec.decode(codec.encode(pad(wave, (0, 3)))).shape == (2, 1, 984)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {k: v for k, v in t.items() if k != "decoders.4.conv.bias"}, r"decoders\.4\.conv\.bias is missing"),
        (lambda t: {**t, "mu_logvar.bias": torch.zeros(3)}, r"mu_logvar\.bias is unexpected"),
        (
            lambda t: {**t, "encoders.4.conv.bias": torch.zeros(3)},
            r"encoders\.4\.conv\.bias is \[3\] instead of \[10\]",
        ),
        (lambda t: {**t, "encoders.4.conv.bias": torch.full((10,), torch.nan)}, "holds NaN"),
        (lambda t: {k: v for k, v in t.items() if "encoders.2." not in k}, "no whole CausalVQAE"),
        (lambda t: {"a.weight": torch.zeros(3)}, "does not hold a CausalVQAE"),
        (lambda t: {**t, "decoders.2.in_conv.0.space": torch.linspace(-2, 2, 24)}, "other ends than -10 and 10"),
    ],
)
def test_differences_are_named(file, change, said):
    changed(file, change)
    with pytest.raises(ModelError, match=said):
        read_lumen(file)
