"""What every medium promises: files come back as they were written, parts get what their spec says, and back again."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from cymatic.data.folder import read_folder
from cymatic.data.reading import Reading, load_items
from cymatic.errors import Error
from cymatic.media import MEDIA, medium_of
from cymatic.media.features import FeatureSpec
from cymatic.media.medium import Facts, Spec
from cymatic.media.picture import Picture, PictureSpec
from cymatic.media.sound import Sound
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import PRESETS


@dataclass(frozen=True)
class Row:
    """A medium: how to make a value of a size, what is in a value, its specs, and which of them `restore` inverts."""

    name: str
    suffix: str
    make: Any
    blank: Any
    array: Any
    specs: tuple[Spec, ...]
    whole: Spec


def _sound(size: int) -> Sound:
    times = np.arange(4000 + 100 * size) / 8000
    return Sound(0.5 * np.sin(2 * np.pi * 440 * times)[None] * np.exp(-3 * times), 8000)


def _picture(size: int) -> Picture:
    rows, columns = np.mgrid[: 16 + size, : 16 + size] / (16 + size)
    return Picture(np.stack([rows, columns, 0.5 + 0 * rows], axis=2))


ROWS = [
    Row(
        "audio", ".wav", _sound, lambda: Sound(np.zeros(4000), 8000), lambda sound: sound.samples,
        (WaveSpec(rate=8000), WaveSpec(rate=16_000, channels=2), PRESETS["voice-8k"]), WaveSpec(rate=8000),
    ),
    Row(
        "picture", ".png", _picture, lambda: Picture(np.ones((9, 9, 3))), lambda picture: picture.pixels,
        (PictureSpec(size=16), PictureSpec(size=7, background=(0, 0, 0))), PictureSpec(size=16),
    ),
    Row(
        "features", ".npy", lambda size: np.random.default_rng(size).normal(size=(9 + size, 5)).astype(np.float32),
        lambda: np.zeros((4, 5), np.float32), np.asarray, (FeatureSpec(dim=5), FeatureSpec()), FeatureSpec(dim=5),
    ),
]  # fmt: skip
each = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


def test_every_medium_is_held_to_the_contract():
    assert {row.name for row in ROWS} == set(MEDIA)
    suffixes = [suffix for medium in MEDIA.values() for suffix in medium.suffixes]
    assert len(suffixes) == len(set(suffixes)), "a suffix is of one medium"
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in suffixes)
    for name, medium in MEDIA.items():
        assert medium.name == name and medium_of(medium.example) is medium


@each
def test_a_file_comes_back_as_it_was_written(row, tmp_path):
    medium, value = MEDIA[row.name], row.make(0)
    path = medium.write(value, tmp_path / f"a{row.suffix}")
    assert path == tmp_path / f"a{row.suffix}"
    np.testing.assert_allclose(row.array(medium.read(path)), row.array(value), atol=1 / 255)


@each
def test_facts_tell_the_empty_from_the_rest_and_survive_the_cache(row, tmp_path):
    medium = MEDIA[row.name]
    for name, value, empty in (("full", row.make(0), False), ("empty", row.blank(), True)):
        path = medium.write(value, tmp_path / f"{name}{row.suffix}")
        facts, kept = medium.examine(path, 99.0)
        assert facts.empty is empty and facts == medium.facts(path)
        assert Facts.from_bytes(facts.as_bytes()) == facts
        assert set(medium.details) <= set(facts.details)
        assert (facts.length is None) == (medium.windows is None)
        np.testing.assert_array_equal(row.array(kept), row.array(medium.read(path)))


@each
def test_prepared_tensors_have_the_shape_of_their_spec(row):
    medium = MEDIA[row.name]
    for spec in row.specs:
        assert spec.medium == row.name
        prepared = medium.prepare(row.make(3), spec)
        assert len(prepared.shape) == len(spec.shape) and prepared.isfinite().all()
        assert all(want in (-1, got) for want, got in zip(spec.shape, prepared.shape, strict=True))
        assert torch.equal(prepared, medium.prepare(row.make(3), spec))
        if -1 in spec.shape:
            length = prepared.shape[spec.shape.index(-1)]
            seconds = spec.seconds(length)
            assert (seconds is None) == (medium.windows is None)


@each
def test_restoring_undoes_preparing(row):
    medium, value = MEDIA[row.name], row.make(0)
    prepared = medium.prepare(value, row.whole)
    back = medium.restore(prepared, row.whole, {"seed": 1})
    assert row.array(back).shape == row.array(value).shape
    middle = slice(100, -100) if row.name == "audio" else slice(None)  # the ends of what was made are faded
    np.testing.assert_allclose(row.array(back)[:, middle], row.array(value)[:, middle], atol=2e-3)
    if hasattr(back, "info"):
        assert back.info == {"seed": 1}


@each
def test_outlines_have_one_size_and_tell_values_apart(row):
    medium = MEDIA[row.name]
    one, other = medium.outline(row.make(0)), medium.outline(row.make(8))
    assert one.shape == other.shape and one.ndim == 1 and one.dtype == np.float32
    assert np.isfinite(medium.outline(row.blank())).all()
    np.testing.assert_array_equal(one, medium.outline(row.make(0)))


@each
@pytest.mark.parametrize("content", [b"", b"\x00", b"RIFF", b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\x00", b"hello" * 99])
def test_what_is_no_such_file_is_said_in_one_sentence(row, content, tmp_path):
    path = tmp_path / f"bad{row.suffix}"
    path.write_bytes(content)
    with pytest.raises(Error, match=r"bad\.\w+['\"]? ") as said:
        MEDIA[row.name].examine(path, 1.0)
    assert "\n" not in str(said.value)
    for missing in (tmp_path / f"none{row.suffix}", path / f"below{row.suffix}"):
        with pytest.raises(FileNotFoundError, match="does not exist; give"):
            MEDIA[row.name].read(missing)
    with pytest.raises(Error):
        MEDIA[row.name].read(tmp_path)


@each
def test_a_folder_of_files_becomes_examples_once_and_again_from_the_cache(row, tmp_path):
    medium = MEDIA[row.name]
    for take in range(3):
        medium.write(row.make(take), tmp_path / f"thing_{take}{row.suffix}")
    medium.write(row.blank(), tmp_path / f"nothing{row.suffix}")
    (tmp_path / "notes.md").write_text("none of it")
    folder = read_folder(tmp_path)
    assert folder.role == row.name and folder.medium is medium and len(folder.items) == 4
    assert [one.why for one in folder.skipped] == [f"is not a {medium.noun} by its extension"]
    for spec in row.specs:
        first, again = (load_items(folder.items, Reading(row.name, spec), captions=True, longest=9.0) for _ in range(2))
        assert [one.caption for one in first.examples] == ["thing"] * 3
        assert [(one.why, one.broken) for one in first.skipped] == [(medium.empty, False)]
        for a, b in zip(first.examples, again.examples, strict=True):
            assert torch.equal(a.target, b.target) and a.target.dtype == b.target.dtype
