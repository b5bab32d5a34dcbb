"""Encoders of other projects become models that embed and rank."""

import pytest
import torch
from tests.conftest import installed
from tests.helpers import quiet, tone

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.hub.importing import import_model
from cymatic.hub.readers.towers import read_towers
from cymatic.media.audio import AUDIO
from cymatic.pipelines.embed import Embedder
from cymatic.signal.mel import PRESETS

MEL = PRESETS["specvqgan-22k"]


@pytest.fixture(scope="module", autouse=True)
def _hub():
    installed("transformers", "hub")


@pytest.mark.parametrize("name", ["beats", "hf_hubert"])
def test_sounds_are_compared_by_what_others_trained(reference, name, tmp_path):
    fixture = reference(name)
    source = fixture.folder / "beats.pt" if name == "beats" else fixture.folder
    if name == "hf_hubert" and not (source / "config.json").is_file():
        source = next(one.parent for one in sorted(source.rglob("config.json")))
    import_model(tmp_path / "model", mel=MEL, source=source, say=quiet)
    model = cymatic.load(tmp_path / "model")
    assert isinstance(model, Embedder) and list(model.encoders) == ["audio"] and model.reads == ["sounds"]
    low, high = tone(200, 1.0), tone(2000, 1.0)
    vectors = model.embed([low, high])
    assert vectors.shape == (2, model.dim) and torch.allclose(vectors.norm(dim=1), torch.ones(2), atol=1e-5)
    assert model.rank(low, [high, tone(201, 1.0)])[0][1] is not high
    low.write(tmp_path / "low.wav")
    read = AUDIO.read(tmp_path / "low.wav")
    torch.testing.assert_close(model.embed([tmp_path / "low.wav"]), model.embed([read]))
    with pytest.raises(Error, match="has no encoder that reads words"):
        model.embed(["a dog"])


def test_speech_lies_in_the_space_of_a_clip(reference, tmp_path):
    fixture, clip = reference("speechclip_parallel"), reference("hf_clip")
    heads = fixture.config["hubert"]["encoder_attention_heads"]
    folder = next(one.parent for one in sorted(clip.folder.rglob("config.json")))
    file = fixture.folder / "speechclip.ckpt"
    asked = {"mel": MEL, "say": quiet, "speech": file, "heads": heads}
    widths = [read_towers(folder).parts["picture"].config.dim, fixture.expected["embedding"].shape[-1]]
    if len(set(widths)) > 1:
        with pytest.raises(ModelError, match=f"vectors of {widths[1]} numbers and .* of {widths[0]}"):
            import_model(tmp_path / "model", source=folder, **asked)
    else:
        import_model(tmp_path / "model", source=folder, **asked)
        model = cymatic.load(tmp_path / "model")
        assert set(model.encoders) == {"audio", "picture", "caption"}
        assert len(model.rank(tone(200, 1.0), ["a dog", "a cat"])) == 2
    with pytest.raises(Error, match="is read beside the folder of its CLIP"):
        import_model(tmp_path / "none", **asked)
    with pytest.raises(ModelError, match="is no folder of CLIP's"):
        import_model(tmp_path / "none", source=reference("beats").folder / "beats.pt", **asked)
    assert not (tmp_path / "none").exists()
