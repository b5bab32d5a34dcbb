"""`cymatic embed` and `cymatic rank`: what is said of good and bad input."""

import numpy as np
import pytest
import torch

from cymatic.apps import cli
from cymatic.encoders.picture import PictureConfig, PictureEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.media.picture import Picture, PictureSpec
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.load import load_embedder


def space(folder, seed):
    torch.manual_seed(seed)
    picture = PictureConfig(picture=PictureSpec(size=8), halvings=1, width=16, depth=1, heads=2, dim=16)
    encoders = {"picture": PictureEncoder(picture), "caption": TextEncoder(TextConfig(dim=16))}
    Embedder(encoders, name="space").save(folder)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A space whose weights are drawn at random, and three pictures."""
    root = tmp_path_factory.mktemp("place")
    for number, colour in enumerate(("red", "green", "blue")):
        Picture(np.eye(3)[number] * np.ones((12, 10, 1))).write(root / f"{colour}.png")
    space(root / "space", 0)
    return root


def said(capsys, *words):
    code = cli.run(list(map(str, words)))
    out, err = capsys.readouterr()
    return code, out.splitlines(), err


def test_candidates_of_all_kinds_are_sorted(place, capsys):
    given = [place / "red.png", "green", place / "blue.png"]
    code, lines, _ = said(capsys, "rank", place / "blue.png", *given, "--model", place / "space")
    scores = [float(line.split("  ")[0]) for line in lines]
    assert code == 0 and lines[0] == f"1.000  {place / 'blue.png'}"
    assert scores == sorted(scores, reverse=True) and {line.split("  ")[1] for line in lines} == set(map(str, given))
    code, first, _ = said(capsys, "rank", place / "blue.png", *given, "--model", place / "space", "-n", 1)
    assert code == 0 and first == lines[:1]


def test_vectors_are_kept_and_ranked(place, tmp_path, capsys):
    file = tmp_path / "vectors.npz"
    files = [place / f"{colour}.png" for colour in ("red", "green", "blue")]
    code, lines, _ = said(capsys, "embed", *files, "a red apple", "-o", file, "--model", place / "space")
    assert code == 0 and lines == [f"{file}  4 vectors of 16 numbers by space"]
    kept = np.load(file)
    assert kept["vectors"].dtype == np.float32 and kept["names"].tolist() == [*map(str, files), "a red apple"]
    wanted = load_embedder(place / "space").embed([*files, "a red apple"])
    np.testing.assert_allclose(kept["vectors"], wanted.numpy(), atol=1e-6)
    fresh = said(capsys, "rank", "red", *files, "a red apple", "--model", place / "space")
    assert fresh[0] == 0 and said(capsys, "rank", "red", file, "--model", place / "space") == fresh


def test_vectors_of_another_space_are_refused(place, tmp_path, capsys):
    said(capsys, "embed", "red", "-o", tmp_path / "theirs.npz", "--model", place / "space")
    other = space(tmp_path / "other", 1)
    code, lines, err = said(capsys, "rank", "red", tmp_path / "theirs.npz", "--model", other)
    assert code == 2 and not lines and "holds vectors of space, and other has a space of its own" in err


@pytest.mark.parametrize(
    ("broken", "wanted"),
    [
        (b"", "is damaged, or nothing that cymatic embed wrote"),
        (b"PK\x03\x04 and nothing more", "is damaged, or nothing that cymatic embed wrote"),
        ({"vectors": np.ones((1, 16), np.float32)}, "is damaged, or nothing that cymatic embed wrote"),
        ({"vectors": np.ones((1, 16)), "names": np.array(["a"])}, "holds no vectors of unit norm"),
        ({"vectors": np.eye(2, 16, dtype=np.float32), "names": np.array(["a"])}, "holds no vectors of unit norm"),
        ({"vectors": np.full((1, 16), np.nan, np.float32), "names": np.array(["a"])}, "holds no vectors of unit norm"),
        ({"vectors": np.eye(1, 16, dtype=np.float32), "names": np.array([{}])}, "is damaged, or nothing that"),
    ],
)
def test_files_that_hold_no_vectors(place, tmp_path, capsys, broken, wanted):
    file = tmp_path / "broken.npz"
    if isinstance(broken, bytes):
        file.write_bytes(broken)
    else:
        also = {} if len(broken) == 1 else {"model": np.array("space"), "sha256": np.array("0" * 64)}
        np.savez(file, **broken, **also)
    code, lines, err = said(capsys, "rank", "red", file, "--model", place / "space")
    assert code == 2 and not lines and wanted in err and err.count("\n") == 1


def test_what_can_not_be_read_is_left_out_or_said(place, tmp_path, capsys):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "sound.wav").write_bytes(b"RIFF")
    given = [place / "red.png", broken, tmp_path / "not-there.png", tmp_path / "sound.wav", ""]
    code, lines, err = said(capsys, "rank", "red", *given, "--model", place / "space")
    assert code == 0 and len(lines) == 1 and "4 can't be read and are left out" in err and "broken.png" in err
    for words, wanted in (
        (["rank", "red", broken], "broken.png"),
        (["rank", "red", tmp_path / "sound.wav"], "has no encoder that reads sounds; its encoders are"),
        (["rank", tmp_path / "not-there.png", "red"], "not-there.png"),
        (["rank", "red", tmp_path], "is a folder; give its files, as in"),
        (["rank", "", "red"], "the prompt is empty; say in a few words what to make"),
        (["rank", "red", "green", "-n", "0"], "0 were asked for; give 1 or more"),
        (["rank", "red"], "Missing argument 'candidates'"),
        (["embed", "red", "-o", tmp_path / "out.txt"], "unknown extension"),
        (["embed", broken, "-o", tmp_path / "out.npz"], "broken.png"),
    ):
        code, lines, err = said(capsys, *words, "--model", place / "space")
        assert code == 2 and not lines and wanted in err, words
    assert not (tmp_path / "out.npz").exists()
    code, _, err = said(capsys, "rank", "red", "green", "--model", "starter-sound")
    assert code == 2 and "starter-sound finds and ranks nothing" in err


def test_a_word_may_be_the_name_of_a_folder_here(place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "red").mkdir()
    code, lines, _ = said(capsys, "rank", "red", "red", "green", "--model", place / "space")
    assert code == 0 and lines[0] == "1.000  red"


def test_a_model_that_holds_a_space_ranks(capsys):
    code, lines, _ = said(capsys, "rank", "red heart", "heart", "tram", "dog face")
    assert code == 0 and lines[0].endswith("  heart") and len(lines) == 3
