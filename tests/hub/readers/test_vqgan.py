"""VQ-GANs of pictures: min-dalle's decoder as its fixture says, taming's layout at several sizes, what is refused."""

import math

import pytest
import torch
import yaml

from cymatic.codecs import CODECS
from cymatic.codecs.picture import PictureCodec, PictureCodecConfig
from cymatic.errors import ModelError
from cymatic.hub.checkpoints import read_checkpoint
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.readers.vqgan import is_of_pictures, read_vqgan
from cymatic.hub.readers.vqgan_layout import CODEBOOK, names


@pytest.fixture(scope="module")
def held(reference):
    return reference("min_dalle_detokenizer")


def detoker(held, across: int = 1) -> PictureCodec:
    """The codec for pictures of so many grids of codes in a row."""
    levels = len(held.config["ch_mult"])
    side = held.config["grid"] * across * 2 ** (levels - 1)
    return read_vqgan(held.folder / "detoker.pt", size=side).codec


def picture(codec: PictureCodec, codes: torch.Tensor) -> torch.Tensor:
    """As the reference gives them: `[height, width, 3]` in 0..255."""
    return codec.decode_codes(codes).movedim(1, -1) * 255


@torch.inference_mode()
def test_the_reference_is_reproduced(held):
    codec, side = detoker(held), held.config["grid"]
    grids = held.inputs["tokens"].unflatten(1, (side, side))
    count = math.isqrt(len(grids))
    single = picture(codec, grids)
    held.agrees("image", single[0])
    wanted = held.expected["image_u8"].int()
    assert (single[0].int() - wanted).abs().max() <= 1
    # Column by column: the second picture lies below the first.
    held.agrees("grid", torch.cat([torch.cat(list(some)) for some in single.split(count)], dim=1))
    rows = [torch.cat(list(grids.split(count)[i]), dim=0) for i in range(count)]
    held.agrees("seamless", picture(detoker(held, count), torch.cat(rows, dim=1)[None])[0])


def test_its_sizes_are_those_of_the_reference(held):
    said, config = held.config, detoker(held).config
    assert [config.width * one for one in config.multiples] == [said["ch"] * one for one in said["ch_mult"]]
    assert (config.quantizer.size, config.quantizer.dim) == (said["vocab_count"], said["embed_count"])
    assert read_vqgan(held.folder / "detoker.pt").codec.config.picture.size == 256


@torch.inference_mode()
def test_saved_as_a_part_it_is_the_same_and_only_decodes(held, tmp_path):
    codec, side = detoker(held), held.config["grid"]
    codes = held.inputs["tokens"].unflatten(1, (side, side))
    save_part(tmp_path, codec)
    again = load_part(tmp_path, CODECS)
    assert torch.equal(again.decode_codes(codes), codec.decode_codes(codes))
    size = codec.config.picture.size
    for use in (codec.encode, codec.forward):
        with pytest.raises(ModelError, match="this codec only decodes"):
            use(torch.zeros(1, 3, size, size))


VARIANTS = [
    dict(width=8, multiples=(1,), blocks=1, attention=(), latent=7),
    dict(width=8, multiples=(1, 2, 2), blocks=2, attention=(0, 2), latent=12),
    dict(width=16, multiples=(2, 1), blocks=3, attention=(1,), latent=8),
]


def published(shape, path, **more):
    """A codec of ours and a file of the same weights under taming's names, with what trained it."""
    torch.manual_seed(0)
    config = PictureCodecConfig(
        **shape, groups=32, picture={"size": 32}, quantizer={"size": 11, "dim": 9, "legacy": True}
    )  # fmt: skip
    codec, tensors = PictureCodec(config).eval(), {}
    for p in codec.parameters():
        p.data += torch.randn_like(p) * 0.05
    codec.steps_trained.fill_(7)
    own = codec.state_dict()
    for ours, group in names(codec).items():
        for name, part in zip(group, own[ours].chunk(len(group)), strict=True):
            tensors[name] = (part[..., None, None] if ".attn" in name and part.dim() == 2 else part).clone()
    torch.save({"global_step": 7, "state_dict": {**tensors, **more, "loss.logvar": torch.zeros(())}}, path)
    return codec, tensors


@pytest.mark.parametrize("shape", VARIANTS, ids=range(len(VARIANTS)))
@torch.inference_mode()
def test_tamings_layout_at_several_sizes(shape, tmp_path):
    codec, tensors = published(shape, tmp_path / "last.ckpt")
    assert is_of_pictures(read_checkpoint(tmp_path / "last.ckpt"), tmp_path / "last.ckpt")
    resolution, levels = 32, range(len(shape["multiples"]))
    network = {
        "ch": shape["width"], "ch_mult": list(shape["multiples"]), "num_res_blocks": shape["blocks"],
        "resolution": resolution, "attn_resolutions": [resolution // 2**i for i in levels if i in shape["attention"]],
        "z_channels": shape["latent"],
    }  # fmt: skip
    params = {"n_embed": 11, "embed_dim": 9, "ddconfig": network}
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    found = read_vqgan(tmp_path / "last.ckpt", tmp_path / "model.yaml")
    assert found.codec.config == codec.config and found.left_out == ["loss.logvar"]
    assert int(found.codec.steps_trained) == 7
    pictures = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.codec.encode(pictures).codes, codec.encode(pictures).codes)
    codes = torch.randint(11, codec.encode(pictures).codes.shape)
    assert torch.equal(found.codec.decode_codes(codes), codec.decode_codes(codes))
    torch.save({f"first_stage_model.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "gpt.ckpt")
    inside = read_vqgan(tmp_path / "gpt.ckpt", size=32).codec
    assert torch.equal(inside.decode_codes(codes), codec.decode_codes(codes))
    params["n_embed"] = 12
    (tmp_path / "model.yaml").write_text(yaml.safe_dump({"model": {"params": params}}))
    with pytest.raises(ModelError, match="codes is 11 and should be 12"):
        read_vqgan(tmp_path / "last.ckpt", tmp_path / "model.yaml")


def test_what_does_not_fit_is_named(tmp_path, reference):
    path = tmp_path / "last.ckpt"
    _, tensors = published(VARIANTS[1], path, extra=torch.zeros(2))
    with pytest.raises(ModelError, match="extra is unexpected"):
        read_vqgan(path, size=32)
    torch.save({name: t for name, t in tensors.items() if name != "decoder.conv_in.bias"}, path)
    with pytest.raises(ModelError, match=r"decoder\.conv_in\.bias is missing"):
        read_vqgan(path, size=32)
    torch.save({name: t for name, t in tensors.items() if name != CODEBOOK}, path)
    with pytest.raises(ModelError, match=r"quantize\.embedding\.weight should tell a size, and it is missing"):
        read_vqgan(path, size=32)
    torch.save(tensors, path)
    with pytest.raises(ModelError, match="a place stands for 4 x 4 pixels"):
        read_vqgan(path, size=30)
    spectrogram = reference("specvqgan_vqmodel").folder / "codebook.ckpt"
    assert not is_of_pictures(read_checkpoint(spectrogram), spectrogram)
    with pytest.raises(ModelError, match="reads pictures of 1 channels, and a picture has 3"):
        read_vqgan(spectrogram)
