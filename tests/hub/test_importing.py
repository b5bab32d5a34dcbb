"""Other projects' files -> a model that makes sounds."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.helpers import quiet

import cymatic
from cymatic.apps.cli import run
from cymatic.codecs import CODECS
from cymatic.errors import Error, ModelError
from cymatic.hub.importing import import_model
from cymatic.hub.parts import load_part
from cymatic.hub.readers.peer_codecs import PEERS, read_peer
from cymatic.hub.readers.specvqgan import read_codec
from cymatic.signal.mel import PRESETS, MelSpec

MEL = PRESETS["specvqgan-22k"]


def mel_of(rows: int) -> MelSpec:
    return MelSpec(**{**MEL.model_dump(), "mels": rows})


@pytest.fixture
def gpt(reference):
    return reference("specvqgan_transformer")


@pytest.fixture
def files(gpt):
    return gpt.folder


@pytest.fixture
def small(gpt):
    """The mel that the fixture's codec was made over."""
    return mel_of(gpt.inputs["x"].shape[2])


def test_codec_and_gpt_of_one_checkpoint_make_a_model(gpt, files, small, tmp_path):
    checkpoint, config = files / "feats.ckpt", files / "config_feats.yaml"
    said: list[str] = []
    import_model(
        tmp_path / "model", mel=small, codec=checkpoint, prior=checkpoint, prior_config=config, say=said.append
    )
    assert any(line.startswith("feats.ckpt: left out") for line in said)
    assert set(json.loads((tmp_path / "model/pipeline.json").read_text())["parts"]) == {
        *("encoder", "prior", "codec", "vocoder")
    }
    model = cymatic.load(tmp_path / "model")
    sound = model(gpt.inputs["feature"][0].T.numpy(), seed=1)
    assert sound.rate == 22_050
    assert sound.seconds == pytest.approx(gpt.config["W"] * gpt.config["down"] * 256 / 22_050)


def test_the_first_stage_inside_a_gpt_gives_the_fixtures_codes(gpt, files, small):
    codec = read_codec(files / "feats.ckpt", small).codec
    gpt.agrees("first_stage_latent", codec.to_codes(codec.encoder(gpt.inputs["x"])))
    codes = codec.encode((gpt.inputs["x"][:, 0] + 1) / 2).codes
    gpt.agrees("z_indices", codes.mT.flatten(1))  # column by column


def test_a_class_gpt_keeps_the_names_of_its_classes(gpt, files, small, tmp_path):
    count = gpt.config["classes"]
    names = [f"thing {i}" for i in range(count - 1)] + ["dog"]
    import_model(
        tmp_path / "model", mel=small, codec=files / "feats.ckpt", prior=files / "class.ckpt",
        prior_config=files / "config_class.yaml", classes=names, say=quiet,
    )  # fmt: skip
    model = cymatic.load(tmp_path / "model")
    assert model.captions == tuple(names)
    assert model("dog", seconds=0.2).info["prompt"] == "dog"
    with pytest.raises(ModelError, match=f"2 names came for the {count} classes"):
        import_model(
            tmp_path / "other", mel=small, prior=files / "class.ckpt", prior_config=files / "config_class.yaml",
            classes=names[:2], say=quiet,
        )  # fmt: skip
    assert not (tmp_path / "other").exists()


def test_parts_alone(reference, tmp_path):
    melgan, vqvae = reference("specvqgan_melgan"), reference("karchkha_vqvae")
    mel = mel_of(melgan.config["n_mel_channels"])
    import_model(tmp_path / "vocoder", mel=mel, vocoder=melgan.folder / "best_netG.pt", say=quiet)
    assert {path.name for path in (tmp_path / "vocoder").iterdir()} == {"vocoder"}
    import_model(tmp_path / "codec", mel=MEL, codec=vqvae.folder / "vqvae.ckpt", say=quiet)
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


@pytest.fixture
def dalle_mini(reference, tmp_path):
    """A folder as min-dalle keeps it and its decoder of pictures, which has as many codes here."""
    bart, detoker = reference("min_dalle_bart"), reference("min_dalle_detokenizer")
    folder = tmp_path / "dalle_bart"
    folder.mkdir()
    for name in ("encoder.pt", "decoder.pt"):
        shutil.copy(bart.folder / name, folder / name)
    letters = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *"abcdefghijklmnopqrstuvwxyz", "re", "red"]
    (folder / "vocab.json").write_text(json.dumps({text: i for i, text in enumerate(letters)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d\n", encoding="utf-8")
    tensors = torch.load(detoker.folder / "detoker.pt", weights_only=True)
    codes = bart.config["image_vocab_count"]
    tensors["embedding.weight"] = tensors["embedding.weight"].repeat(-(-codes // len(tensors["embedding.weight"])), 1)
    tensors["embedding.weight"] = tensors["embedding.weight"][:codes].clone()
    torch.save(tensors, tmp_path / "detoker.pt")
    return folder, tmp_path / "detoker.pt", bart.config["attention_head_count"]


def test_dalle_mini_makes_pictures_of_words(dalle_mini, tmp_path):
    folder, detoker, heads = dalle_mini
    where = tmp_path / "mini"
    assert run(["import", str(folder), "--codec", str(detoker), "--heads", str(heads), "-o", str(where)]) == 0
    model = cymatic.load(where)
    assert (model.defaults.guidance, model.defaults.top_k) == (10.0, 256)
    picture = model("A red dog", seed=1)
    side = 16 * model.codec.cell
    assert picture.pixels.shape == (side, side, 3) and picture.info["prompt"] == "A red dog"
    assert 0 <= picture.pixels.min() < picture.pixels.max() <= 1
    assert np.array_equal(picture.pixels, model("a red dog", seed=1).pixels)
    assert not np.array_equal(picture.pixels, model("a cat", seed=1).pixels)
    with pytest.raises(ModelError, match="this codec only decodes"):
        model.revocode(picture)


def test_dalle_mini_and_a_codec_that_is_not_its_own(dalle_mini, reference, tmp_path):
    folder, _, heads = dalle_mini
    other = reference("min_dalle_detokenizer")
    for codec, message in (
        (other.folder / "detoker.pt", f"the codec has {other.config['vocab_count']} codes and the prior"),
        (reference("karchkha_vqvae").folder / "vqvae.ckpt", "is no VQ-GAN of pictures"),
    ):
        with pytest.raises(ModelError, match=message):
            import_model(tmp_path / "mini", mel=MEL, source=folder, codec=codec, heads=heads, say=quiet)
    with pytest.raises(Error, match="makes no sounds; give it alone or with --codec"):
        import_model(tmp_path / "mini", mel=MEL, source=folder, vocoder=tmp_path / "best_netG.pt", say=quiet)
    assert not (tmp_path / "mini").exists()
    import_model(tmp_path / "parts", mel=MEL, source=folder, heads=heads, say=quiet)
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"prior", "encoder"}


def test_a_codec_of_pictures_comes_without_a_gpt(reference, files, tmp_path):
    detoker = reference("min_dalle_detokenizer").folder / "detoker.pt"
    import_model(tmp_path / "codec", mel=MEL, codec=detoker, say=quiet)
    assert load_part(tmp_path / "codec/codec", CODECS).config.decoder_only
    with pytest.raises(Error, match="GPTs over their codes can't be imported"):
        import_model(tmp_path / "model", mel=MEL, codec=detoker, prior=files / "feats.ckpt", say=quiet)


def test_bart_is_read_in_python(fixtures_dir, tmp_path):
    with pytest.raises(Error, match=r"writes text, and no model here does; read it in Python with .*read_bart"):
        import_model(tmp_path / "bart", mel=MEL, source=fixtures_dir / "hf_bart", say=quiet)


def test_bad_input(files, small, tmp_path):
    with pytest.raises(Error, match="nothing was given to import"):
        import_model(tmp_path / "model", mel=MEL, say=quiet)
    with pytest.raises(ModelError, match="features and classes at once"):
        import_model(
            tmp_path / "model", mel=small, prior=files / "feats_class.ckpt",
            prior_config=files / "config_feats_class.yaml", say=quiet,
        )  # fmt: skip
    (tmp_path / "there").mkdir()
    shutil.copy(files / "config_feats.yaml", tmp_path / "there")
    with pytest.raises(Error, match="is there already"):
        import_model(tmp_path / "there", mel=small, codec=files / "feats.ckpt", say=quiet)
    assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
