"""The map of pictures: what is cut from them, and that neighbours come to look alike."""

import numpy as np
import pytest
from benchmarks.picture_map import colours, drawn, learn, main, patches
from PIL import Image

from cymatic.errors import Error
from cymatic.signal.colours import from_srgb, to_srgb


def gradients(count=30, side=16):
    chance = np.random.default_rng(0)
    across = np.linspace(0, 1, side)[None, :, None]
    return [
        np.concatenate([(chance.random(3) * across).repeat(side, 0), np.ones((side, side, 1))], -1).astype(np.float32)
        for _ in range(count)
    ]


def test_patches_lie_as_they_did():
    picture = np.random.default_rng(0).random((9, 12, 4)).astype(np.float32)
    picture[..., 3] = 1
    found = patches([picture], 4)
    assert found.shape == (6, 48)
    assert np.allclose(found[4].reshape(4, 4, 3), from_srgb(picture[4:8, 4:8, :3]), atol=1e-5)


def test_what_is_transparent_or_plain_is_left_out():
    picture = np.zeros((8, 8, 4), np.float32)
    assert len(patches([picture], 8)) == 0
    picture[0, 0] = [1, 0, 0, 1]
    assert len(patches([picture], 8)) == 1
    assert np.allclose(to_srgb(colours([picture])), [[1, 0, 0]], atol=1e-3)


def test_a_map_is_drawn_and_measured(tmp_path, monkeypatch, capsys):
    for i, picture in enumerate(gradients()):
        Image.fromarray((picture * 255).astype(np.uint8)).save(tmp_path / f"{i}.png")
    main(tmp_path, tmp_path / "map.png", of="colours", size=64, batches=120, batch=256)
    said = capsys.readouterr().out
    errors = [float(line.split("error ")[1].split(" %")[0]) for line in said.splitlines() if "error" in line]
    assert len(errors) == 2 and errors[0] < errors[1] / 2
    assert Image.open(tmp_path / "map.png").size == (64, 64)


def test_patches_are_drawn_where_they_lie(tmp_path):
    book = learn(patches(gradients(), 4), 6, None, batches=3, batch=64).codebooks[0].numpy()
    (tmp_path / "a.png").write_bytes(drawn(book, (3, 2)))
    found = np.asarray(Image.open(tmp_path / "a.png"))[::2, ::2] / 255
    assert found.shape == (12, 8, 3)
    assert np.allclose(found[4:8, 4:8], to_srgb(book[3].reshape(4, 4, 3).astype(float)), atol=0.01)


def test_no_pictures(tmp_path):
    with pytest.raises(Error, match="holds 0 pictures"):
        main(tmp_path, tmp_path / "map.png", of="colours")
