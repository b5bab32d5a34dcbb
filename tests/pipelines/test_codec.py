"""A codec folder as a model: with files where its codes are kept in them, and as latents of any medium otherwise."""

import numpy as np
import pytest
import torch
from tests.helpers import save_codec, tiny_codec, tone

import cymatic
from cymatic.codecs.palette import PaletteCodec, PaletteCodecConfig
from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.errors import ModelError
from cymatic.hub.parts import fingerprint, save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.media.picture import PictureSpec
from cymatic.pipelines.codec import MediaCodec
from cymatic.pipelines.load import load_codec, load_generator
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.quantizers.gaussian import GaussianBottleneckConfig
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import PRESETS

SOUND = tone(440, 0.3)


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """A codec of waveforms at 2 kHz that gives latents and no codes."""
    codec = tiny_codec(quantizer=GaussianBottleneckConfig(dim=8, latent=4))
    return save_codec(tmp_path_factory.mktemp("models") / "smooth", codec)


@pytest.fixture(scope="module")
def of_mels():
    torch.manual_seed(0)
    config = SpectrogramCodecConfig(
        mel=PRESETS["voice-8k"], width=16, multiples=(1, 2), blocks=1, attention=(), latent=16, patch=(8, 4), groups=4,
        quantizer=VectorQuantizerConfig(size=32, dim=16),
    )  # fmt: skip
    codec = SpectrogramCodec(config)
    codec.steps_trained.fill_(1)
    return MediaCodec(codec, name="grid")


def test_codes_that_are_kept_in_files_make_a_codec_of_sounds(codec_folder):
    made = cymatic.load(codec_folder)
    assert isinstance(made, SoundCodec) and made.rows == 2, "it spends 0.4 of its 0.6 kbps"
    assert np.array_equal(load_codec(codec_folder).encode(SOUND).codes, made.encode(SOUND).codes)


def test_latents_make_a_codec_that_keeps_no_files(latents):
    made = cymatic.load(latents)
    assert isinstance(made, MediaCodec)
    assert (made.name, made.sha256) == ("smooth", fingerprint([latents / "codec"]))
    latent = made.encode(SOUND)
    assert latent.codes is None and latent.z.shape[:2] == (1, 4)
    with pytest.raises(
        ModelError, match="smooth gives no codes but latents for a prior; give a codec with a quantizer"
    ):
        load_codec(latents)


def test_a_sound_comes_back_at_its_length_and_says_what_made_it(latents):
    made = cymatic.load(latents)
    back = made.reconstruct(SOUND)
    assert (back.rate, len(back)) == (2000, len(SOUND.resample(2000)))
    assert back.info == {"model": "smooth", "sha256": made.sha256, "cymatic": cymatic.__version__}
    assert np.array_equal(made.reconstructions(SOUND)["codec"].samples, back.samples)
    assert made.decode(made.encode(SOUND)).shape[-1] >= len(back)


def test_a_codec_of_mels_gives_mels_and_no_sound(of_mels):
    latent = of_mels.encode(SOUND)
    mel = of_mels.target(SOUND)
    assert latent.codes.shape[1] == of_mels.codec.rows and latent.layout == "grid"
    assert of_mels.decode(latent).shape == mel.shape
    assert not of_mels.heard_directly and of_mels.reconstructions(SOUND) == {}
    with pytest.raises(ModelError, match="grid gives mels, which are heard through a vocoder"):
        of_mels.reconstruct(SOUND)


def test_a_codec_of_mels_is_no_codec_of_files(of_mels, tmp_path):
    save_part(tmp_path / "grid/codec", of_mels.codec)
    write_pipeline(tmp_path / "grid", PipelineFile(parts={"codec": "codec"}))
    assert torch.equal(cymatic.load(tmp_path / "grid").encode(SOUND).codes, of_mels.encode(SOUND).codes)
    with pytest.raises(ModelError, match="is no codec; give a model that turns sounds into codes"):
        load_codec(tmp_path / "grid")
    with pytest.raises(ModelError, match="makes nothing of its own; give a model with a prior"):
        load_generator(tmp_path / "grid")


def test_a_codec_of_pictures_is_called_one(tmp_path):
    codec = PaletteCodec(PaletteCodecConfig(picture=PictureSpec(size=4), colours=4))
    codec.steps_trained.fill_(1)
    save_part(tmp_path / "dots/codec", codec)
    write_pipeline(tmp_path / "dots", PipelineFile(parts={"codec": "codec"}))
    with pytest.raises(ModelError, match="dots is a codec of pictures, whose codes no file keeps; use cymatic recon"):
        load_codec(tmp_path / "dots")
