"""Plots: any sound gives a picture of the size that was promised, with something on it, the same every time."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from cymatic.errors import Error, SoundError
from cymatic.media.plot import attention_sheet, contact_sheet
from cymatic.media.sound import Sound


def picture(path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("L"), dtype=np.float32)


def noise(channels: int, samples: int, rate: int = 24_000) -> Sound:
    generator = np.random.default_rng(0)
    return Sound(generator.standard_normal((channels, samples), dtype=np.float32) * 0.1, rate, {"prompt": "noise"})


@pytest.mark.parametrize(
    "sound",
    [
        noise(1, 24_000),
        noise(1, 1),
        noise(1, 1, rate=1),
        noise(2, 30),
        noise(8, 50_000, rate=192_000),
        noise(3, 1000, rate=768_000),
        noise(1, 3_000_000, rate=1000),  # 50 minutes
        Sound(np.zeros((1, 24_000)), 24_000),
        Sound(np.full((1, 1000), 1e30), 24_000),
    ],
    ids=repr,
)
def test_any_sound_has_a_plot(tmp_path, sound):
    path = sound.plot(tmp_path / "plot.png")
    pixels = picture(path)
    assert pixels.shape == (560, 1000)
    assert pixels[300].std() > 1  # at least a frame
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]


def test_a_tone_is_a_dark_line_at_its_height(tmp_path):
    hz = np.array([500, 4000])
    waves = np.sin(2 * np.pi * hz[:, None] * np.arange(24_000) / 24_000)
    rows = []
    for wave in waves:
        pixels = picture(Sound(wave, 24_000).plot(tmp_path / "tone.png"))
        rows.append(int(pixels[195:500, 300:700].mean(axis=1).argmin()))
        assert pixels[195:500, 300:700].mean(axis=1).min() < 100 < np.median(pixels[195:500, 300:700])
    assert rows[0] - rows[1] > 100  # the lower tone is lower down by several octaves


def test_silence_is_white_and_noise_is_not(tmp_path):
    silent = picture(Sound(np.zeros(24_000), 24_000).plot(tmp_path / "a.png"))
    loud = picture(noise(1, 24_000).plot(tmp_path / "b.png"))
    assert silent[200:500, 100:950].min() == 255
    assert loud[200:500, 100:950].mean() < 200


def test_same_sound_same_bytes(tmp_path):
    a = noise(1, 5000).plot(tmp_path / "a.png").read_bytes()
    assert a == noise(1, 5000).plot(tmp_path / "b.png").read_bytes()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("title", ["costs $5 or $x^{", "狗叫 🐕", "two\nlines\0", "long " * 100, ""])
def test_any_title(tmp_path, title):
    assert picture(noise(1, 500).plot(tmp_path / "a.png", title=title)).shape == (560, 1000)


def test_contact_sheet(tmp_path):
    items = [(f"sound {i}", noise(1, 2000 + i)) for i in range(7)]
    wide = picture(contact_sheet(tmp_path / "wide.png", items, columns=4))
    tall = picture(contact_sheet(tmp_path / "tall.png", items, columns=2))
    assert wide.shape[1] > tall.shape[1] and wide.shape[0] < tall.shape[0]
    assert wide.std() > 20
    last = wide[-110:, -220:]  # seven of eight fields are filled
    assert last.min() == 255


def test_contact_sheet_refuses_nothing_and_far_too_much(tmp_path):
    with pytest.raises(SoundError, match="show 0 sounds"):
        contact_sheet(tmp_path / "a.png", [])
    with pytest.raises(SoundError, match="show 401 sounds"):
        contact_sheet(tmp_path / "a.png", [("a", noise(1, 10))] * 401)
    with pytest.raises(SoundError, match="0 columns"):
        contact_sheet(tmp_path / "a.png", [("a", noise(1, 10))], columns=0)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing(tmp_path):
    with pytest.raises(SoundError, match="there is no folder"):
        noise(1, 100).plot(tmp_path / "missing" / "a.png")


def test_plotting_needs_neither_torch_nor_scipy_nor_pyplot(tmp_path):
    code = (
        "import sys; from cymatic.media.sound import Sound; Sound([0.5, -0.5], 8000).plot(sys.argv[1]); "
        "print(sorted({'torch', 'scipy', 'matplotlib.pyplot'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_hour_is_drawn_from_a_bounded_number_of_frames(tmp_path):
    start = time.perf_counter()
    noise(1, 3600 * 8000, rate=8000).plot(tmp_path / "hour.png")
    assert time.perf_counter() - start < 20  # generous: every frame would take minutes


def test_maps_of_attention(tmp_path):
    draws = np.random.default_rng(0).random((3, 20, 20))
    lower = np.tril(draws)
    maps = [lower / lower.sum(-1, keepdims=True)] * 2
    first = attention_sheet(tmp_path / "maps.png", maps).read_bytes()
    assert Image.open(tmp_path / "maps.png").size == (510, 380)
    assert attention_sheet(tmp_path / "again.png", maps).read_bytes() == first
    with pytest.raises(Error, match="0 maps of attention were given"):
        attention_sheet(tmp_path / "none.png", [])
    with pytest.raises(Error, match="give 1 to 64"):
        attention_sheet(tmp_path / "many.png", [np.ones((9, 2, 2))] * 9)
