"""Encoders of several media in one space."""

import pytest
import torch
from tests.helpers import tone

import cymatic
from cymatic.encoders.sound import SoundConfig, SoundEncoder
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.pipelines.embed import Embedder
from cymatic.signal.mel import PRESETS

SOUNDS = [tone(220, 0.3), tone(880, 0.5)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An alignment of words and sounds whose weights are drawn at random."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models") / "both"
    sound = SoundEncoder(SoundConfig(mel=PRESETS["voice-8k"], width=32, depth=1, heads=2, dim=16))
    save_part(root / "caption", TextEncoder(TextConfig(dim=16)))
    save_part(root / "audio", sound)
    write_pipeline(root, PipelineFile(parts={"caption": "caption", "audio": "audio"}))
    return root


@pytest.fixture(scope="module")
def model(folder):
    made = cymatic.load(folder)
    assert isinstance(made, Embedder) and set(made.encoders) == {"caption", "audio"}
    return made


@pytest.mark.parametrize(("role", "values"), [("caption", ["low tone", "a much higher tone"]), ("audio", SOUNDS)])
def test_vectors_have_unit_norm_and_do_not_depend_on_company(model, role, values):
    together = model.embed(values, role)
    assert together.shape[0] == 2
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))
    assert not torch.allclose(together[0], together[1])
    for i, value in enumerate(values):
        torch.testing.assert_close(model.embed([value], role)[0], together[i], atol=1e-5, rtol=0)


def test_vectors_of_all_roles_can_be_compared(model):
    similar = model.embed(["low tone"], "caption") @ model.embed(SOUNDS, "audio").T
    assert similar.shape == (1, 2) and similar.abs().max() <= 1 + 1e-6


def test_what_is_asked_wrongly(model, folder):
    with pytest.raises(Error, match='both has no encoder for "audo"; did you mean "audio"'):
        model.embed(SOUNDS, "audo")
    with pytest.raises(Error, match="no values were given to embed"):
        model.embed([], "audio")
    with pytest.raises(ModelError, match="makes nothing of its own"):
        cymatic.pipelines.load.load_generator(folder)


def test_a_part_that_is_missing_is_named(folder, tmp_path):
    write_pipeline(tmp_path, PipelineFile(parts={"caption": "caption", "audio": "audio"}))
    save_part(tmp_path / "caption", cymatic.load(folder).encoders["caption"])
    with pytest.raises(ModelError, match=r"lacks its audio \(audio/config.json is missing\)"):
        cymatic.load(tmp_path)


def test_values_of_all_kinds_are_read_by_the_encoder_of_their_kind(model, tmp_path):
    SOUNDS[0].write(tmp_path / "low.wav")
    mixed = model.embed(["low tone", SOUNDS[0], tmp_path / "low.wav", 3 * model.embed(["low tone"])[0]])
    torch.testing.assert_close(mixed[0], model.embed(["low tone"], "caption")[0])
    torch.testing.assert_close(mixed[1], model.embed(SOUNDS[:1], "audio")[0])
    torch.testing.assert_close(mixed[2], mixed[1], atol=1e-2, rtol=0)  # a file of 16 bits
    torch.testing.assert_close(mixed[3], mixed[0])


def test_candidates_are_ranked(model):
    candidates = ["a much higher tone", SOUNDS[1], "low tone", SOUNDS[0], "low tone"]
    found = model.rank("low tone", candidates)
    assert [one for _, one in found[:2]] == ["low tone", "low tone"] and found[0][0] == pytest.approx(1, abs=1e-5)
    scores = [round(score, 6) for score, _ in found]
    assert len(found) == 5 and scores == sorted(scores, reverse=True)
    twice = model.rank(SOUNDS[0], [SOUNDS[1], SOUNDS[0], SOUNDS[0]])
    assert twice[0][1] is SOUNDS[0] and twice[2][1] is SOUNDS[1]
    sum_of_two = model.embed(["low tone"])[0] + model.embed(SOUNDS[1:])[0]
    assert model.rank(sum_of_two, ["low tone", SOUNDS[1]])[0][0] > model.rank("low tone", [SOUNDS[1]])[0][0]


@pytest.mark.parametrize("value", [torch.zeros(16), torch.ones(15), [float("nan")] * 16, None, 3, {"a": 1}, object()])
def test_what_lies_in_no_space(model, value):
    with pytest.raises(Error, match="both reads words, sounds, and vectors of 16 finite numbers, not all of them 0"):
        model.rank("low tone", [value])


def test_candidates_that_are_none(model, tmp_path):
    with pytest.raises(Error, match="there are no candidates to rank"):
        model.rank("low tone", [])
    with pytest.raises(Error, match="came where several values are read; give them as a list"):
        model.rank("low tone", "high tone")
    with pytest.raises(Error, match="has no encoder that reads pictures"):
        model.embed([tmp_path / "picture.png"])
    with pytest.raises(Error, match="is no file that both reads; give words, sounds"):
        model.embed([tmp_path / "notes.txt"])
