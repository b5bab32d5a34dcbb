"""What cymatic saved at commit cd135ae keeps working: see saved/cd135ae/README.md for what is there.

Codes are the same, samples as close as that README says, and the files are never written to: a `.cym` names its codec
by a hash of the codec's files.
"""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import cymatic
from cymatic.codecs import WaveformCodec
from cymatic.data.augment_waves import WaveAugmentation
from cymatic.encoders.text import TextEncoder
from cymatic.errors import ModelError
from cymatic.evaluation.classifiers import Classifier
from cymatic.hub.parts import fingerprint, load_part
from cymatic.media.audio import levelled, mel_of
from cymatic.media.sound import Sound
from cymatic.pipelines.sound_codec import Encoded
from cymatic.priors import PRIORS
from cymatic.signal.mel import PRESETS
from cymatic.training.recipe import make_recipe, parse_recipe
from cymatic.training.train import read_run, train
from cymatic.vocoders import VOCODERS

SAVED = Path(__file__).resolve().parent / "saved" / "cd135ae"
WROTE = json.loads((SAVED / "expected.json").read_text())
ITEMS = WROTE["items"]
OWN = sorted((SAVED / "recipes").glob("*.yaml"))
SHIPPED = sorted((SAVED / "recipes" / "shipped").glob("*.yaml"))
RUNS = sorted((SAVED / "runs").iterdir())
WROTE_FROM = {"vocos": ".", "flow-vocos": ".", "specvqgan": "vas", "codec-gpt-shards": "shards"}  # the other runs: data
# A vocoder reads mels rounded to float16, as they come from the cache; it read this one as it was.
ROUNDED = {"revocode/flow": 1e-3}
# They end where they should by now, so without the rest of the last column of codes.
MAY_END_SOONER = ("revocode", "extend")
COLUMN = 2048  # the most samples in one, here
FADE = 120  # samples at the most
# Runs with an option that is gone and did something: they load, and can't be trained on.
GONE = {"codec-factorised": "judges.judges", "codec-finite": "objective.stft"}
# The same in other words: all 16 segments of a batch of 16, equal shares of the minutes, a length to three places, and
# a term that no Gaussian bottleneck has.
SHARES = {"stages.codec.share", "stages.prior.share"}
SAID_OTHERWISE = {
    "codec-latents": {"stages.codec.objective.white"},
    "melgan": {"stages.vocoder.discriminators.segments"},
    "melspec-gpt-small": SHARES,
    "melspec-gpt": {*SHARES, "stages.codec.segment"},
    "specvqgan": {*SHARES, "stages.codec.segment"},
}
NOT_OPTIONS = ("prompt", "features", "model", "file", "other", "which", "rate", "do", "shape", "std", "stride")


@pytest.fixture(autouse=True)
def there(monkeypatch):
    """Paths in those files count from their folder."""
    monkeypatch.chdir(SAVED)


@cache
def arrays():
    with np.load(SAVED / "expected.npz") as found:
        return dict(found)


@cache
def model(name):
    return cymatic.load(name)


@cache
def part(name, *kinds):
    return load_part(SAVED / name, kinds).eval()


@cache
def sound(file):
    return Sound.read(SAVED / file)


def options(item):
    return {key: value for key, value in item.items() if key not in NOT_OPTIONS}


def generate(item):
    prompt = arrays()[item["features"]] if "features" in item else item["prompt"]
    return model(item["model"])(prompt, **options(item)).samples


def blend(item):
    made = model(item["model"]).blend(sound(item["file"]), sound(item["other"]), steps=item["steps"])
    return made[item["which"]].samples


def encode(item):
    encoded = model(item["model"]).encode(sound(item["file"]), item["kbps"])
    assert encoded.samples == item["samples"]
    return encoded.codes


def decode(item):
    codec = model(item["model"])
    encoded = codec.encode(sound(item["file"]), item.get("encoded_kbps"))
    return codec.decode(encoded, item["kbps"]).samples


def cym_codes(item):
    encoded = Encoded.read(item["file"])
    assert (encoded.samples, encoded.header.model) == (item["samples"], item["name"])
    assert encoded.header.sha256 == item["sha256"] == model(item["model"]).sha256
    return encoded.codes


def decode_latents(item):
    codec = part(item["part"], WaveformCodec)
    wave = sound(item["file"]).resample(item["rate"]).samples
    with torch.inference_mode():
        latent = codec.encode(torch.from_numpy(wave)[None])
        return latent.z[0] if item["do"] == "latents" else codec.decode(latent)[0]


def classify(item):
    classifier = part(item["part"], Classifier)
    assert list(classifier.labels[item["question"]]) == item["answers"]
    return classifier.chances([sound(file) for file in item["files"]])[item["question"]]


def condition(item):
    with torch.inference_mode():
        return getattr(part(item["part"], TextEncoder)([item["prompt"]]), item["of"])[0]


def vocode(item):
    with torch.inference_mode():
        return part(item["part"], *VOCODERS)(torch.from_numpy(arrays()[item["mel"]])[None])[0]


DO = {
    "generate": generate,
    "revocode": lambda item: model(item["model"]).revocode(sound(item["file"])).samples,
    "codes_of": lambda item: model(item["model"]).codes_of(sound(item["file"]))[0],
    "nll": lambda item: np.array(model(item["model"]).nll(sound(item["file"]), item["prompt"])),
    "extend": lambda item: model(item["model"]).extend(
        sound(item["file"]), prompt=item["prompt"], **options(item)
    )[0].samples,
    "vary": lambda item: model(item["model"]).vary(sound(item["file"]), n=1, **options(item))[0].samples,
    "blend": blend,
    "encode": encode,
    "decode": decode,
    "cym-codes": cym_codes,
    "decode-cym": lambda item: model(item["model"]).decode(Encoded.read(item["file"])).samples,
    "vocode": vocode,
    "latents": decode_latents,
    "decode-latents": decode_latents,
    "classify": classify,
    "embed": lambda item: part(item["part"], Classifier).embed([sound(file) for file in item["files"]]),
    "mel": lambda item: mel_of(levelled(sound(item["file"]), PRESETS[item["mel"]]), PRESETS[item["mel"]]),
    "condition": condition,
}  # fmt: skip


def each_model_first():
    """All items; those that ask a model once more for the same are slow."""
    asked = set()
    for key, item in ITEMS.items():
        if item["do"] != "given":
            what = (item["do"], item.get("model", item.get("part", key)))
            yield pytest.param(key, marks=[pytest.mark.slow] if what in asked else [])
            asked.add(what)


@pytest.mark.parametrize("key", list(each_model_first()))
def test_it_gives_what_it_gave(key):
    item = ITEMS[key]
    made, wanted = np.asarray(DO[item["do"]](item)), arrays()[key]
    if wanted.dtype.kind != "f":
        np.testing.assert_array_equal(made, wanted)
        return
    stride = item["stride"]
    if item["do"] in MAY_END_SOONER:
        end = made.shape[-1] if item["do"] == "revocode" else made.shape[-1] - FADE
        assert item["shape"][-1] - COLUMN < made.shape[-1] <= item["shape"][-1]
        made, wanted = made[..., :end], wanted[..., : -(-end // stride)]
    else:
        assert list(made.shape) == item["shape"]
    np.testing.assert_allclose(made[..., ::stride], wanted, rtol=0, atol=ROUNDED.get(key, min(1e-4, item["std"] / 100)))


@pytest.mark.parametrize("name", WROTE["models"])
def test_a_model_has_the_hash_and_the_rate_that_it_had(name):
    found = model(name)
    assert {"sha256": found.sha256, "rate": found.rate} == WROTE["models"][name]


@pytest.mark.parametrize("name", WROTE["parts"])
def test_a_classifier_has_the_hash_that_it_had(name):
    assert fingerprint([SAVED / name]) == WROTE["parts"][name]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_recipe_of_a_run_becomes_stages(run):
    if run.name in GONE:
        with pytest.raises(ModelError, match=f'"{GONE[run.name]}" is .*version that wrote it'):
            read_run(run)
    else:
        assert (run / read_run(run).last / "config.json").is_file()


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.stem)
def test_a_recipe_with_few_keys_means_what_the_run_wrote_out(path):
    """What a recipe left open then was written out in its run, so both come to the same stages now."""
    if path.stem in GONE:
        with pytest.raises(ModelError, match=f'"{GONE[path.stem]}" is .*version that wrote it'):
            make_recipe(path, [])
        return
    ours, theirs = (
        values_of(recipe)
        for recipe in (
            make_recipe(path, [f"data.folder={WROTE_FROM.get(path.stem, 'data')}"]),
            read_run(SAVED / "runs" / path.stem),
        )
    )
    assert {key: (ours.get(key), value) for key, value in theirs.items() if ours.get(key) != value} == {}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_means_what_that_of_then_meant(path):
    now, then = values_of(make_recipe(path.stem, [])), values_of(make_recipe(path, []))
    assert {
        key: (now.get(key), then.get(key)) for key in {*now, *then} if now.get(key) != then.get(key)
    }.keys() == SAID_OTHERWISE.get(path.stem, set())


def test_spot_checks_of_what_earlier_keys_became():
    stage = make_recipe(SAVED / "recipes/shipped/lumen.yaml", []).stages["codec"]
    assert (stage.segment, stage.objective.stages, stage.discriminators.selection) == (1.5, 0.1, "difficulty")
    assert (stage.part.network.kind, stage.part.quantizer.map.topology, stage.part.block) == ("soundstream", "grid", 64)
    stage = make_recipe(SAVED / "recipes/gpt-vae.yaml", []).stages["prior"]
    assert (stage.codec, stage.start, stage.part.beta) == ("runs/melspec-gpt-small", "runs/gpt-vae-first", 1.0)
    stage = make_recipe(SAVED / "recipes/specvqgan.yaml", []).stages["prior"]
    assert (stage.encoder.kind, stage.given) == ("features", "features")


@pytest.mark.parametrize("name", ["flow", "codec-starter"])
def test_a_run_that_was_stopped_then_is_refused_in_one_sentence_that_says_what_to_do(name, tmp_path):
    run = Path(shutil.copytree(SAVED / "runs" / f"unfinished-{name}", tmp_path / "run"))
    with pytest.raises(ModelError, match=r"an earlier version.*--from") as refused:
        train(read_run(run), run, resume=True, say=lambda line: None)
    assert "\n" not in str(refused.value)


def test_a_new_run_goes_on_from_the_weights_of_one_that_was_stopped_then(tmp_path):
    recipe = make_recipe(SAVED / "recipes" / "flow.yaml", ["data.folder=data", "training.steps=1"])
    recipe = recipe.going_on_from(str(SAVED / "runs" / "unfinished-flow"))
    assert train(recipe, tmp_path / "again", say=lambda line: None).finished
    assert cymatic.load(tmp_path / "again").rate == 8000


def test_what_an_earlier_recipe_left_open_has_the_defaults_of_then():
    flat = parse_recipe({"kind": "codec-gpt"}, "it").stages["prior"].part
    assert (flat.kind, flat.dropout) == ("gpt", 0.1)
    latent = parse_recipe({"kind": "mel-gpt", "prior": {"kind": "gpt-vae"}}, "it").stages["prior"].part
    assert (latent.free_bits, latent.target, latent.kl_start, latent.warmup) == (2, 8.0, 0.0, 500)
    said = parse_recipe({"kind": "waveform-codec", "training": {"batch": 2}}, "it").stages["codec"].training
    unsaid = parse_recipe({"kind": "waveform-codec"}, "it").stages["codec"].training
    assert (said.batch, said.decay, said.ema) == (2, 0.4, 0.999)
    assert (unsaid.batch, unsaid.decay, unsaid.ema) == (8, 0.6, 0.99)


def values_of(recipe):
    """The values of a recipe by their dotted key."""
    found = {}

    def walk(value, key):
        if isinstance(value, dict) and value:
            for name, below in value.items():
                walk(below, f"{key}.{name}" if key else name)
        else:
            found[key] = value

    values = recipe.model_dump(mode="json")
    for stage, settings in recipe.stages.items():
        if settings.task == "autoencoder" and settings.augment is None:  # nothing is changed
            values["stages"][stage]["augment"] = WaveAugmentation().model_dump(mode="json")
        if settings.task == "prior":  # with what it leaves to the prior
            sampling = next(one.sampling for one in PRIORS if one.config_class is type(settings.part))
            values["stages"][stage]["sampling"] = sampling.parse(settings.sampling, "").model_dump(mode="json")
    walk(values, "")
    return found
