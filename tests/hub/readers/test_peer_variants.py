"""EnCodec, DAC and Mimi of other sizes and options than the fixtures': what transformers says of them, ours says."""

import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from tests.hub.readers.test_peer_codecs import made
from torch import nn

from cymatic.errors import ModelError
from cymatic.hub.readers.dac import read_dac
from cymatic.hub.readers.encodec import EncodecCodecConfig, read_encodec
from cymatic.hub.readers.peer_codecs import read_peer

transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 'cymatic[hub]'")

ENCODEC = {
    "other strides": {"upsampling_ratios": [3, 7], "sampling_rate": 16_000},
    "odd and many strides": {"upsampling_ratios": [5, 3, 2, 2, 1], "num_filters": 3},
    "one layer of LSTM": {"num_lstm_layers": 1},
    "several units": {"num_residual_layers": 3, "dilation_growth_rate": 3, "residual_kernel_size": 5},
    "no units": {"num_residual_layers": 0},
    "no compression, no shortcut": {"compress": 1, "use_conv_shortcut": False},
    "other taps": {"kernel_size": 5, "last_kernel_size": 3},
    "not causal": {"use_causal_conv": False},
    "not causal, another norm": {"use_causal_conv": False, "norm_type": "time_group_norm", "audio_channels": 2},
    "causal, another norm": {"norm_type": "time_group_norm"},
    "zeros around, trimmed on both sides": {"pad_mode": "constant", "trim_right_ratio": 0.5},
    "copies around": {"pad_mode": "replicate"},
}
DAC = {
    "three strides": {"downsampling_ratios": [2, 3, 4], "encoder_hidden_size": 5},
    "one stride": {"downsampling_ratios": [6], "decoder_hidden_size": 6},
    "five strides": {"downsampling_ratios": [2, 2, 2, 4, 3], "decoder_hidden_size": 64, "encoder_hidden_size": 2},
    "wide codes": {"codebook_dim": 12, "codebook_size": 64, "n_codebooks": 7},
    "another rate": {"sampling_rate": 16_000},
}
MIMI = {
    "several units": {"num_residual_layers": 2, "use_conv_shortcut": True},
    "other strides": {"upsampling_ratios": [5, 2, 3], "kernel_size": 5, "last_kernel_size": 5},
    "not causal": {"use_causal_conv": False},
    "one of two heads": {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6, "attention_bias": True},
    "two semantic levels": {"num_semantic_quantizers": 2, "num_quantizers": 6},
}


def lively(model: nn.Module, gain: float) -> nn.Module:
    """The same with weights that make codes differ."""
    generator = torch.Generator().manual_seed(7)
    for name, tensor in model.state_dict().items():
        if name.endswith(("embed", "embed_sum", "codebook.weight")):
            tensor.normal_(generator=generator)
        elif name.endswith("original0"):
            tensor.uniform_(0.8, 1.2, generator=generator)
        elif tensor.dim() > 1 and not name.endswith("alpha"):
            tensor.normal_(0, gain / tensor[0].numel() ** 0.5, generator=generator)
        elif name.endswith("bias"):
            tensor.normal_(0, 0.05, generator=generator)
    return model.eval()


def sound(channels: int, samples: int) -> torch.Tensor:
    return 0.5 * torch.randn(2, channels, samples, generator=torch.Generator().manual_seed(3))


def whole(codec, latent) -> torch.Tensor:
    """All that the frames hold, since the references decode whole frames."""
    held = codec.length(latent.codes.shape[-1])
    return codec.decode(replace(latent, lengths=torch.full_like(latent.lengths, held)))


def encodec(settings) -> nn.Module:
    usual = {"num_filters": 4, "hidden_size": 10, "upsampling_ratios": [4, 2], "codebook_size": 32,
             "target_bandwidths": [60.0, 75.0]}  # fmt: skip
    return lively(transformers.EncodecModel(transformers.EncodecConfig(**{**usual, **settings})), 1.2)


def same_encodec(codec, model) -> None:
    wave = sound(model.config.audio_channels, 7 * codec.hop + 3)
    with torch.no_grad():
        wanted = model.encode(wave, bandwidth=model.config.target_bandwidths[-1])
        latent = codec.encode(wave)
        assert torch.equal(latent.codes, wanted.audio_codes[0])
        assert latent.codes.unique().numel() > 5, "lively"
        sounds = model.decode(wanted.audio_codes, wanted.audio_scales).audio_values
        torch.testing.assert_close(whole(codec, latent), sounds[..., : codec.hop * 8], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ENCODEC)
def test_a_folder_of_encodec(name, tmp_path):
    model = encodec(ENCODEC[name])
    model.save_pretrained(tmp_path)
    same_encodec(read_peer(tmp_path), model)


def own_encodec(model) -> dict[str, torch.Tensor]:
    """The tensors of transformers' EnCodec under the names of its own project, as far as its encoder needs them."""
    raised = {name for name, layer in model.named_modules() if isinstance(layer, nn.ConvTranspose1d)}
    made = {}
    for name, tensor in model.state_dict().items():
        layer = name.split(".conv.")[0].removesuffix(".norm.weight").removesuffix(".norm.bias")
        inner = "convtr" if f"{layer}.conv" in raised else "conv"
        theirs = re.sub(r"parametrizations\.weight\.original([01])", lambda m: f"weight_{'gv'[int(m[1])]}", name)
        theirs = theirs.replace(".codebook.", "._codebook.").replace("quantizer.", "quantizer.vq.")
        if ".lstm." not in theirs and not theirs.startswith("quantizer"):
            theirs = theirs.replace(".conv.", f".{inner}.{inner}.").replace(".norm.", f".{inner}.norm.")
        made[theirs.replace("encoder.layers", "encoder.model").replace("decoder.layers", "decoder.model")] = tensor
    return made


OURS = {"sampling_rate": "rate", "use_causal_conv": "causal", "dilation_growth_rate": "growth", "pad_mode": "padding",
        "trim_right_ratio": "trim"}  # fmt: skip


@pytest.mark.parametrize("name", ENCODEC)
def test_encodecs_own_file(name, tmp_path):
    """What tensors don't tell is told; all else is read from them."""
    model = encodec(ENCODEC[name])
    torch.save(own_encodec(model), tmp_path / "model.th")
    unsaid = {ours: getattr(model.config, theirs) for theirs, ours in OURS.items()}
    codec = read_encodec(tmp_path / "model.th", normalise=False, segment=None, **unsaid)
    model.save_pretrained(tmp_path)
    told, folder = codec.config, read_peer(tmp_path).config
    # A residual unit that is not there has no size.
    left_open = {"overlap", *({"compress", "block_kernel", "shortcut"} if not told.blocks else ())}
    assert told.model_dump(exclude=left_open) == folder.model_dump(exclude=left_open)
    same_encodec(codec, model)


@torch.no_grad()
def test_encodecs_own_file_without_an_lstm(tmp_path):
    """transformers always has one, and numbers all that comes after it."""
    config = EncodecCodecConfig(width=4, dim=6, ratios=(3, 2), lstm=0, size=16, levels=2)
    codec = made(config)
    assert not any(isinstance(layer, nn.LSTM) for layer in codec.modules())
    names = [name for name in codec.state_dict() if name.startswith(("encoder", "decoder"))]
    assert "encoder.layers.8.conv.weight" in names and "decoder.layers.2.conv.weight" in names
    torch.save(own_encodec(codec), tmp_path / "model.th")
    read = read_encodec(tmp_path / "model.th")
    assert read.config == config
    wave = sound(1, 50)
    assert torch.equal(read.encode(wave).codes, codec.encode(wave).codes)
    torch.testing.assert_close(read.decode(read.encode(wave)), codec.decode(codec.encode(wave)))


def dac(settings) -> nn.Module:
    usual = {"encoder_hidden_size": 4, "downsampling_ratios": [2, 4], "decoder_hidden_size": 16, "n_codebooks": 3,
             "codebook_size": 16, "codebook_dim": 4}  # fmt: skip
    return lively(transformers.DacModel(transformers.DacConfig(**{**usual, **settings})), 0.6)


def same_dac(codec, model) -> None:
    wave = sound(1, 8 * codec.hop)
    with torch.no_grad():
        wanted = model.encode(wave)
        latent = codec.encode(wave)
        assert torch.equal(latent.codes, wanted.audio_codes)
        assert latent.codes.unique().numel() > 5, "lively"
        sounds = model.decode(audio_codes=wanted.audio_codes).audio_values[:, None]
        torch.testing.assert_close(codec.decode(latent)[..., : sounds.shape[-1]], sounds, atol=3e-5, rtol=0)


@pytest.mark.parametrize("name", DAC)
def test_a_folder_of_dac(name, tmp_path):
    model = dac(DAC[name])
    model.save_pretrained(tmp_path)
    same_dac(read_peer(tmp_path), model)


def own_dac(model) -> dict[str, torch.Tensor]:
    """The tensors of transformers' DAC under the names of its own project, which counts layers."""
    units = {"snake1": "0", "conv1": "1", "snake2": "2", "conv2": "3"}
    down = {"res_unit1": "0", "res_unit2": "1", "res_unit3": "2", "snake1": "3", "conv1": "4"}
    up = {"snake1": "0", "conv_t1": "1", "res_unit1": "2", "res_unit2": "3", "res_unit3": "4"}
    deep, made = len(model.config.downsampling_ratios), {}
    ends = {"conv1": "0", "snake1": str(deep + 1), "conv2": str(deep + 2)}
    for name, tensor in model.state_dict().items():
        half, *parts = name.split(".")
        if half != "quantizer":
            root = "encoder.block" if half == "encoder" else "decoder.model"
            if parts[0] == "block":
                _, number, layer, *rest = parts
                path = [str(int(number) + 1), "block", (down if half == "encoder" else up)[layer]]
                path += ["block", units[rest[0]], rest[1]] if layer.startswith("res") else rest
            else:
                path = [ends[parts[0]], *parts[1:]]
            name = ".".join([root, *path])
        if name.endswith("weight") and tensor.dim() == 3:
            norm = tensor.flatten(1).norm(dim=1)[:, None, None]
            made |= {f"{name}_g": norm, f"{name}_v": 2 * tensor}
        else:
            made[name] = tensor
    return made


@pytest.mark.parametrize("name", DAC)
@pytest.mark.parametrize("form", ["with metadata", "bare", "of a wrapper"])
def test_dacs_own_file(name, form, tmp_path):
    model = dac(DAC[name])
    config, tensors = model.config, own_dac(model)
    kwargs = {
        "encoder_dim": config.encoder_hidden_size, "encoder_rates": list(config.downsampling_ratios),
        "latent_dim": None, "decoder_dim": config.decoder_hidden_size,
        "decoder_rates": list(config.upsampling_ratios), "n_codebooks": config.n_codebooks,
        "codebook_size": config.codebook_size, "codebook_dim": config.codebook_dim, "quantizer_dropout": False,
        "sample_rate": config.sampling_rate,
    }  # fmt: skip
    if form == "of a wrapper":
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    held = tensors if form == "bare" else {"state_dict": tensors, "metadata": {"kwargs": kwargs}}
    torch.save(held, tmp_path / "weights.pth")
    codec = read_peer(tmp_path / "weights.pth")
    model.save_pretrained(tmp_path)
    assert codec.config.model_dump(exclude={"rate"}) == read_peer(tmp_path).config.model_dump(exclude={"rate"})
    assert codec.rate == (44_100 if form == "bare" else config.sampling_rate)
    assert read_dac(tmp_path / "weights.pth", rate=32_000).rate == 32_000
    same_dac(codec, model)


@torch.no_grad()
def test_levels_of_a_dac_with_codes_of_different_dimensions(tmp_path):
    """And a codebook of a size that is no power of 2, which transformers has not, either."""
    model = dac({"n_codebooks": 3})
    tensors, dims = own_dac(model), (4, 2, 7)
    generator = torch.Generator().manual_seed(0)
    for i, dim in enumerate(dims):
        for name, shape in (("in_proj", (dim, 16, 1)), ("out_proj", (16, dim, 1))):
            layer = f"quantizer.quantizers.{i}.{name}"
            weight = torch.randn(shape, generator=generator) / shape[1] ** 0.5
            norm = weight.flatten(1).norm(dim=1)[:, None, None]
            tensors |= {f"{layer}.weight_v": weight, f"{layer}.weight_g": norm, f"{layer}.bias": torch.zeros(shape[0])}
        tensors[f"quantizer.quantizers.{i}.codebook.weight"] = torch.randn(21, dim, generator=generator)
    torch.save({"state_dict": tensors, "metadata": {"kwargs": {"codebook_dim": list(dims)}}}, tmp_path / "weights.pth")
    codec = read_peer(tmp_path / "weights.pth")
    assert codec.config.lookup_dim == dims and codec.sizes == (21,) * 3
    wave = sound(1, 80)
    latent, rest, z = codec.encode(wave), codec.encoder(wave), torch.zeros(())
    for i, codes in enumerate(latent.codes.unbind(1)):
        book, way = tensors[f"quantizer.quantizers.{i}.codebook.weight"], f"quantizer.quantizers.{i}"
        asked = torch.einsum("od,bdn->bno", tensors[f"{way}.in_proj.weight_v"][..., 0], rest)
        assert torch.equal((asked @ nn.functional.normalize(book).T).argmax(-1), codes)
        part = torch.einsum("od,bnd->bon", tensors[f"{way}.out_proj.weight_v"][..., 0], book[codes])
        rest, z = rest - part, z + part
    torch.testing.assert_close(latent.z, z, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MIMI)
@torch.no_grad()
def test_a_folder_of_mimi(name, tmp_path):
    usual = {
        "num_filters": 2, "hidden_size": 16, "upsampling_ratios": [3, 2], "codebook_size": 16, "codebook_dim": 8,
        "vector_quantization_hidden_dimension": 8, "num_quantizers": 4, "upsample_groups": 16, "num_hidden_layers": 2,
        "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2, "sliding_window": 5,
    }  # fmt: skip
    model = lively(transformers.MimiModel(transformers.MimiConfig(**{**usual, **MIMI[name]})), 1.0)
    model.save_pretrained(tmp_path)
    codec, wave = read_peer(tmp_path), 20 * sound(1, 200)
    wanted = model.encode(wave).audio_codes
    latent = codec.encode(wave)
    assert torch.equal(latent.codes, wanted) and wanted.unique().numel() > 5
    torch.testing.assert_close(whole(codec, latent), model.decode(wanted).audio_values, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_numbers_of_16_bits_are_widened_before_they_are_folded(dtype, tmp_path):
    """Folded in 16 bits, each weight would be off by one part in some hundreds."""
    model = encodec({})
    narrow = {name: t.to(dtype) if t.is_floating_point() else t for name, t in model.state_dict().items()}
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in narrow.items()})
    torch.save({name: t.to(dtype) for name, t in own_encodec(model).items()}, tmp_path / "model.th")
    same_encodec(read_encodec(tmp_path / "model.th"), model)
    model.save_pretrained(tmp_path)
    save_file(narrow, tmp_path / "model.safetensors", {"format": "pt"})
    same_encodec(read_peer(tmp_path), model)


@pytest.mark.parametrize("name", ["model.th", "folder"])
def test_a_pointer_of_git_lfs_is_called_one(name, tmp_path):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 93136\n"
    if name == "folder":
        (tmp_path / "config.json").write_text('{"model_type": "encodec"}')
        (tmp_path / "model.safetensors").write_text(pointer)
    else:
        (tmp_path / name).write_text(pointer)
    with pytest.raises(ModelError, match=r"is a Git LFS pointer, .*; fetch the file with `git lfs pull`"):
        read_peer(tmp_path if name == "folder" else tmp_path / name)
