"""The picture codec: sizes, latents with and without codes, and that it can learn."""

import pytest
import torch

from cymatic.codecs.picture import PictureCodec, PictureCodecConfig, vqgan_f16
from cymatic.errors import Error, ModelError
from cymatic.latent import Latent
from cymatic.media.picture import PictureSpec

SMALL = {"width": 16, "multiples": (1, 2), "blocks": 1, "patch": (2, 2), "latent": 8, "groups": 4}


def small(quantizer: dict | None = None, **values) -> PictureCodec:
    torch.manual_seed(0)
    config = {"picture": PictureSpec(size=16), "quantizer": quantizer, **SMALL, **values}
    codec = PictureCodec(PictureCodecConfig.parse(config, "here"))
    codec.steps_trained.fill_(1)
    return codec.eval()


def pictures(count: int, size: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_published_size():
    with torch.device("meta"):
        values = {"picture": PictureSpec(size=256), "quantizer": {"size": 16384, "dim": 256}}
        codec = PictureCodec(PictureCodecConfig(**vqgan_f16().model_dump(), **values))
    assert (codec.rows, codec.columns(256), codec.size, codec.dim) == (16, 16, 16384, 256)
    # VQ-GAN's "imagenet f16, 16384 codes": 29.3 M + 42.5 M + 4.2 M for the codebook, and two 1 x 1 convolutions.
    assert sum(p.numel() for p in codec.parameters()) == pytest.approx(76.1e6, rel=0.01)


@pytest.mark.parametrize(
    ("values", "cell"),
    [
        ({"multiples": (1, 1, 1)}, 4),
        ({"multiples": (1, 1, 1, 2)}, 8),
        ({"multiples": (1, 1, 1, 2, 2)}, 16),
        ({"multiples": (1, 2), "patch": (4, 4)}, 8),
    ],
)
@pytest.mark.parametrize("size", [32, 64])
def test_cells_and_sizes(values, cell, size):
    codec = small({"size": 8, "dim": 4}, **{**SMALL, "patch": (1, 1), "picture": PictureSpec(size=size), **values})
    latent = codec.encode(pictures(1, size))
    assert latent.codes.shape == (1, size // cell, size // cell) and codec.sizes == (8,) * (size // cell)
    assert codec.decode(latent).shape == (1, 3, size, size)


def test_without_a_quantizer_the_latent_is_continuous():
    codec = small()
    latent = codec.encode(pictures(2))
    assert latent.codes is None and latent.z.shape == (2, 8, 4, 4) and codec.sizes == () and codec.size == 0
    assert torch.equal(latent.z, codec.latent(pictures(2)))
    for asked in (codec.decode_codes, codec.lookup):
        with pytest.raises(ModelError, match="no codes but continuous latents"):
            asked(torch.zeros(2, 4, 4, dtype=torch.int64))


@torch.inference_mode()
def test_a_latent_without_codes_is_quantised_before_it_is_decoded():
    codec = small({"size": 8, "dim": 4, "lookup_dim": 2, "metric": "cosine"})
    read = codec.latent(pictures(2))
    found = codec.encode(pictures(2))
    assert not torch.allclose(read, found.z)
    made = codec.decode(Latent(read, None, found.lengths, "grid"))
    assert torch.equal(made, codec.decode(found)) and made.min() >= 0 and made.max() <= 1


def test_pictures_of_another_size_are_refused():
    with pytest.raises(Error, match=r"\[3, 32, 32\] were given; this codec reads \[3, 16, 16\]"):
        small().encode(pictures(1, 32))


@pytest.mark.parametrize(
    ("quantizer", "left"),
    [
        (None, 0.5),
        ({"size": 64, "dim": 8, "lookup_dim": 4, "metric": "cosine", "restart": "encoder"}, 0.75),
        ({"kind": "finite", "steps": [8, 5, 5], "dim": 8}, 0.6),
        ({"kind": "residual", "levels": 1, "size": 64, "dim": 8, "map": {"batches": 40}}, 0.6),
    ],
)
def test_it_learns_eight_pictures(quantizer, left):
    codec = small(quantizer).train()
    some = torch.nn.functional.interpolate(pictures(8, 4), 16, mode="bilinear")
    optimiser = torch.optim.AdamW(codec.parameters(), 3e-3)
    before = codec.distance(codec.decode(codec.encode(some)), some)
    for step in range(80):
        result = codec(some, torch.Generator().manual_seed(step))
        losses = {} if result.quantized is None else result.quantized.losses
        loss = (result.made - result.wanted).abs().mean() + sum(losses.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert codec.distance(codec.decode(codec.encode(some)), some) < left * before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"picture": {"size": 18}}, "no whole number"),
        ({"quantizer": {"size": 4}}, '"quantizer.dim" is missing'),
        ({"quantizer": {"kind": "residual", "levels": 2, "size": 4, "dim": 2}}, "one code"),
        ({"widht": 4}, 'did you mean "width"'),
    ],
)
def test_wrong_settings_are_named(wrong, said):
    with pytest.raises(ModelError, match=said):
        PictureCodecConfig.parse({**SMALL, "picture": {"size": 16}, **wrong}, "here")


def test_alpha_is_a_channel_like_the_others():
    codec = small(picture=PictureSpec(size=16, alpha=True))
    four = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    assert codec.decode(codec.encode(four)).shape == (2, 4, 16, 16)
    with pytest.raises(Error, match="reads \\[4, 16, 16\\]"):
        codec.encode(pictures(2))
