"""Other people's codecs from their files to the command line: imported, coded with, trained on, heard."""

import io
import json
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.apps.conftest import Ran
from tests.helpers import tone, tone_folder
from tests.hub.readers.test_peer_codecs import ENCODEC, MIMI, made, needs_transformers

import cymatic
from cymatic.apps.cli import run
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import save_part, write_json
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.hub.readers.peer_codecs import read_peer
from cymatic.media.cym import CymReader
from cymatic.media.sound import Sound
from cymatic.pipelines.generate import Generator

FILE = PipelineFile(parts={"codec": "codec"})
# Lumen's network is ours, so it is here where transformers is not.
SOURCES = {
    "encodec": "hf_encodec",
    "dac": "hf_dac",
    "encodec-th": "encodec_24khz/model.th",
    "dac-pth": "dac/weights.pth",
    "lumen": "seed_causal_vqae/model.pt",
}
LEVELS = 2  # that are coded, of three or four
SMALL = [
    "prior.encoder.dim=16", "prior.part={kind: gpt, width: 32, depth: 1, heads: 2}", "prior.levels=null",
    "prior.training={batch: 4, warmup: 2, steps: 8}", "data.longest=0.3",
]  # fmt: skip


def required(name):
    if name != "lumen" and find_spec("transformers") is None:
        pytest.skip("transformers is not installed: pip install 'cymatic[hub]'")


@pytest.fixture(scope="session")
def published(shared):
    """The fixtures that lie in shared/: the command line is tried with one channel and two levels or more."""
    return shared / "fixtures"


@pytest.fixture(scope="session")
def models(published, tmp_path_factory):
    """`models(name)`: the folder that `cymatic import` makes of a fixture."""
    root, there = tmp_path_factory.mktemp("peers"), set()

    def of(name):
        required(name)
        if name not in there:
            assert run(["import", str(published / SOURCES[name]), "-o", str(root / name)]) == 0
            there.add(name)
        return root / name

    return of


@pytest.fixture(params=SOURCES)
def name(request):
    return request.param


def kbps(model):
    return cymatic.load(model).offers[LEVELS - 1]


def test_codes_are_those_of_the_codec_itself(models, name, published):
    model = cymatic.load(models(name))
    with np.load(published / SOURCES[name].split("/")[0] / "inputs.npz") as inputs:
        wave = torch.from_numpy(inputs["wave"])
    wave = wave.reshape(-1, 1, wave.shape[-1])[:1]
    codec = read_peer(published / SOURCES[name])
    wanted = codec.encode(wave, levels=LEVELS)
    sound = Sound(wave[0].numpy(), codec.rate)
    encoded = model.encode(sound, model.offers[LEVELS - 1])
    assert torch.equal(torch.from_numpy(encoded.codes), wanted.codes[0])
    with torch.no_grad():
        again = codec.decode(wanted)[0]
    assert np.array_equal(model.decode(encoded).samples, again.numpy())


def test_a_file_there_and_back(models, name, cli):
    model = models(name)
    tone(440, 0.2, 16_000).write("a.wav")
    ran = cli("encode", "a.wav", "-o", "a.cym", "--model", model, "--kbps", kbps(model))
    assert (ran.code, ran.err) == (0, "") and ran.out.startswith("a.cym  0.20 s, ")
    with open("a.cym", "rb") as file:
        header = CymReader(file).header
    codec = cymatic.load(model).codec
    assert (header.model, header.rate, header.hop, header.sizes) == (name, codec.rate, codec.hop, codec.sizes[:LEVELS])
    assert cli("decode", "a.cym", "-o", "b.wav", "--model", model).code == 0
    sound = Sound.read("b.wav")
    assert (len(sound), sound.rate) == (round(0.2 * codec.rate), codec.rate) and sound.samples.std() > 0
    assert cli("decode", "a.cym", "-o", "c.wav", "--model", model, "--kbps", cymatic.load(model).offers[0]).code == 0
    assert not np.array_equal(Sound.read("c.wav").samples, sound.samples)
    ran = cli("decode", "a.cym", "-o", "d.wav")
    assert ran.code == 2 and f'encoded by the model "{name}", which is no starter' in ran.err


@pytest.mark.parametrize("samples", [1, 2, 777])
def test_short_and_stereo_sounds(models, name, samples):
    model = cymatic.load(models(name))
    sound = Sound(np.random.default_rng(0).uniform(-0.9, 0.9, (2, samples)), model.rate)
    with pytest.warns(cymatic.errors.Note, match="mixed to one"):
        encoded = model.encode(sound)
    assert encoded.codes.shape == (model.codec.levels, -(-samples // model.codec.hop))
    assert len(model.decode(encoded)) == samples


def test_pipes_are_read_to_their_end(models, name, cli, tmp_path, monkeypatch):
    model = models(name)
    tone(440, 0.2, 16_000).write("a.wav")
    assert cli("encode", "a.wav", "-o", "a.cym", "--model", model).code == 0
    assert cli("decode", "a.cym", "-o", "a-again.wav", "--model", model).code == 0

    def piped(verb, data):
        out = io.BytesIO()
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        monkeypatch.setattr(
            sys, "stdout", SimpleNamespace(buffer=out, isatty=lambda: False, write=len, flush=lambda: None)
        )
        err = io.StringIO()
        monkeypatch.setattr(sys, "stderr", err)
        assert run([verb, "-", "-o", "-", "--model", str(model)]) == 0
        assert err.getvalue().count("nothing comes out before the pipe ends") == 1
        return out.getvalue()

    codes = piped("encode", (tmp_path / "a.wav").read_bytes())
    assert codes == (tmp_path / "a.cym").read_bytes()
    assert piped("decode", codes)[-100:] == (tmp_path / "a-again.wav").read_bytes()[-100:]


def test_streams_are_refused_in_words(models, name):
    codec = cymatic.load(models(name)).codec
    assert not codec.streamable
    with pytest.raises(Error, match="looks at a sound as a whole, so it can't be streamed; encode the whole sound"):
        codec.streaming()


def test_the_codes_of_another_model_are_refused(models, cli):
    tone(440, 0.1).write("a.wav")
    assert cli("encode", "a.wav", "-o", "a.cym", "--model", models("encodec")).code == 0
    ran = cli("decode", "a.cym", "-o", "b.wav", "--model", models("encodec-th"))
    assert ran.code == 2 and "these codes are of the model encodec" in ran.err


@pytest.mark.parametrize("name", ["encodec", "dac", pytest.param("lumen", marks=pytest.mark.slow)])
def test_a_prior_learns_its_codes_and_is_heard(models, name, cli, tmp_path):
    model = models(name)
    tone_folder(tmp_path / "tones", takes=2)
    ran = cli("encode", "tones", "-o", "shards", "--model", model, "--kbps", kbps(model), "--engine", "local",
              "--workers", 1, "--clips", 3)  # fmt: skip
    assert ran.code == 0 and len(list((tmp_path / "shards").glob("*.tar"))) == 2
    settings = [word for one in SMALL for word in ("--set", one)]
    ran = cli("train", "shards", "--recipe", "codec-gpt", "--from", model, "-o", "run", *settings)
    assert ran.code == 0, ran.err
    assert f"codes  {LEVELS} levels of {cymatic.load(model).codec.sizes[0]} codes" in ran.err
    ran = cli("sound", "low tone", "--model", "run", "-o", "low.wav", "--seconds", "0.2")
    assert ran.code == 0, ran.err
    sound, maker = Sound.read("low.wav"), cymatic.load("run")
    assert isinstance(maker, Generator) and sound.rate == maker.rate == cymatic.load(model).rate
    assert sound.seconds == pytest.approx(0.2, abs=1e-3)
    codes = torch.randint(maker.prior.config.codes, (LEVELS, 5), generator=torch.Generator().manual_seed(0))
    (heard,) = maker.decoded(codes[None], torch.tensor([5]))
    assert heard.shape[-1] == 5 * maker.codec.hop


@needs_transformers
@torch.no_grad()
def test_mimi_too(cli, tmp_path):
    codec = made(MIMI)
    save_part(tmp_path / "mimi/codec", codec)
    write_pipeline(tmp_path / "mimi", FILE)
    wave = tone(440, 0.1, 24_000)
    wave.write("a.flac")
    assert cli("encode", "a.flac", "-o", "a.cym", "--model", "mimi").code == 0
    codes = cymatic.pipelines.sound_codec.Encoded.read("a.cym").codes
    heard = torch.from_numpy(Sound.read("a.flac").samples)[None]
    assert torch.equal(torch.from_numpy(codes), codec.encode(heard).codes[0])
    assert cli("decode", "a.cym", "-o", "b.wav", "--model", "mimi").code == 0
    assert len(Sound.read("b.wav")) == len(wave)


@needs_transformers
def test_what_keeps_a_loudness_beside_its_codes(published, cli):
    ran = cli("import", published / "encodec_48khz_style/model.th", "-o", "wide")
    assert ran.code == 0 and "note   wide codes segments, each at a loudness" in ran.out
    tone(440, 0.1).write("a.wav")
    ran = cli("encode", "a.wav", "-o", "a.cym", "--model", "wide")
    assert ran == Ran(2, "", ran.err) and len(ran.err.splitlines()) == 1
    assert "neither .cym files nor priors have a place for it" in ran.err


def test_maps_are_of_our_own(models, cli, tmp_path):
    ran = cli("codec", "map", models("lumen"), "-o", "map.html")
    assert ran.code == 2 and "maps are of codecs trained here" in ran.err and not any(tmp_path.iterdir())


def test_without_transformers_it_says_what_to_install(cli, tmp_path, monkeypatch):
    (tmp_path / "encodec/codec").mkdir(parents=True)
    write_json(tmp_path / "encodec/codec/config.json", {"format": 1, **json.loads(ENCODEC.model_dump_json())})
    save_file({}, tmp_path / "encodec/codec/model.safetensors")
    write_pipeline(tmp_path / "encodec", FILE)
    tone(440, 0.1).write(tmp_path / "a.wav")
    monkeypatch.setitem(sys.modules, "transformers", None)
    ran = cli("encode", "a.wav", "-o", "a.cym", "--model", "encodec")
    assert ran.code == 2 and ran.err.endswith("install it with: pip install 'cymatic[hub]'\n")
    with pytest.raises(ModelError, match="need the package transformers"):
        cymatic.load(tmp_path / "encodec")
