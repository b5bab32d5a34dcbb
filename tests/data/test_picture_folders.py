"""Folders of pictures in every layout, with everything that people and systems leave in them."""

import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from tests.helpers import tone

from cymatic.data.examples import Reading, load_examples
from cymatic.data.folder import read_folder
from cymatic.data.inspection import inspect_folder
from cymatic.data.settings import DataSettings
from cymatic.errors import Error, PictureError, SoundError
from cymatic.media.picture import PICTURE, Picture, PictureSpec
from cymatic.media.sound import Sound

SPEC = PictureSpec(size=8)


def dots(seed=0, size=12, channels=3):
    return Picture(np.random.default_rng(seed).random((size, size, channels)))


def examples(folder, **settings):
    said = []
    data = load_examples(
        DataSettings(folder=str(folder), **settings), Reading("picture", SPEC), captions=True, say=said.append
    )
    return data, said


# --- layouts


def texts_beside(root):
    for i, caption in enumerate(("a red apple", "ein Frosch")):
        dots(i).write(root / f"{i}.png")
        (root / f"{i}.txt").write_text(caption, encoding="utf-8")


def class_folders(root):
    for i, caption in enumerate(("a red apple", "ein Frosch")):
        (root / caption).mkdir()
        dots(i).write(root / caption / "1.png")


def csv(root):
    for i in range(2):
        dots(i).write(root / f"{i}.png")
    (root / "metadata.csv").write_text("file_name,caption\n0.png,a red apple\n1.png,ein Frosch\n", encoding="utf-8")


def json_lines(root):
    for i in range(2):
        dots(i).write(root / f"{i}.png")
    rows = [{"picture": "0.png", "caption": "a red apple"}, {"picture": "1.png", "caption": "ein Frosch"}]
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def names(root):
    for i, caption in enumerate(("a-red-apple_1", "ein-Frosch_1")):
        dots(i).write(root / f"{caption}.png")


@pytest.mark.parametrize("layout", [texts_beside, class_folders, csv, json_lines, names])
def test_layouts(tmp_path, layout):
    layout(tmp_path)
    folder = read_folder(tmp_path)
    assert folder.role == "picture" and not folder.skipped
    assert sorted(item.caption for item in folder.items) == ["a red apple", "ein Frosch"]
    data, _ = examples(tmp_path)
    for one in (*data.train, *data.valid):
        assert one.target.shape == (3, 8, 8) and one.target.dtype == torch.float32


# --- what systems and people leave beside them


def test_what_systems_leave_is_passed_by_in_silence(tmp_path):
    texts_beside(tmp_path)
    for name in ("Thumbs.db", ".DS_Store", "._0.png", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    for name in (".thumbnails", "__MACOSX", "@eaDir"):
        (tmp_path / name).mkdir()
        dots(9).write(tmp_path / name / "0.png")
    folder = read_folder(tmp_path)
    assert len(folder.items) == 2 and not folder.skipped


def test_captions_that_are_not_utf8_or_empty_or_missing_are_named(tmp_path):
    texts_beside(tmp_path)
    for name, text in (("latin", "übel".encode("latin-1")), ("empty", b" \n"), ("utf16", "Frosch".encode("utf-16"))):
        dots(ord(name[0])).write(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_bytes(text)
    dots(7).write(tmp_path / "bare.png")
    skipped = {one.name: one.why for one in read_folder(tmp_path).skipped}
    assert skipped == {
        "latin.png": "has a caption that is not UTF-8 (latin.txt)",
        "utf16.png": "has a caption that is not UTF-8 (utf16.txt)",
        "empty.png": "has an empty caption (empty.txt)",
        "bare.png": "has no .txt with its caption beside it",
    }


def test_pictures_that_share_a_name_are_both_there(tmp_path):
    dots(0).write(tmp_path / "apple.png")
    dots(1).write(tmp_path / "apple.jpg")
    dots(2).write(tmp_path / "Apple.webp")
    (tmp_path / "apple.txt").write_text("an apple")
    folder = read_folder(tmp_path)
    assert [item.path().name for item in folder.items] == ["apple.jpg", "apple.png"]
    assert {item.caption for item in folder.items} == {"an apple"}
    assert [(one.name, one.why) for one in folder.skipped] == [("Apple.webp", "has no .txt with its caption beside it")]


def test_the_same_picture_twice_is_used_once_and_said(tmp_path):
    for name in ("apple_1.png", "apple_2.png"):
        dots(0).write(tmp_path / name)
    dots(1).write(tmp_path / "frog_1.png")
    data, said = examples(tmp_path)
    assert len(data.train) + len(data.valid) == 2
    assert any("1 exact copies under the same caption are left out" in line for line in said)


def test_broken_ones_are_named_and_the_rest_is_used(tmp_path):
    names(tmp_path)
    whole = dots(3, 64).write(tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "none.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no picture at all")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "tiff.png", "TIFF")
    Picture(np.full((8, 8, 3), 0.5)).write(tmp_path / "grey.png")
    (tmp_path / "vector.svg").write_text("<svg/>")
    found = inspect_folder(tmp_path)
    broken = {one.name: one.why for one in found.broken}
    assert broken.keys() == {"cut.png", "none.png", "text.png", "tiff.png"}
    assert all("\n" not in why and len(why) < 200 for why in broken.values())
    assert [found.name(item) for item in found.empty] == ["grey.png"]
    assert [(one.name, one.why) for one in found.others] == [("vector.svg", "is not a picture by its extension")]
    data, said = examples(tmp_path)
    assert len(data.train) + len(data.valid) == 2
    assert any(line.endswith("grey.png: is blank") for line in said)


# --- files that are pictures of an unusual kind


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep(tmp_path, colours=3):
    """16 bits a channel: a PNG as cameras and Photoshop write it."""
    values = np.linspace(0, 65_535, 8 * 8 * colours).reshape(8, 8, colours).astype(">u2")
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    head = struct.pack(">IIBBBBB", 8, 8, 16, {1: 0, 2: 4, 3: 2, 4: 6}[colours], 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )
    return tmp_path / "a.png", values / 65_535


@pytest.mark.parametrize("colours", [1, 2, 3, 4])
def test_sixteen_bits_a_channel(tmp_path, colours):
    path, values = deep(tmp_path, colours)
    picture = Picture.read(path)
    assert picture.pixels.shape == (8, 8, 4 if colours in (2, 4) else 3)
    shown = values[..., : colours - 1] if colours in (2, 4) else values
    np.testing.assert_allclose(picture.pixels[..., :3], np.broadcast_to(shown, (8, 8, 3)), atol=1 / 128)
    if colours in (2, 4):
        np.testing.assert_allclose(picture.pixels[..., 3], values[..., -1], atol=1 / 128)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_of_an_animation_the_first_frame_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    path = tmp_path / f"a.{kind.lower()}"
    more = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(path, kind, save_all=True, append_images=frames[1:], duration=100, **more)
    assert Image.open(path).n_frames == 3, "it is an animation"
    np.testing.assert_allclose(Picture.read(path).pixels[4, 4, :3], [1, 0, 0], atol=0.01)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 9), (20_000, 3), (3, 20_000)])
def test_the_smallest_and_the_longest(tmp_path, width, height):
    draws = np.random.default_rng(0)
    picture = Picture.read(Picture(draws.random((height, width, 3))).write(tmp_path / "a.png"))
    assert PICTURE.prepare(picture, SPEC).shape == (3, 8, 8)
    picture.plot(tmp_path / "plot.png")
    assert np.isfinite(PICTURE.outline(picture)).all()


def test_twenty_thousand_pixels_each_way_are_refused_unread(tmp_path):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(PictureError, match=r"claims .*megapixels; give a smaller picture"):
        Picture.read(tmp_path / "a.png")


# --- one medium where another is expected


def test_a_sound_is_no_picture_and_a_picture_no_sound(tmp_path):
    tone(440, 0.1).write(tmp_path / "a.wav")
    dots().write(tmp_path / "a.png")
    (tmp_path / "really-a-sound.png").write_bytes((tmp_path / "a.wav").read_bytes())
    (tmp_path / "really-a-picture.wav").write_bytes((tmp_path / "a.png").read_bytes())
    for path in ("a.wav", "really-a-sound.png"):
        with pytest.raises(PictureError, match="is not a picture that can be read; give a PNG, JPEG"):
            Picture.read(tmp_path / path)
    for path in ("a.png", "really-a-picture.wav"):
        with pytest.raises(SoundError) as said:
            Sound.read(tmp_path / path)
        assert path in str(said.value) and "\n" not in str(said.value)


def test_a_folder_of_the_other_medium_is_refused(tmp_path):
    names(tmp_path)
    with pytest.raises(Error, match=r"holds no sound to train on.*is not a sound by its extension"):
        read_folder(tmp_path, role="audio")
