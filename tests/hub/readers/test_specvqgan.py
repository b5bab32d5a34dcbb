"""Other projects' spectrogram codecs: their fixtures are reproduced, and what does not fit is named."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml
from tests.oracles.patchgan import PublishedPatchGAN, read_judge
from tests.reference import Reference

from cymatic.codecs import CODECS
from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig, SpectrogramShape
from cymatic.discriminators.losses import discriminator_loss
from cymatic.errors import ModelError
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.specvqgan import Imported, read_codec
from cymatic.hub.readers.vqgan_layout import names
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["specvqgan-22k"]
FILES = {"specvqgan_vqmodel": ("codebook.ckpt", "config.yaml"), "karchkha_vqvae": ("vqvae.ckpt", None)}
every_fixture = pytest.mark.parametrize("name", FILES)


class Given(NamedTuple):
    """A reference, its checkpoint as a codec of ours, and its input as the network's picture and as a mel."""

    held: Reference
    path: Path
    imported: Imported
    x: torch.Tensor
    mel: torch.Tensor


@pytest.fixture(scope="module")
def given(reference):
    """`given(name)`, of the folder of fixtures of that name."""

    @cache
    def of(name: str) -> Given:
        held = reference(name)
        checkpoint, config = FILES[name]
        path, x = held.folder / checkpoint, held.inputs["x"]
        imported = read_codec(path, spec(held), held.folder / config if config else None)
        return Given(held, path, imported, x, (x[:, 0] + 1) / 2)

    return of


def spec(held):
    """The mel of a reference, which has as many rows as its pictures are high."""
    return SPEC.model_copy(update={"mels": held.inputs["x"].shape[2]})


@every_fixture
def test_sizes_are_those_of_the_reference(given, name):
    said = given(name).held.config
    network, config = said.get("ddconfig") or said["globals"], given(name).imported.codec.config
    assert (config.width, config.multiples) == (network["ch"], tuple(network["ch_mult"]))
    assert (config.blocks, config.latent) == (network["num_res_blocks"], network["z_channels"])
    at = [network["resolution"] // 2**i for i in range(len(config.multiples))]
    assert config.attention == tuple(i for i, side in enumerate(at) if side in network["attn_resolutions"])
    sizes = said.get("n_embed", said.get("num_embeddings")), said.get("embed_dim", said.get("embedding_dim"))
    assert (config.quantizer.size, config.quantizer.dim) == sizes


@every_fixture
@torch.inference_mode()
def test_the_reference_is_reproduced(given, name):
    held, _, imported, x, mel = given(name)
    codec = imported.codec
    step = codec(mel)
    held.agrees("latent", codec.to_codes(codec.encoder(x)))
    held.agrees("indices", step.quantized.codes)
    held.agrees("quant", step.quantized.z)
    held.agrees("recon", step.made[:, None])
    held.agrees("codebook_loss" if "codebook_loss" in held.expected else "vq_loss", sum(step.quantized.losses.values()))
    if "recon_from_indices" in held.expected:
        z = codec.quantizer.lookup(held.expected["indices"])
        held.agrees("recon_from_indices", codec.decoder(codec.from_codes(z)))
        held.agrees("indices_column_major", step.quantized.codes.mT.flatten(1))


@every_fixture
@torch.inference_mode()
def test_the_codec_speaks_of_mels(given, name):
    held, _, imported, _, mel = given(name)
    latent = imported.codec.encode(mel)
    held.agrees("indices", latent.codes)
    wanted = ((held.expected["recon"][:, 0] + 1) / 2).clamp_min(SPEC.silence)  # the reference goes below; a mel can't
    torch.testing.assert_close(imported.codec.decode(latent), wanted, atol=held.atol["recon"], rtol=0)


@every_fixture
def test_saved_as_a_part_it_is_the_same(given, name, tmp_path):
    _, _, imported, _, mel = given(name)
    save_part(tmp_path / "codec", imported.codec)
    again = load_part(tmp_path / "codec", CODECS)
    assert torch.equal(again.decode(again.encode(mel)), imported.codec.decode(imported.codec.encode(mel)))


@every_fixture
def test_what_trained_the_codec_is_named_as_left_out(given, name):
    _, path, imported, _, _ = given(name)
    root, legacy = ("loss.", True) if name == "specvqgan_vqmodel" else ("discriminator.", False)
    assert imported.left_out == sorted(name for name in state_dict(path) if name.startswith(root)) != []
    assert int(imported.codec.steps_trained) == torch.load(path, weights_only=True)["global_step"] > 1
    assert imported.codec.config.quantizer.legacy == legacy


def test_a_bare_state_dict_of_melspec_gpt_vqvae(given, tmp_path):
    held, path, imported, _, mel = given("karchkha_vqvae")
    torch.save(state_dict(path), tmp_path / "bare.pt")
    bare = read_codec(tmp_path / "bare.pt", spec(held))
    assert bare.codec.config == imported.codec.config and int(bare.codec.steps_trained) == 1
    assert torch.equal(bare.codec.encode(mel).codes, imported.codec.encode(mel).codes)


VARIANTS = [
    SpectrogramShape(width=32, multiples=(1,), blocks=1, attention=(), latent=7),
    SpectrogramShape(width=32, multiples=(1, 2, 2, 3), blocks=2, attention=(0, 2), latent=12),
    SpectrogramShape(width=64, multiples=(2, 1), blocks=3, attention=(1,), latent=32),
]


@pytest.mark.parametrize("shape", VARIANTS, ids=range(len(VARIANTS)))
@pytest.mark.parametrize("theirs", ["specvqgan", "melspec"])
@torch.inference_mode()
def test_other_sizes_are_read_from_their_weights(shape, theirs, tmp_path):
    torch.manual_seed(0)
    mel = SPEC.model_copy(update={"mels": 24})
    quantizer = {"size": 11, "dim": 9, "legacy": theirs == "specvqgan"}
    config = SpectrogramCodecConfig(**shape.model_dump(), mel=mel, quantizer=VectorQuantizerConfig(**quantizer))
    codec, tensors = SpectrogramCodec(config).eval(), {}
    codec.steps_trained.fill_(1)
    codec.mean.fill_(0.5)
    codec.std.fill_(0.5)
    own = codec.state_dict()
    for ours, group in names(codec).items():
        for name, part in zip(group, own[ours].chunk(len(group)), strict=True):
            # Linear layers of ours are convolutions of 1x1 there.
            part = part[..., None, None] if ".attn" in name and part.dim() == 2 else part
            if theirs == "melspec":
                name = re.sub(r"^(encoder|decoder)\.", r"_\1.", name).replace("quantize.", "_vq_vae._")
            tensors[name] = part
    torch.save(tensors, tmp_path / "codec.ckpt")
    read = read_codec(tmp_path / "codec.ckpt", mel).codec
    assert read.config == config
    heard = torch.rand(2, 24, 24)
    assert torch.equal(read.encode(heard).codes, codec.encode(heard).codes)
    assert torch.equal(read.decode(read.encode(heard)), codec.decode(codec.encode(heard)))


@torch.inference_mode()
def test_the_published_judge_says_what_it_said(given):
    held, path, imported, x, mel = given("karchkha_vqvae")
    judge = read_judge(state_dict(path), "vqvae.ckpt")
    judge.train()
    assert not any(module.training for module in judge.modules()), "it stays in eval mode"
    real, made = judge(x), judge(imported.codec(mel).made[:, None])
    held.agrees("disc_logits", real)
    # The reference halves the hinge of the two.
    held.agrees("hinge_d_loss", 0.5 * discriminator_loss([(real, [])], [(made, [])]))


@pytest.mark.parametrize("layers", [1, 2, 5])
def test_judges_of_other_depths_are_read(layers):
    judge = PublishedPatchGAN(1, 3, layers)
    held = {f"loss.discriminator.{name}": tensor for name, tensor in judge.state_dict().items()}
    read = read_judge(held, "here")
    x = torch.randn(1, 1, 160, 160)
    assert torch.equal(read(x), judge(x))
    widths = [conv.out_channels for conv in judge.main if isinstance(conv, torch.nn.Conv2d)]
    assert widths == [*[3, 6, 12, 24, 24, 24][: layers + 1], 1]


def test_the_judge_of_specvqgan_is_read_too(given):
    tensors = state_dict(given("specvqgan_vqmodel").path)
    assert read_judge(tensors, "codebook.ckpt")(torch.zeros(1, 1, 80, 48)).shape == (1, 1, 8, 4)
    with pytest.raises(ModelError, match="holds no discriminator"):
        read_judge({}, "here")
    del tensors["loss.discriminator.main.3.weight"]
    with pytest.raises(ModelError, match=r"these differ: main\.3\.weight"):
        read_judge(tensors, "codebook.ckpt")


def test_a_mel_on_another_scale_is_refused(fixtures_dir):
    with pytest.raises(ModelError, match=r'from 0 to 1 .* and was given "natural-log"; give the mel specvqgan-22k'):
        read_codec(fixtures_dir / "specvqgan_vqmodel/codebook.ckpt", PRESETS["sound-24k"])


def without(name):
    return lambda tensors: tensors.pop(name)


def shaped(name, *shape):
    return lambda tensors: tensors.update({name: torch.zeros(*shape)})


HARMS = [
    (without("encoder.mid.block_1.conv1.bias"), r"encoder\.mid\.block_1\.conv1\.bias is missing"),
    (without("decoder.mid.attn_1.k.weight"), r"decoder\.mid\.attn_1\.k\.weight is missing"),
    (without("encoder.conv_in.weight"), "conv_in.weight should tell a size, and it is missing"),
    (shaped("encoder.conv_in.weight", 32), r"should tell a size, and it is \[32\]"),
    (shaped("encoder.conv_in.weight", 32, 3, 3, 3), "pictures of 3 channels"),
    (shaped("post_quant_conv.bias", 999), r"post_quant_conv\.bias is \[999\] and should be \[\d+\]"),
    (shaped("encoder.more.weight", 3), r"encoder\.more\.weight is unexpected"),
    (lambda tensors: tensors["quant_conv.bias"].fill_(torch.nan), r"quant_conv\.bias holds NaN"),
    (lambda tensors: tensors.clear() or tensors.update(a=torch.ones(1)), "is no codec that is known here"),
]


@pytest.mark.parametrize(("harm", "said"), HARMS, ids=range(len(HARMS)))
def test_what_does_not_fit_is_named(given, tmp_path, harm, said):
    tensors = state_dict(given("specvqgan_vqmodel").path)
    harm(tensors)
    torch.save({"state_dict": tensors}, tmp_path / "codebook.ckpt")
    with pytest.raises(ModelError, match=said) as error:
        read_codec(tmp_path / "codebook.ckpt", SPEC)
    assert "\n" not in str(error.value)


def test_the_other_projects_own_names_are_said(given, tmp_path):
    tensors = state_dict(given("karchkha_vqvae").path)
    del tensors["_decoder.mid.attn_1.q.bias"]
    torch.save(tensors, tmp_path / "bare.pt")
    with pytest.raises(ModelError, match=r": _decoder\.mid\.attn_1\.q\.bias is missing$"):
        read_codec(tmp_path / "bare.pt", SPEC)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values["model"]["params"].update(n_embed=9999), r"codes is \d+ and should be 9999"),
        (lambda values: values["model"]["params"]["ddconfig"].update(ch_mult=[9]), "multiples is"),
        (lambda values: values["model"]["params"].pop("ddconfig"), "does not describe a SpecVQGAN codec.*ddconfig"),
        (lambda values: values.update(model=3), "does not describe a SpecVQGAN codec"),
    ],
)
def test_a_config_of_another_codec_is_named(fixtures_dir, tmp_path, change, said):
    folder = fixtures_dir / "specvqgan_vqmodel"
    values = yaml.safe_load((folder / "config.yaml").read_text())
    change(values)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ModelError, match=said):
        read_codec(folder / "codebook.ckpt", SPEC, tmp_path / "config.yaml")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "{", None])
def test_a_config_that_is_no_plain_yaml_is_refused(fixtures_dir, tmp_path, text):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ModelError, match="can't be read"):
        read_codec(fixtures_dir / "specvqgan_vqmodel/codebook.ckpt", SPEC, tmp_path / "config.yaml")
