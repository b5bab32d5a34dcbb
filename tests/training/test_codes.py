"""Training over codes on a folder of tones: both stages learn, resume bit for bit, and leave a model."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from tests.helpers import TINY_CODES, TINY_CODES_STEPS, quiet, tiny_recipe, tone
from tests.helpers import tiny_codes_recipe as recipe

import cymatic
from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.data.reading import Example
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part
from cymatic.priors.gpt_vae import GPTVAE
from cymatic.signal.mel import PRESETS
from cymatic.training.build import build
from cymatic.training.built import Context
from cymatic.training.coding import coded
from cymatic.training.hardware import make_fabric
from cymatic.training.loop import Report
from cymatic.training.recipe import make_recipe
from cymatic.training.train import read_run, train

PARTS = ("codec", "encoder", "prior")


def reports(settings, run) -> list[Report]:
    kept: list[Report] = []
    assert train(settings, run, say=quiet, on_report=kept.append).finished
    return kept


def weights(run):
    return {part: (run / part / "model.safetensors").read_bytes() for part in PARTS}


def test_a_run_holds_both_stages(tiny_codes_run):
    model = cymatic.load(tiny_codes_run)
    sound = model("low tone", seed=3)
    assert sound.rate == 8000 and 0 < sound.seconds <= model.longest
    assert sound.info["prompt"] == "low tone"
    assert {path.name for path in tiny_codes_run.iterdir()} == {
        *("codec", "encoder", "prior", "vocoder", "pipeline.json", "recipe.yaml", "data.json", "logs")
    }
    file = json.loads((tiny_codes_run / "pipeline.json").read_text())
    assert set(file["parts"]) == {"encoder", "prior", "codec", "vocoder"} and file["captions"] == [
        "high tone",
        "low tone",
    ]
    resolved = yaml.safe_load((tiny_codes_run / "recipe.yaml").read_text())
    assert [stage["training"]["steps"] for stage in resolved["stages"].values()] == [40, 45]


@pytest.mark.parametrize("at", [(1, 20), (1, 38), (2, 38)], ids=["codec", "codec, later", "prior"])
def test_a_resumed_run_equals_an_uninterrupted_one(tones, tiny_codes_run, tmp_path, at):
    stage, last = 0, 1_000

    def break_off(report):
        nonlocal stage, last
        stage += report.step < last
        last = report.step
        if (stage, report.step) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(tones, *TINY_CODES_STEPS), tmp_path / "cut", say=quiet, on_report=break_off)
    torch.rand(7)  # whatever else drew random numbers in between
    assert train(read_run(tmp_path / "cut"), tmp_path / "cut", resume=True, say=quiet).finished
    assert weights(tmp_path / "cut") == weights(tiny_codes_run)


def test_resuming_a_finished_run_changes_nothing(tiny_codes_run, tmp_path):
    run = shutil.copytree(tiny_codes_run, tmp_path / "run")
    assert train(read_run(run), run, resume=True, say=quiet).finished
    assert weights(run) == weights(tiny_codes_run)


def test_a_run_stopped_after_its_first_stage_says_what_it_lacks(tones, tmp_path):
    def break_off(report):
        if report.step == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(tones, *TINY_CODES_STEPS), tmp_path / "run", say=quiet, on_report=break_off)
    with pytest.raises(ModelError, match=r"is a run that is no model yet; finish it with cymatic train --resume"):
        cymatic.load(tmp_path / "run")


def test_minutes_are_shared_by_the_stages(tones, tmp_path):
    said: list[str] = []
    outcome = train(recipe(tones, "minutes=0.2"), tmp_path / "run", say=said.append)
    resolved = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert outcome.finished
    codec, prior = (stage["training"]["steps"] for stage in resolved["stages"].values())
    assert prior == outcome.progress.step and codec
    assert sum(line.startswith("time   0.1 minutes") for line in said) == 2
    assert [line for line in said if line.startswith("stage")] == ["stage  codec, 1 of 2", "stage  prior, 2 of 2"]


LATENT = "prior.part={kind: gpt-vae, width: 32, depth: 1, heads: 2, latent: 8}"


def over(codec, folder, *settings):
    """A recipe of a prior alone, over the codes of a run's codec."""
    return recipe(folder, "training.steps=30", LATENT, *settings).going_on_from(str(codec))


def test_the_codec_of_a_run_can_be_taken_over(tones, tiny_codes_run, tmp_path):
    assert train(over(tiny_codes_run, tones), tmp_path / "run", say=quiet).finished
    codecs = [(run / "codec/model.safetensors").read_bytes() for run in (tmp_path / "run", tiny_codes_run)]
    assert codecs[0] == codecs[1]
    assert not (tmp_path / "run/codec/state").exists()
    assert cymatic.load(tmp_path / "run")("low tone").seconds > 0


def test_a_latent_prior_takes_over_the_encoder_of_an_autoencoder(tones, tiny_codes_run, tmp_path):
    assert train(over(tiny_codes_run, tones, "prior.part.beta=0"), tmp_path / "first", say=quiet).finished
    kept: list[Report] = []
    second = over(tiny_codes_run, tones, f"prior.start={tmp_path / 'first'}", "training.warmup=30")
    context = Context(second, "prior", make_fabric("cpu"), tmp_path / "second", resumed=False, strict=False, say=quiet)
    own = build(context).task.prior.state_dict()
    first = load_part(tmp_path / "first/prior", (GPTVAE,))
    for name, tensor in first.state_dict().items():
        if name.startswith(("encoder.", "write_latent.")):
            assert torch.equal(own[name], tensor), name
    assert not torch.equal(own["decoder.head.weight"], first.state_dict()["decoder.head.weight"])
    assert train(second, tmp_path / "second", say=quiet, on_report=kept.append).finished
    assert {"nll", "kl"} <= kept[-1].losses.keys()
    with pytest.raises(ModelError, match="is of the kind gpt, and this recipe's of the kind gpt-vae"):
        train(over(tiny_codes_run, tones, f"prior.start={tiny_codes_run}"), tmp_path / "third", say=quiet)


@pytest.mark.slow
def test_both_stages_learn_eight_sounds_by_heart(tones, tmp_path):
    settings = recipe(
        tones, "codec.training.steps=300", "training.steps=200", "codec.training.learning_rate=0.003",
        "codec.discriminators.weight=0", "codec.discriminators.features=0", "prior.dropout=0", "prior.variants=1",
        "training.condition_dropout=0",
    )  # fmt: skip
    kept = reports(settings, tmp_path / "run")
    codec, prior = kept[:300], kept[300:]
    assert codec[-1].losses["l1"] < 0.35 * codec[0].losses["l1"]
    assert prior[-1].losses["nll"] < 0.3 * prior[0].losses["nll"]


def test_a_conditional_discriminator_reads_the_captions(tones, tmp_path):
    kept = reports(
        recipe(tones, *TINY_CODES_STEPS, "codec.discriminators.conditional=true", "codec.discriminators.start=2"),
        tmp_path / "run",
    )
    assert "adversarial" in kept[10].losses and "adversarial" not in kept[0].losses


def test_variants_are_the_codes_of_a_sound_that_begins_later(tiny_codes_run):
    codec = load_part(tiny_codes_run / "codec", (SpectrogramCodec,))
    generator = torch.Generator().manual_seed(0)
    examples = [Example(torch.randn(64, n, generator=generator) - 6) for n in (9, 16, 23)]
    for example, found in zip(examples, coded(examples, codec, 2), strict=True):
        for shift, codes in zip((0, 4), (found.target, *found.variants), strict=True):
            later = torch.nn.functional.pad(example.target, (shift, 0), value=codec.config.reads.silence)
            alone = codec.encode(later[None]).codes[0]
            assert codes.shape == alone.shape
            assert (codes == alone).float().mean() > 0.95, "but for ties"


def test_held_out_sounds_longer_than_any_trained_on_are_left_out_of_measuring(tmp_path):
    for take in range(1, 9):
        tone(220 * (1 + 0.01 * take), 0.3, seed=take).write(tmp_path / f"low-tone_{take}.wav")
    rows = [{"audio": f"low-tone_{take}.wav", "caption": "low tone", "split": "train"} for take in range(1, 9)]
    for name, seconds in (("long", 1.5), ("short", 0.25)):
        tone(300, seconds).write(tmp_path / f"{name}.wav")
        rows.append({"audio": f"{name}.wav", "caption": "low tone", "split": "valid"})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for settings in (recipe(tmp_path, *TINY_CODES_STEPS), tiny_recipe(tmp_path, "training.steps=15")):
        kept = reports(settings, tmp_path / f"run-{len(settings.stages)}")
        assert kept[-1].valid is not None and np.isfinite(kept[-1].valid["loss"])


def test_mels_that_are_there_are_trained_on_as_they_are(tmp_path):
    folder = given_mels(tmp_path / "vas", features=6)
    settings = make_recipe("melspec-gpt-small", [*VAS, f"data.folder={folder}", *TINY_CODES_STEPS])
    said: list[str] = []
    assert train(settings, tmp_path / "run", say=said.append).finished
    assert any("by the lists of VAS" in line for line in said)
    model = cymatic.load(tmp_path / "run")
    assert model("dog", seconds=0.5).rate == 22_050
    with pytest.raises(Error, match='there is no class "cow"'):
        model("cow")


def test_video_features_are_what_a_sound_is_drawn_from(tmp_path):
    folder = given_mels(tmp_path / "vas", features=6)
    keys = ("prior.encoder={kind: features, name: feature_rgb, frames: 5, dim: 16}", "prior.given=features")
    settings = make_recipe("melspec-gpt-small", [*VAS, f"data.folder={folder}", *TINY_CODES_STEPS, *keys])
    assert train(settings, tmp_path / "run", say=quiet).finished
    model = cymatic.load(tmp_path / "run")
    seen = np.load(folder / "features/dog/feature_rgb/video_00000.npy")
    assert "215" in model(seen, seconds=0.5).info["prompt"]
    with pytest.raises(Error, match="conditioned on features"):
        model("dog")
    with pytest.raises(Error, match="numbers a step"):
        model(seen[:, :3])


VAS = [
    *(one for one in TINY_CODES if not one.startswith(("codec.segment=", "codec.patch", "prior.encoder"))),
    "codec.patch=[20,53]", "codec.mel=specvqgan-22k", "codec.segment=3.7", "prior.encoder={kind: class, dim: 16}",
]  # fmt: skip


def given_mels(folder, features: int):
    """Mels and features of two classes in VAS's layout."""
    chance = np.random.default_rng(0)
    for split, takes in (("train", range(4)), ("valid", range(4, 6))):
        names = [f"{label}/video_{take:05d}" for label in ("dog", "drum") for take in takes]
        folder.mkdir(exist_ok=True)
        (folder / f"vas_{split}.txt").write_text("\n".join(names))
        for name in names:
            label, video = name.split("/")
            mels, seen = (folder / "features" / label / kind for kind in ("melspec_10s_22050hz", "feature_rgb"))
            for place in (mels, seen):
                place.mkdir(parents=True, exist_ok=True)
            level = 0.3 if label == "dog" else 0.7
            mel = np.clip(chance.normal(level, 0.05, (PRESETS["specvqgan-22k"].mels, 860)), 0, 1)
            np.save(mels / f"{video}_mel.npy", mel.astype(np.float32))
            np.save(seen / f"{video}.npy", chance.normal(level, 0.1, (215, features)).astype(np.float32))
    return folder
