"""Other projects' spectrogram codecs: their fixtures are reproduced, and what does not fit is named."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from cymatic.codecs import CODECS
from cymatic.discriminators.losses import discriminator_loss
from cymatic.errors import ModelError
from cymatic.hub.checkpoints import state_dict
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.patchgan import read_judge
from cymatic.hub.specvqgan import read_codec
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["specvqgan-22k"]
SPECS = {rows: SPEC.model_copy(update={"mels": rows}) for rows in (80, 48)}
FOLDERS = {"specvqgan_vqmodel": ("codebook.ckpt", "config.yaml", 80), "karchkha_vqvae": ("vqvae.ckpt", None, 48)}
every_fixture = pytest.mark.parametrize("name", FOLDERS)


def fixture(fixtures_dir: Path, name: str):
    """The imported codec, inputs, expected outputs and tolerances."""
    folder = fixtures_dir / name
    checkpoint, config, rows = FOLDERS[name]
    imported = read_codec(folder / checkpoint, SPECS[rows], folder / config if config else None)
    x = torch.from_numpy(np.load(folder / "inputs.npz")["x"])
    expected = {key: torch.from_numpy(value) for key, value in np.load(folder / "expected.npz").items()}
    return imported, x, expected, json.loads((folder / "fixture.json").read_text())["suggested_atol"]


@every_fixture
@torch.inference_mode()
def test_the_reference_is_reproduced(fixtures_dir, name):
    imported, x, expected, atol = fixture(fixtures_dir, name)
    codec = imported.codec

    def close(key: str, value: torch.Tensor) -> None:
        torch.testing.assert_close(value.float(), expected[key].float(), atol=atol[key], rtol=0)

    step = codec((x[:, 0] + 1) / 2)
    close("latent", codec.to_codes(codec.encoder(x)))
    assert torch.equal(step.quantized.codes, expected["indices"])
    close("quant", step.quantized.z)
    close("recon", step.made[:, None])
    close("codebook_loss" if "codebook_loss" in expected else "vq_loss", sum(step.quantized.losses.values()))
    if "recon_from_indices" in expected:
        z = codec.quantizer.lookup(expected["indices"])
        close("recon_from_indices", codec.decoder(codec.from_codes(z)))
        column_major = step.quantized.codes.mT.flatten(1)
        assert torch.equal(column_major, expected["indices_column_major"])


@every_fixture
@torch.inference_mode()
def test_the_codec_speaks_of_mels(fixtures_dir, name):
    imported, x, expected, atol = fixture(fixtures_dir, name)
    codec, mel = imported.codec, (x[:, 0] + 1) / 2
    latent = codec.encode(mel)
    assert torch.equal(latent.codes, expected["indices"])
    mel = ((expected["recon"][:, 0] + 1) / 2).clamp_min(SPEC.silence)  # the reference goes below; a mel can't
    torch.testing.assert_close(codec.decode(latent), mel, atol=atol["recon"], rtol=0)


@every_fixture
def test_saved_as_a_part_it_is_the_same(fixtures_dir, name, tmp_path):
    imported, x, _, _ = fixture(fixtures_dir, name)
    save_part(tmp_path / "codec", imported.codec)
    again = load_part(tmp_path / "codec", CODECS)
    mel = (x[:, 0] + 1) / 2
    assert torch.equal(again.decode(again.encode(mel)), imported.codec.decode(imported.codec.encode(mel)))


def test_what_trained_the_codec_is_named_as_left_out(fixtures_dir):
    published = fixture(fixtures_dir, "specvqgan_vqmodel")[0]
    assert len(published.left_out) == 55 and all(name.startswith("loss.") for name in published.left_out)
    other = fixture(fixtures_dir, "karchkha_vqvae")[0]
    assert len(other.left_out) == 22 and all(name.startswith("discriminator.") for name in other.left_out)
    assert int(published.codec.steps_trained) == 1234 and published.codec.config.quantizer.legacy
    assert int(other.codec.steps_trained) == 4242 and not other.codec.config.quantizer.legacy


def test_a_bare_state_dict_of_melspec_gpt_vqvae(fixtures_dir, tmp_path):
    imported, x, _, _ = fixture(fixtures_dir, "karchkha_vqvae")
    torch.save(state_dict(fixtures_dir / "karchkha_vqvae/vqvae.ckpt"), tmp_path / "bare.pt")
    bare = read_codec(tmp_path / "bare.pt", SPECS[48])
    assert bare.codec.config == imported.codec.config and int(bare.codec.steps_trained) == 1
    mel = (x[:, 0] + 1) / 2
    assert torch.equal(bare.codec.encode(mel).codes, imported.codec.encode(mel).codes)


@torch.inference_mode()
def test_the_published_judge_says_what_it_said(fixtures_dir):
    imported, x, expected, atol = fixture(fixtures_dir, "karchkha_vqvae")
    judge = read_judge(state_dict(fixtures_dir / "karchkha_vqvae/vqvae.ckpt"), "vqvae.ckpt")
    judge.train()
    assert not any(module.training for module in judge.modules()), "it stays in eval mode"
    real, made = judge(x), judge(imported.codec((x[:, 0] + 1) / 2).made[:, None])
    torch.testing.assert_close(real, expected["disc_logits"], atol=atol["disc_logits"], rtol=0)
    # The reference halves the hinge of the two.
    hinge = 0.5 * discriminator_loss([(real, [])], [(made, [])])
    torch.testing.assert_close(hinge, expected["hinge_d_loss"], atol=atol["hinge_d_loss"], rtol=0)


def test_the_judge_of_specvqgan_is_read_too(fixtures_dir):
    tensors = state_dict(fixtures_dir / "specvqgan_vqmodel/codebook.ckpt")
    assert read_judge(tensors, "codebook.ckpt")(torch.zeros(1, 1, 80, 48)).shape == (1, 1, 8, 4)
    with pytest.raises(ModelError, match="holds no discriminator"):
        read_judge({}, "here")
    del tensors["loss.discriminator.main.5.weight"]
    with pytest.raises(ModelError, match=r"these differ: main\.5\.weight"):
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
    (without("decoder.up.2.attn.1.k.weight"), r"decoder\.up\.2\.attn\.1\.k\.weight is missing"),
    (without("encoder.conv_in.weight"), "conv_in.weight should tell a size, and it is missing"),
    (shaped("encoder.conv_in.weight", 32), r"should tell a size, and it is \[32\]"),
    (shaped("encoder.conv_in.weight", 32, 3, 3, 3), "pictures of 3 channels"),
    (shaped("post_quant_conv.bias", 31), r"post_quant_conv\.bias is \[31\] and should be \[32\]"),
    (shaped("encoder.more.weight", 3), r"encoder\.more\.weight is unexpected"),
    (lambda tensors: tensors["quant_conv.bias"].fill_(torch.nan), r"quant_conv\.bias holds NaN"),
    (lambda tensors: tensors.clear() or tensors.update(a=torch.ones(1)), "is no codec that is known here"),
]


@pytest.mark.parametrize(("harm", "said"), HARMS, ids=range(len(HARMS)))
def test_what_does_not_fit_is_named(fixtures_dir, tmp_path, harm, said):
    tensors = state_dict(fixtures_dir / "specvqgan_vqmodel/codebook.ckpt")
    harm(tensors)
    torch.save({"state_dict": tensors}, tmp_path / "codebook.ckpt")
    with pytest.raises(ModelError, match=said) as error:
        read_codec(tmp_path / "codebook.ckpt", SPECS[80])
    assert "\n" not in str(error.value)


def test_the_other_projects_own_names_are_said(fixtures_dir, tmp_path):
    tensors = state_dict(fixtures_dir / "karchkha_vqvae/vqvae.ckpt")
    del tensors["_decoder.mid.attn_1.q.bias"]
    torch.save(tensors, tmp_path / "bare.pt")
    with pytest.raises(ModelError, match=r": _decoder\.mid\.attn_1\.q\.bias is missing$"):
        read_codec(tmp_path / "bare.pt", SPECS[48])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values["model"]["params"].update(n_embed=1024), "codes is 24 and should be 1024"),
        (lambda values: values["model"]["params"]["ddconfig"].update(attn_resolutions=[48]), "attention is"),
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
        read_codec(folder / "codebook.ckpt", SPECS[80], tmp_path / "config.yaml")


@pytest.mark.parametrize("text", ["!!python/object/apply:os.system ['true']", "{", None])
def test_a_config_that_is_no_plain_yaml_is_refused(fixtures_dir, tmp_path, text):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ModelError, match="can't be read"):
        read_codec(fixtures_dir / "specvqgan_vqmodel/codebook.ckpt", SPECS[80], tmp_path / "config.yaml")
