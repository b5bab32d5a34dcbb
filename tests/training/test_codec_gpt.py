"""A GPT over a waveform codec's codes: from a folder or from shards, through the same loop, to a model that plays."""

import json
import shutil

import numpy as np
import pytest
import torch
from tests.helpers import quiet, save_codec, tiny_codec, tone, tone_folder

import cymatic
from cymatic.apps import cli
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import copy_part, fingerprint
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.pipelines.bulk import encode_in_bulk
from cymatic.pipelines.generate import Generator
from cymatic.training.recipe import make_recipe
from cymatic.training.shards import holds_codes
from cymatic.training.train import read_run, train

SMALL = [
    "prior.levels=null", "prior.part={kind: gpt, width: 32, depth: 1, heads: 2}", "prior.encoder.dim=16",
    "training={batch: 4, warmup: 2, learning_rate: 0.01, seed: 3, betas: [0.9, 0.95]}",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of tones, their shards at two of three levels, the codec, and a run of 30 steps on the folder."""
    root = tmp_path_factory.mktemp("codec-gpt")
    tone_folder(root / "tones", takes=6)
    save_codec(root / "codec", tiny_codec(), kbps=0.4)
    encode_in_bulk(root / "tones", root / "shards", root / "codec", clips=5, say=quiet)
    train(recipe(root, "tones", "training.steps=30"), root / "run", say=quiet)
    return root


def recipe(root, data, *settings):
    return make_recipe("codec-gpt", [*SMALL, f"prior.codec={root / 'codec'}", f"data.folder={root / data}", *settings])


def test_it_learns(place):
    losses, held_out = [], []

    def on_report(at):
        losses.append(at.losses["loss"])
        held_out.extend([at.valid["loss"]] if at.valid else [])

    outcome = train(
        recipe(place, "shards", "training.steps=60", "training.checkpoint_steps=30"), place / "learns", say=quiet,
        on_report=on_report,
    )  # fmt: skip
    assert outcome.finished
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5]) and held_out[-1] < np.log(16)


def test_a_folder_gives_what_its_shards_give(place):
    encode_in_bulk(place / "tones", place / "one-shard", place / "codec", say=quiet)  # of other shards, another order
    train(recipe(place, "one-shard", "training.steps=30"), place / "from-shards", say=quiet)
    for part in ("prior", "encoder", "codec"):
        name = f"{part}/model.safetensors"
        assert (place / "run" / name).read_bytes() == (place / "from-shards" / name).read_bytes()
    assert {path.name for path in (place / "run/codes").glob("*.tar")} == {"shard-000000.tar"}
    assert not (place / "from-shards/codes").exists()


def test_a_run_is_a_model_that_plays(place, tmp_path, capsys):
    model = cymatic.load(place / "run")
    assert isinstance(model, Generator)
    assert (model.rate, model.prior.config.rows, model.prior.config.codes) == (2000, 2, 16)
    assert model.captions == ("high tone", "low tone")
    one, two = model("low tone", n=2, seed=5)
    assert np.array_equal(model("low tone", seed=6).samples, two.samples)
    assert not np.array_equal(one.samples, two.samples) and one.info["prompt"] == "low tone"
    assert model("high tone", seconds=0.3).seconds == 0.3
    with pytest.raises(Error, match=r"seconds were asked for and this model makes 0.05 to"):
        model("high tone", seconds=30)
    words = ["sound", "low tone", "--model", str(place / "run"), "-o", str(tmp_path / "a.wav"), "--temperature", "0.8"]
    assert cli.run(words) == 0 and (tmp_path / "a.wav").stat().st_size > 200
    assert cli.run([*words, "--steps", "3"]) == 2
    assert "takes no --steps" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cymatic.apps.evaluate_command.OWN_SECONDS", 0.5)
        assert cli.run(["evaluate", str(place / "run"), "-n", "2", "-o", str(tmp_path / "report")]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["model"]["reads"]["spec"]["rate"] == 2000 and set(report["codes"]) == {"level 1", "level 2"}


def test_codes_become_the_codecs_sound(place):
    model = cymatic.load(place / "run")
    codes = torch.randint(16, (2, 20), generator=torch.Generator().manual_seed(0))
    wanted = model.codec.decode_codes(codes[None])[0]
    (decoded,) = model.decoded(codes[None], torch.tensor([20]))
    assert torch.equal(decoded, wanted)
    assert model.decoded(codes[None, :, :1], torch.tensor([1]))[0].shape[-1] >= 1


def test_resumed_is_uninterrupted(place):
    settings = ("training.steps=9", "training.checkpoint_steps=4")
    train(recipe(place, "tones", *settings), place / "whole", say=quiet)

    class Stop(Exception):
        pass

    def stop(at):
        if at.step == 6:
            raise Stop

    with pytest.raises(Stop):
        train(recipe(place, "tones", *settings), place / "parts", say=quiet, on_report=stop)
    train(read_run(place / "parts"), place / "parts", resume=True, say=quiet)
    name = "prior/model.safetensors"
    assert (place / "whole" / name).read_bytes() == (place / "parts" / name).read_bytes()


def test_what_was_chosen_is_said_and_kept(place, tmp_path):
    for name in ("Dusty/Kick-1", "Dusty/Rim-1", "Bright/Kick-1", "Bright/Rim-2", "Bright/Kick-2"):
        (tmp_path / "kits" / name).parent.mkdir(parents=True, exist_ok=True)
        tone(200 + 9 * len(name), 0.3, 2000).write(tmp_path / f"kits/{name}.wav")

    def chosen(data, *settings):
        said = []
        run = tmp_path / f"{data.name}-{len(settings)}"
        changed = recipe(place, "", f"data.folder={data}", "training.steps=1", *settings)
        train(changed, run, say=said.append)
        kept = read_run(run)
        return [line for line in said if line.startswith("chosen")], kept.data.captions, kept.stages["prior"].levels

    lines, captions, levels = chosen(tmp_path / "kits")
    assert (captions, levels) == ("both", 2) and len(lines) == 2
    assert lines[0].startswith("chosen captions by the folders' and the files' names, since 100 % of the files")
    assert lines[1].startswith("chosen 2 levels of codes, since codec spends them by default")
    lines, captions, levels = chosen(place / "shards")
    assert (captions, levels, len(lines)) == ("auto", 2, 1) and "since the first shard has them" in lines[0]
    assert chosen(tmp_path / "kits", "data.captions=file", "prior.levels=1") == ([], "file", 1)
    assert chosen(place / "shards", "prior.levels=1") == ([], "auto", 1)


def test_what_holds_codes(place):
    assert holds_codes(place / "shards") and holds_codes(place / "shards/shard-000001.tar")
    assert not holds_codes(place / "tones") and not holds_codes(place / "none")


def test_what_can_not_be_trained(place, tmp_path):
    save_codec(tmp_path / "other", tiny_codec(seed=1))
    for settings, what in (
        ([f"prior.codec={tmp_path / 'other'}"], "was encoded by codec .*, and this recipe's codec is another"),
        (["prior.levels=3"], "has 2 levels of codes and 3 are wanted"),
        (["data.longest=0.05"], "none of the sounds in .* can be trained on"),
        ([f"prior.codec={place / 'run'}"], "is no codec"),
    ):
        with pytest.raises(Error, match=what):
            train(recipe(place, "shards", "training.steps=2", *settings), tmp_path / "run", say=quiet)


@pytest.mark.parametrize("levels", [3, 14])
def test_a_number_of_levels_that_the_codec_does_not_have(place, tmp_path, levels):
    settings = ["training.steps=2", f"prior.levels={levels}", "prior.codec=starter-codec"]
    with pytest.raises(Error, match=f"{levels} levels of codes are wanted, and starter-codec codes a sound in 4 to 13"):
        train(recipe(place, "tones", *settings), tmp_path / "run", say=quiet)


def test_the_recipe_asks_for_what_its_codec_has():
    asked = make_recipe("codec-gpt", []).stages["prior"]
    assert asked.codec == "starter-codec"
    codec = cymatic.load(asked.codec)
    assert codec.codec.min_levels <= asked.levels <= codec.codec.levels


def test_parts_that_do_not_fit(place):
    model = cymatic.load(place / "run")
    model.prior.config = model.prior.config.model_copy(update={"codes": 17, "sizes": ()})
    with pytest.raises(ModelError, match="has 3 codes in a column of up to 16, and its prior 2 of up to 17"):
        Generator(
            model.encoder, model.prior, codec=tiny_codec(), vocoder=None, file=read_pipeline(place / "run"), name="run",
            sha256="",
        )  # fmt: skip


def stopped_run(place, root, data, *settings):
    """A run that was stopped after its first checkpoint, on the codes of a codec of its own; its folder and lines."""
    shutil.copytree(place / "codec", root / "mine")

    class Stop(Exception):
        pass

    def stop(at):
        if at.step == 5:
            raise Stop

    common = ("training.steps=8", "training.checkpoint_steps=4", f"prior.codec={root / 'mine'}", *settings)
    train(recipe(place, data, *common), root / "whole", say=quiet)
    with pytest.raises(Stop):
        train(recipe(place, data, *common), root / "run", say=quiet, on_report=stop)
    return root / "run"


@pytest.mark.parametrize("data", ["tones", "shards"])
def test_a_run_needs_its_codec_no_more(place, tmp_path, data, monkeypatch):
    """Moved, or trained further: the run goes on with the codec that its codes are of, and plays by it."""
    run = stopped_run(place, tmp_path, data)
    copy = (run / "codec/model.safetensors").read_bytes()
    assert copy == (place / "codec/codec/model.safetensors").read_bytes()
    if data == "tones":
        shutil.rmtree(tmp_path / "mine")
    else:
        save_codec(tmp_path / "mine", tiny_codec(seed=5))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--resume", "-o", "run", "--no-verdict"]) == 0
    for part in ("prior", "encoder", "codec"):
        name = f"{part}/model.safetensors"
        assert (run / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert (run / "codec/model.safetensors").read_bytes() == copy
    assert cli.run(["sound", "low tone", "--model", "run", "-o", "a.wav"]) == 0


def test_neither_the_codec_nor_its_copy(place, tmp_path, monkeypatch, capsys):
    run = stopped_run(place, tmp_path, "tones")
    shutil.rmtree(tmp_path / "mine")
    shutil.rmtree(run / "codec")
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--resume", "-o", "run"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "run learns the codes of " in said and "is not there any more, and holds no copy of it; put it back" in said
    assert cli.run(["sound", "low tone", "--model", "run", "-o", "a.wav"]) == 2
    assert "run lacks its codec" in capsys.readouterr().err


def test_a_codec_that_changes_while_it_is_taken_over(tmp_path):
    save_codec(tmp_path / "a", tiny_codec())
    before = fingerprint([tmp_path / "a/codec"])
    copy_part(tmp_path / "a/codec", tmp_path / "b", before)
    assert fingerprint([tmp_path / "b"]) == before
    save_codec(tmp_path / "a", tiny_codec(seed=1))
    with pytest.raises(Error, match="changed while it was taken over; give the same command again"):
        copy_part(tmp_path / "a/codec", tmp_path / "c", before)
    assert not (tmp_path / "c").exists()


def test_a_codec_and_then_a_prior_over_its_codes(place, tmp_path):
    """One recipe trains both; the shards of such a run can be decoded by what lies beside them."""
    (tmp_path / "both.yaml").write_text("""
data: {folder: "", longest: 2.0}
stages:
  tokens:
    task: autoencoder
    part:
      kind: waveform
      rate: 2000
      network: {kind: fast, hop: 40, split: 2, width: 16, encoder: [1, 1], decoder: [1, 1]}
      quantizer: {kind: residual, levels: 3, size: 16, dim: 8}
      block: 32
    segment: 0.32
    objective: {mel: 1.0}
    training: {batch: 4, steps: 4, warmup: 2}
  prior:
    task: prior
    codec: tokens
    part: {kind: gpt, width: 32, depth: 1, heads: 2}
    encoder: {kind: text, dim: 16}
    training: {batch: 4, steps: 6, warmup: 2, checkpoint_steps: 3}
""")
    both = make_recipe(tmp_path / "both.yaml", [f"data.folder={place / 'tones'}"])
    train(both, tmp_path / "run", say=quiet)
    model = cymatic.load(tmp_path / "run")
    assert model("low tone", seconds=0.2).seconds == 0.2
    codes = cymatic.load(tmp_path / "run/codes")
    assert codes.sha256 == fingerprint([tmp_path / "run/tokens"])
    assert sorted(path.suffix for path in (tmp_path / "run/codes").glob("shard*")) == [".json", ".tar"]

    class Stop(Exception):
        pass

    def stop(at):
        if at.step == 5:  # which the codec does not come to
            raise Stop

    with pytest.raises(Stop):
        train(both, tmp_path / "parts", say=quiet, on_report=stop)
    train(read_run(tmp_path / "parts"), tmp_path / "parts", resume=True, say=quiet)
    name = "prior/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
