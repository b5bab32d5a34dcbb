"""A picture codec's codes as a picture: each cell where its code lies, and what the map is worth."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.helpers import save_codec

from cymatic.apps import cli
from cymatic.codecs.palette import PaletteCodec, PaletteCodecConfig
from cymatic.codecs.picture import PictureCodec, PictureCodecConfig
from cymatic.errors import Error, ModelError
from cymatic.media.picture import Picture, PictureSpec
from cymatic.pipelines.picture_map import picture_map
from cymatic.quantizers.maps import MapConfig
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.quantizers.vector import VectorQuantizerConfig

SIZE = 24  # codes: a map of 6 x 4


def pictures(count: int = 12) -> torch.Tensor:
    small = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(small, 16, mode="bilinear")


def made(quantizer) -> PictureCodec:
    """Networks drawn at random, with codes that were learned from pictures."""
    torch.manual_seed(0)
    shape = {"width": 8, "multiples": (1, 2), "blocks": 1, "patch": (2, 2), "latent": 8, "groups": 4}
    codec = PictureCodec(PictureCodecConfig(picture=PictureSpec(size=16), quantizer=quantizer, **shape))
    if quantizer is not None:
        codec.to_codes.weight.data.mul_(8)
    for step in range(60):
        codec.train()(pictures(), torch.Generator().manual_seed(step))
    codec.steps_trained.fill_(1)
    return codec.eval()


@pytest.fixture(scope="module")
def mapped():
    around = MapConfig(reach=2, batches=40, least=0.6)
    return made(ResidualQuantizerConfig(levels=1, size=SIZE, dim=4, decay=0.8, map=around))


def test_the_cells_are_what_the_codes_decode_to(mapped):
    found = picture_map(mapped, list(pictures()))
    drawn = found.picture().pixels
    assert found.topology == "grid" and found.places.shape == (6, 4) and found.cells.shape == (SIZE, 4, 4, 3)
    for code in (0, 7, SIZE - 1):
        whole = mapped.decode_codes(torch.full((1, 4, 4), code))[0].detach()
        cell = whole[:, 8:12, 8:12].movedim(0, -1).numpy()
        row, column = divmod(code, 4)
        shown = drawn[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        np.testing.assert_allclose(shown[::2, ::2], cell, atol=1e-5)
    assert drawn.shape == (48, 32, 3)
    assert found.counts.sum() == 12 * 16 and 1 < found.perplexity <= SIZE * found.used


def test_a_map_has_fewer_folds_than_the_same_codes_shuffled(mapped):
    found = picture_map(mapped, list(pictures()))
    assert found.error is not None and found.control is not None and found.error < 0.7 * found.control


def test_other_codebooks_are_drawn_in_the_order_of_their_codes():
    found = picture_map(made(VectorQuantizerConfig(size=10, dim=4)), list(pictures()))
    assert found.topology == "none" and found.error is None and found.control is None
    assert found.places.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, -1, -1]]
    assert (found.picture().pixels[16:, 16:] == 1).all()
    palette = PaletteCodec(PaletteCodecConfig(picture=PictureSpec(size=16), colours=6))
    palette.fit_statistics(list(pictures()))
    palette.steps_trained.fill_(1)
    drawn = picture_map(palette, list(pictures())).picture().pixels
    np.testing.assert_allclose(drawn[::8, ::8].reshape(-1, 3)[:6], palette.colours.detach().numpy(), atol=1e-6)


def test_what_has_no_map_is_refused(mapped):
    with pytest.raises(ModelError, match="no codes but continuous latents"):
        picture_map(made(None), list(pictures()))
    with pytest.raises(Error, match="no pictures"):
        picture_map(mapped, [])
    palette = PaletteCodec(PaletteCodecConfig(picture=PictureSpec(size=16), colours=5000))
    with pytest.raises(Error, match="4096 at most"):
        picture_map(palette, list(pictures()))


def test_the_command(mapped, tmp_path, capsys):
    save_codec(tmp_path / "run", mapped)
    (tmp_path / "data").mkdir()
    for i, picture in enumerate(pictures()):
        Picture(picture.movedim(0, -1).numpy()).write(tmp_path / "data" / f"blob_{i}.png")
    words = ["codec", "map", str(tmp_path / "run"), "-o", str(tmp_path / "map.png"), "--data", str(tmp_path / "data")]
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "of 24 codes" in said and "Topographic error" in said
    assert Image.open(tmp_path / "map.png").size == (32, 48)
    assert cli.run([*words[:4], str(tmp_path / "page.html"), *words[5:]]) == 2
    assert "whose map is a picture; give it a name with -o map.png" in capsys.readouterr().err
    assert cli.run([*words, "--level", "2"]) == 2
    assert "has one; leave --level out" in capsys.readouterr().err
