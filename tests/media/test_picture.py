"""Pictures: every mode of the formats, turned and clear ones, and everything that can be wrong with a file."""

import io
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cymatic.errors import Error, PictureError
from cymatic.media.image_files import MOST_PIXELS
from cymatic.media.picture import PICTURE, Picture, PictureSpec, sheet

RAMP = (np.arange(12 * 16 * 3).reshape(12, 16, 3) % 256).astype(np.uint8)


def saved(tmp_path, image, name="a.png", **more):
    image.save(tmp_path / name, **more)
    return tmp_path / name


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes_of_png_are_read_as_they_look(tmp_path, mode):
    if mode == "I;16":
        image = Image.fromarray((np.arange(192).reshape(12, 16) * 300).astype(np.uint16))
        expected = np.repeat((np.arange(192).reshape(12, 16, 1) * 300) / 65_535, 3, 2)
    else:
        image = Image.fromarray(RAMP).convert(mode)
        expected = np.asarray(image.convert("RGBA" if "A" in mode else "RGB")) / 255
    picture = Picture.read(saved(tmp_path, image))
    assert (picture.height, picture.width) == (12, 16) and picture.pixels.dtype == np.float32
    np.testing.assert_allclose(picture.pixels, expected, atol=1e-6)


def test_cmyk_jpeg_first_frame_of_gif_and_lossless_webp(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 40, 40))
    for name, image in (("a.jpg", flat.convert("CMYK")), ("b.jpg", flat), ("c.bmp", flat), ("d.webp", flat)):
        picture = Picture.read(saved(tmp_path, image, name))
        np.testing.assert_allclose(picture.pixels[8, 8], np.array([200, 40, 40]) / 255, atol=0.03)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    picture = Picture.read(saved(tmp_path, frames[0], "e.gif", save_all=True, append_images=frames[1:]))
    np.testing.assert_allclose(picture.pixels[4, 4, :3], [1, 0, 0], atol=0.01)


def test_a_palette_may_be_clear(tmp_path):
    image = Image.new("P", (4, 4), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 1), 1)
    picture = Picture.read(saved(tmp_path, image, transparency=0))
    assert picture.pixels.shape == (4, 4, 4) and picture.pixels[0, 0, 3] == 0 and picture.pixels[1, 1, 3] == 1
    np.testing.assert_allclose(picture.on().pixels[0, 0], 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_pictures(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    picture = Picture.read(saved(tmp_path, image, "a.png", exif=exif.tobytes()))
    assert (picture.width, picture.height) == ((16, 8) if orientation < 5 else (8, 16))
    left = picture.pixels[:, : picture.width // 2].mean() if orientation < 5 else picture.pixels[:8].mean()
    assert left == (1 if orientation in (1, 4, 5, 6) else 0)


def test_info_travels_in_png(tmp_path):
    picture = Picture(RAMP / 255, {"prompt": "ein Haus", "seed": 3})
    assert Picture.read(picture.write(tmp_path / "a.png")).info == {"prompt": "ein Haus", "seed": 3}
    assert Picture.read(saved(tmp_path, Image.fromarray(RAMP), "b.png")).info == {}
    with pytest.raises(PictureError, match="info can't be written as JSON"):
        Picture(RAMP / 255, {"a": object()}).write(tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.jpg", "A.PNG"])
def test_written_pictures_come_back(tmp_path, name):
    smooth = np.stack([np.linspace(0, 1, 24)[None] * np.ones((16, 1))] * 3 + [np.full((16, 24), 0.5)], axis=2)
    for pixels in (smooth[..., :3], smooth):
        picture = Picture(pixels)
        back = Picture.read(picture.write(tmp_path / name))
        expected = picture if name.lower().endswith((".png", ".webp")) else picture.on()
        np.testing.assert_allclose(back.pixels, expected.pixels, atol=0.03 if name.endswith("jpg") else 1 / 255)


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a"])
def test_other_extensions_are_not_written(tmp_path, name):
    with pytest.raises(PictureError, match=r"unknown (extension|name).*use one of \.png"):
        Picture(RAMP / 255).write(tmp_path / name)


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims so many pixels and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (2**16 + 1, 1), (12_000, 12_000), (2**31 - 1, 2**31 - 1)]
)
def test_bombs_are_refused_before_they_go_off(tmp_path, width, height):
    (tmp_path / "a.png").write_bytes(bomb(width, height))
    with pytest.raises(PictureError, match=r"claims .* megapixels; give a smaller picture|damaged or no picture"):
        Picture.read(tmp_path / "a.png")
    assert MOST_PIXELS < 12_000**2


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.gif"])
def test_cut_short_files_are_named(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = saved(tmp_path, Image.fromarray(noise), name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(PictureError, match=r"damaged or (cut short|no picture)") as said:
        Picture.read(tmp_path / name)
    assert name in str(said.value) and "\n" not in str(said.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF"]), st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_damaged_files_give_a_picture_or_one_sentence(tmp_path, kind, seed, many):
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    draws = np.random.default_rng(seed)
    for place in draws.integers(0, len(data), many):
        data[place] = draws.integers(256)
    (tmp_path / "a.png").write_bytes(bytes(data))
    try:
        assert np.isfinite(Picture.read(tmp_path / "a.png").pixels).all()
    except PictureError as error:
        assert "a.png" in str(error) and "\n" not in str(error)


def test_other_formats_are_not_opened(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "a.png", "TIFF")
    with pytest.raises(PictureError, match="not a picture that can be read; give a PNG"):
        Picture.read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (np.zeros((3, 8, 8)), "shape .* transpose them"),
        (np.zeros((8, 8, 2)), "shape"),
        (np.zeros((0, 8, 3)), "no picture"),
        (RAMP, r"divide by the largest"),
        (np.full((2, 2, 3), np.nan), "NaN"),
        (np.array([["a", "b"]]), "give floats"),
    ],
)
def test_what_is_no_picture_is_refused(pixels, why):
    with pytest.raises(PictureError, match=why):
        Picture(pixels)


def test_clear_pixels_do_not_bleed(tmp_path):
    pixels = np.zeros((8, 8, 4), np.float32)
    pixels[..., 0] = 1.0  # red, but clear on the left, where it is blue
    pixels[:, :4] = [0, 0, 1, 0]
    pixels[:, 4:, 3] = 1
    small = Picture(pixels).resized(4, 4)
    seen = small.pixels[small.pixels[..., 3] > 0.05]
    np.testing.assert_allclose(seen[:, :3], np.broadcast_to([1, 0, 0], seen[:, :3].shape), atol=0.02)


def test_parts_read_the_middle_square_on_a_background():
    pixels = np.zeros((10, 30, 4), np.float32)
    pixels[:, 10:20] = [0, 1, 0, 1]
    made = PICTURE.prepare(Picture(pixels), PictureSpec(size=5, background=(1, 0, 0)))
    np.testing.assert_allclose(made[:, 2, 2], [0, 1, 0], atol=1e-3)
    assert made.shape == (3, 5, 5) and made.min() >= 0 and made.max() <= 1
    clear = PICTURE.prepare(Picture(np.zeros((4, 4, 4))), PictureSpec(size=2, background=(1, 0, 0)))
    np.testing.assert_allclose(clear[:, 0, 0], [1, 0, 0], atol=1e-3)


@pytest.mark.parametrize("grey", [0.0, 0.5, 1.0])
def test_a_shape_of_any_colour_on_a_clear_background_is_no_blank(tmp_path, grey):
    pixels = np.zeros((8, 8, 4))
    pixels[2:6, 2:6] = (grey, grey, grey, 1)
    facts = PICTURE.facts(Picture(pixels).write(tmp_path / "a.png"))
    assert not facts.empty and facts.problems == ()


def test_the_same_colour_under_any_alpha_is_blank_where_all_of_it_is(tmp_path):
    pixels = np.ones((8, 8, 4))
    pixels[..., 3] = 0.5
    assert PICTURE.facts(Picture(pixels).write(tmp_path / "a.png")).empty
    pixels[4:, :, 3] = 0.6
    assert not PICTURE.facts(Picture(pixels).write(tmp_path / "b.png")).empty


def test_a_clear_picture_is_blank_and_a_faint_one_doubtful(tmp_path):
    for name, pixels, empty, doubts in (
        ("clear", np.concatenate([np.random.default_rng(0).random((4, 4, 3)), np.zeros((4, 4, 1))], 2), True, 0),
        ("grey", np.full((4, 4, 3), 0.5), True, 0),
        ("faint", np.full((4, 4, 3), 0.5) + np.eye(4)[..., None] * 0.01, False, 1),
        ("fine", RAMP / 255, False, 0),
    ):
        facts = PICTURE.facts(Picture(pixels).write(tmp_path / f"{name}.png"))
        assert (facts.empty, len(facts.problems)) == (empty, doubts), name


def test_sheets_and_plots(tmp_path):
    picture = Picture(RAMP / 255, {"prompt": "a ramp 貓"})
    assert Picture.read(picture.plot(tmp_path / "one.png")).width > 500
    path = sheet(tmp_path / "sheet.png", [("a", picture), None, ("b", picture)], 2)
    assert path.read_bytes() == sheet(tmp_path / "again.png", [("a", picture), None, ("b", picture)], 2).read_bytes()
    with pytest.raises(PictureError, match="was to show 0 pictures"):
        sheet(tmp_path / "none.png", [])


def test_pictures_need_no_torch():
    code = "import sys, cymatic.media.picture; assert not {'torch', 'PIL', 'matplotlib', 'scipy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_nul_in_a_name_is_an_error():
    with pytest.raises(Error):
        Picture.read("a\0.png")


def test_alpha_is_read_beside_the_colours_and_comes_back():
    pixels = np.random.default_rng(0).random((8, 8, 4)).astype(np.float32)
    pixels[..., 3] = np.linspace(0, 1, 8)[None]
    spec = PictureSpec(size=8, background=(0.5, 0.25, 0.5), alpha=True)
    read = PICTURE.prepare(Picture(pixels), spec)
    assert spec.shape == tuple(read.shape) == (4, 8, 8)
    np.testing.assert_allclose(
        read[:3].numpy().transpose(1, 2, 0), Picture(pixels).on(spec.background).pixels, atol=1e-3
    )
    again = PICTURE.restore(read, spec, {"prompt": "any"})
    assert again.info["prompt"] == "any"
    for colour in ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 0.5)):
        np.testing.assert_allclose(again.on(colour).pixels, Picture(pixels).on(colour).pixels, atol=2e-2)


def test_a_picture_without_alpha_is_all_its_own():
    picture = Picture(np.random.default_rng(0).random((8, 8, 3)))
    spec = PictureSpec(size=8, background=(0.5, 0.5, 0.5), alpha=True)
    again = PICTURE.restore(PICTURE.prepare(picture, spec), spec, {})
    np.testing.assert_allclose(again.pixels[..., :3], picture.pixels, atol=1e-3)
    assert (again.pixels[..., 3] == 1).all()


def test_hardly_any_alpha_is_none():
    spec = PictureSpec(size=1, background=(0.5, 0.5, 0.5), alpha=True)
    assert spec.picture(np.array([[[0.5, 0.5, 0.5, 0.03]]], dtype=np.float32)).pixels[0, 0, 3] == 0
    assert spec.picture(np.array([[[0.5, 0.5, 0.5, 0.97]]], dtype=np.float32)).pixels[0, 0, 3] == 1
