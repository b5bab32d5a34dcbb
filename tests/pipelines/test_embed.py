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
    together = model.embed(role, values)
    assert together.shape[0] == 2
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))
    assert not torch.allclose(together[0], together[1])
    for i, value in enumerate(values):
        torch.testing.assert_close(model.embed(role, [value])[0], together[i], atol=1e-5, rtol=0)


def test_vectors_of_all_roles_can_be_compared(model):
    similar = model.embed("caption", ["low tone"]) @ model.embed("audio", SOUNDS).T
    assert similar.shape == (1, 2) and similar.abs().max() <= 1 + 1e-6


def test_what_is_asked_wrongly(model, folder):
    with pytest.raises(Error, match='both has no encoder for "audo"; did you mean "audio"'):
        model.embed("audo", SOUNDS)
    with pytest.raises(Error, match="no values were given to embed"):
        model.embed("audio", [])
    with pytest.raises(ModelError, match="makes nothing of its own"):
        cymatic.pipelines.load.load_generator(folder)


def test_a_part_that_is_missing_is_named(folder, tmp_path):
    write_pipeline(tmp_path, PipelineFile(parts={"caption": "caption", "audio": "audio"}))
    save_part(tmp_path / "caption", cymatic.load(folder).encoders["caption"])
    with pytest.raises(ModelError, match=r"lacks its audio \(audio/config.json is missing\)"):
        cymatic.load(tmp_path)
