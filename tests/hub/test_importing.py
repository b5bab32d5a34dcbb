"""Other projects' files -> a model that makes sounds."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.helpers import quiet

import cymatic
from cymatic.errors import Error, ModelError
from cymatic.hub.importing import import_model
from cymatic.hub.parts import load_part
from cymatic.hub.specvqgan import read_codec
from cymatic.hub.transformers_codecs import PEERS, read_peer
from cymatic.signal.mel import PRESETS, MelSpec

MEL = PRESETS["specvqgan-22k"]
# The fixture's GPT was made over 20 mels.
SMALL = MelSpec(**{**MEL.model_dump(), "mels": 20})


@pytest.fixture
def files(fixtures_dir):
    return fixtures_dir / "specvqgan_transformer"


def test_codec_and_gpt_of_one_checkpoint_make_a_model(files, tmp_path):
    checkpoint, config = files / "feats.ckpt", files / "config_feats.yaml"
    said: list[str] = []
    import_model(
        tmp_path / "model", mel=SMALL, codec=checkpoint, prior=checkpoint, prior_config=config, say=said.append
    )
    assert any(line.startswith("feats.ckpt: left out") for line in said)
    assert json.loads((tmp_path / "model/pipeline.json").read_text())["kind"] == "mel-gpt"
    model = cymatic.load(tmp_path / "model")
    seen = np.load(files / "inputs.npz")["feature"][0].T
    sound = model(seen, seed=1)
    assert sound.rate == 22_050
    assert sound.seconds == pytest.approx(6 * 4 * 256 / 22_050)


def test_the_first_stage_inside_a_gpt_gives_the_fixtures_codes(files):
    held = np.load(files / "inputs.npz"), np.load(files / "expected.npz")
    codec = read_codec(files / "feats.ckpt", SMALL).codec
    mel = (torch.from_numpy(held[0]["x"][:, 0]) + 1) / 2
    codes = codec.encode(mel).codes
    assert torch.equal(codes.mT.flatten(1), torch.from_numpy(held[1]["z_indices"])), "column by column"


def test_a_class_gpt_keeps_the_names_of_its_classes(files, fixtures_dir, tmp_path):
    names = ["baby", "cough", "dog", "drum", "fireworks", "gun", "hammer"]
    import_model(
        tmp_path / "model", mel=SMALL, codec=files / "feats.ckpt", prior=files / "class.ckpt",
        prior_config=files / "config_class.yaml", classes=names, say=quiet,
    )  # fmt: skip
    model = cymatic.load(tmp_path / "model")
    assert model.captions == tuple(names)
    assert model("dog", seconds=0.2).info["prompt"] == "dog"
    with pytest.raises(ModelError, match="2 names came for the 7 classes"):
        import_model(
            tmp_path / "other", mel=SMALL, prior=files / "class.ckpt", prior_config=files / "config_class.yaml",
            classes=names[:2], say=quiet,
        )  # fmt: skip
    assert not (tmp_path / "other").exists()


def test_parts_alone(fixtures_dir, tmp_path):
    vocoder = fixtures_dir / "specvqgan_melgan/best_netG.pt"
    import_model(tmp_path / "vocoder", mel=MEL, vocoder=vocoder, say=quiet)
    assert {path.name for path in (tmp_path / "vocoder").iterdir()} == {"vocoder"}
    import_model(tmp_path / "codec", mel=MEL, codec=fixtures_dir / "karchkha_vqvae/vqvae.ckpt", say=quiet)
    assert {path.name for path in (tmp_path / "codec").iterdir()} == {"codec"}


def test_a_waveform_codec_of_another_project(fixtures_dir, tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'cymatic[hub]'")
    sources = {"encodec": "hf_encodec", "dac": "dac/weights.pth", "mono": "encodec_24khz/model.th"}
    for name, source in sources.items():
        import_model(tmp_path / name, mel=MEL, source=fixtures_dir / source, say=quiet)
        codec = load_part(tmp_path / name / "codec", PEERS)
        wave = torch.from_numpy(np.load(fixtures_dir / source.split("/")[0] / "inputs.npz")["wave"])
        assert torch.equal(codec.encode(wave).codes, read_peer(fixtures_dir / source).encode(wave).codes)


def test_a_waveform_codec_comes_alone(files, fixtures_dir, tmp_path):
    with pytest.raises(Error, match="give it alone"):
        import_model(tmp_path / "model", mel=MEL, source=fixtures_dir / "hf_dac", codec=files / "feats.ckpt", say=quiet)
    assert not (tmp_path / "model").exists()


def test_bad_input(files, tmp_path):
    with pytest.raises(Error, match="nothing was given to import"):
        import_model(tmp_path / "model", mel=MEL, say=quiet)
    with pytest.raises(ModelError, match="features and classes at once"):
        import_model(
            tmp_path / "model", mel=SMALL, prior=files / "feats_class.ckpt",
            prior_config=files / "config_feats_class.yaml", say=quiet,
        )  # fmt: skip
    (tmp_path / "there").mkdir()
    shutil.copy(files / "config_feats.yaml", tmp_path / "there")
    with pytest.raises(Error, match="is there already"):
        import_model(tmp_path / "there", mel=SMALL, codec=files / "feats.ckpt", say=quiet)
    assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
