"""`cymatic picture` with a Stable Diffusion: of words, and of sounds that AudioToken makes a word of."""

import shutil

import pytest
import torch
from tests.conftest import installed
from tests.helpers import quiet, tone

import cymatic
from cymatic.apps.model_list import look
from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.hub.importing import import_model
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import read_pipeline, write_pipeline
from cymatic.media.picture import Picture
from cymatic.pipelines.load import load_word
from cymatic.pipelines.stable_diffusion import PictureDiffusion
from cymatic.signal.mel import PRESETS

SMALL = ("--steps", 2)


@pytest.fixture(scope="module")
def diffusion(reference):
    installed("diffusers", "hub")
    installed("transformers", "hub")
    return reference("diffusers_stable_diffusion").folder


@pytest.fixture(scope="module")
def token(reference, diffusion, tmp_path_factory):
    """BEATs of the fixture with an embedder of the Stable Diffusion's width, as a model."""
    place = tmp_path_factory.mktemp("models") / "rain"
    import_model(place, mel=PRESETS["sound-24k"], source=reference("beats").folder / "beats.pt", say=quiet)
    width = cymatic.load(place).encoders["audio"].config.dim
    torch.manual_seed(0)
    config = AudioTokenConfig(inside=width * 2, dim=cymatic.load(diffusion).diffusion.width, layers=(0, 1))
    save_part(place / "token", AudioTokenEmbedder(config))
    write_pipeline(place, read_pipeline(place).model_copy(update={"parts": {"audio": "audio", "token": "token"}}))
    return place


def test_words_draw(cli, diffusion, tmp_path):
    ran = cli("picture", "a photo", "--model", diffusion, *SMALL, "-n", 2, "--seed", 3, "-o", "a.png")
    assert ran.code == 0, ran.err
    picture = Picture.read(tmp_path / "a-2.png")
    assert picture.info["seed"] == 4 and picture.info["prompt"] == "a photo"
    assert isinstance(cymatic.load(diffusion), PictureDiffusion)


def test_a_sound_draws_with_a_token(cli, diffusion, token, tmp_path):
    tone(300, 0.8).write(tmp_path / "rain.wav")
    asked = ("picture", "rain.wav", "--model", diffusion, *SMALL, "-o", "a.png")
    ran = cli(*asked)
    assert ran.code == 2 and "reads words and no" in ran.err and "--token" in ran.err
    ran = cli(*asked, "--token", token)
    assert ran.code == 2 and "the prompt is too long" in ran.err, "this tiny text tower reads 14 tokens"
    ran = cli(*asked, "--token", token, "--template", "a <*>")
    assert ran.code == 0, ran.err
    info = Picture.read(tmp_path / "a.png").info
    assert (info["prompt"], info["template"], info["token"]) == ("rain.wav", "a <*>", "rain")


def test_a_model_of_both_names_what_draws(diffusion, token, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(token, both)
    write_pipeline(both, read_pipeline(both).model_copy(update={"generator": str(diffusion)}))
    model = cymatic.load(both)
    assert isinstance(model, PictureDiffusion) and model.name == "both"
    assert torch.equal(model.word.words([tone(300, 0.8)]), load_word(token).words([tone(300, 0.8)]))
    assert look("both", both).makes == "words of sounds, for a Stable Diffusion"


def test_what_does_not_fit_is_said(cli, diffusion, token, tmp_path):
    tone(300, 0.8).write(tmp_path / "a.wav")
    for arguments, said in (
        (("a", "--model", token), "give the folder of one as the model"),
        (("a", "--model", "starter-picture", "--token", token), "--token is for a Stable Diffusion"),
        (("a", "--model", diffusion, "--token", "starter-picture"), "makes no words of sounds"),
        (("a", "--model", diffusion, "--token", "nowhere"), "there is no model"),
        (("a", "--model", diffusion, "--template", "a <*>"), "give --token, which makes one"),
        (("a", "--model", "starter-picture", "--template", "a <*>"), "--template is for a Stable Diffusion"),
        (("a.wav", "--model", diffusion, "--token", token, "--template", "a"), "has no <*>"),
    ):
        ran = cli("picture", *arguments, "-o", "a.png")
        assert ran.code == 2 and said in ran.err, (arguments, ran.err)
    ran = cli("sound", "a", "--model", diffusion, "-o", "b.wav")
    assert ran.code == 2 and "makes pictures and no sounds" in ran.err
    assert not (tmp_path / "a.png").exists() and (tmp_path / "a.wav").stat().st_size > 1000


def test_it_is_imported(cli, reference, tmp_path):
    beats, embedder = reference("beats"), reference("audiotoken_embedder")
    path = embedder.folder / "embedder_learned_embeds.bin"
    ran = cli("import", beats.folder / "beats.pt", "--token", path, "-o", "models/rain")
    assert ran.code == 0, ran.err
    assert read_pipeline(tmp_path / "models/rain").has_word
    ran = cli("import", "--token", path, "-o", "models/none")
    assert ran.code == 2 and "give BEATs' file first" in ran.err
