"""A waveform codec trained through the same loop and command as all else."""

import math

import numpy as np
import pytest
import torch
from tests.helpers import interrupted_after, quiet, tone_folder

from cymatic.codecs.waveform import WaveformCodec
from cymatic.data.waves import RandomCrops
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import CodecFile, read_pipeline
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.training.muon import Muon
from cymatic.training.recipe import make_recipe
from cymatic.training.train import read_run, train
from cymatic.training.wave_codec_task import VERDICTS, WaveCodecTask

SMALL = [
    "kind=waveform-codec", "rate=8000", "network.hop=80", "network.width=16", "network.encoder=[0,1]",
    "network.decoder=[1,0]", "quantizer.levels=2", "quantizer.size=16", "quantizer.dim=8", "piece=0.1", "tile=4",
    "judges.start=6", "judges.warmup=4", "judges.width=4", "judges.judged=2", "training.batch=4", "training.warmup=2",
]  # fmt: skip
STREAM = ["network={kind: soundstream, strides: [2, 4, 10], widths: [4, 6, 8, 8]}"]


def recipe(folder, *settings):
    return make_recipe(None, [*SMALL, f"data.folder={folder}", *settings])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tone_folder(tmp_path_factory.mktemp("codec") / "tones")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("codec") / "run"
    reports = []
    outcome = train(recipe(folder, "training.steps=12"), place, say=quiet, on_report=reports.append)
    assert outcome.finished
    return place, reports


def test_judges_come_when_they_are_due(run):
    _, reports = run
    assert ["judges" in report.losses for report in reports] == [False] * 6 + [True] * 6
    assert set(reports[-1].valid) == {"loss", "half", "perplexity", "collapsed"}


def test_a_run_is_a_model(run):
    place = run[0]
    codec = load_part(read_pipeline(place, CodecFile).folder(place, "codec"), (WaveformCodec,))
    assert int(codec.steps_trained) == 12
    assert codec.decode(codec.encode(torch.randn(1, 1, 999)), 999).shape == (1, 1, 999)


def test_resumed_equals_uninterrupted(folder, run, tmp_path):
    train(recipe(folder, "training.steps=12"), tmp_path / "run", say=quiet, on_report=interrupted_after(8))
    assert not _same(tmp_path / "run", run[0])
    train(read_run(tmp_path / "run"), tmp_path / "run", resume=True, say=quiet)
    assert _same(tmp_path / "run", run[0])


def _same(a, b):
    one, other = (load_part(place / "codec", (WaveformCodec,)).state_dict() for place in (a, b))
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_goes_on_from_another(folder, run, tmp_path):
    train(recipe(folder, "training.steps=1", f"start={run[0]}"), tmp_path / "on", say=quiet)
    first, then = (load_part(place / "codec", (WaveformCodec,)) for place in (run[0], tmp_path / "on"))
    assert int(then.steps_trained) == 1
    near = [torch.dist(a, b) / b.norm() for a, b in zip(then.parameters(), first.parameters(), strict=True) if b.any()]
    assert max(near) < 0.5
    with pytest.raises(ModelError, match="is another one"):
        train(recipe(folder, "training.steps=1", f"start={run[0]}", "quantizer.levels=3"), tmp_path / "x", say=quiet)


WAYS = {
    "as it comes": [],
    "one judge at a time": ["judges.choice=difficulty", "judges.every=2"],
    "Lumen's judges, squares and repulsion": [
        "piece=0.15",
        "judges.judges=lumen",
        "judges.rule=squares",
        "judges.repulsion=0.001",
    ],
    "complex judges": ["piece=0.15", "judges.judges=lumen-complex"],
    "balanced": ["judges.balanced=true"],
    "judges alone": ["judges.alone=true", "judges.warmup=1"],
    "every distance": ["objective.stft=0.5", "objective.time=10", "objective.emphasis=0.97"],
    "treble later": ["objective.opening=0.5"],
    "another sound each time": ["augment={gain: 6, polarity: 0.5, filter: 3, noise: 0.5, overtones: 0.5, mix: 0.5}"],
    "SoundStream's, its stages led": [*STREAM, "objective.stages=1"],
    "an energy transformer before codes": ["energy={dim: 8, heads: 2, memories: 16, steps: 2}"],
    "a map of codes": ["quantizer.map={topology: grid, batches: 10}"],
    "two channels": ["channels=2"],
    "finite scalars": ["quantizer={kind: finite, levels: 2, steps: [5, 5], dim: 8, dropout: 0.5}"],
    "signs": ["quantizer={kind: lookup-free, levels: 2, bits: 4, dim: 8}"],
    "continuous latents": ["quantizer={kind: gaussian, dim: 8, latent: 4}"],
}


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_every_way_takes_a_step(settings):
    task = WaveCodecTask(make_recipe(None, [*SMALL, "training.steps=20", "judges.start=0", *settings]))
    waves = [np.random.default_rng(i).normal(0, 0.1, 2000).astype(np.float32) for i in range(4)]
    batches = RandomCrops(waves, [1.0] * 4, round(8000 * task.recipe.piece), 4, 0)
    optimizer = Muon(task.parameter_groups(task.recipe.training), betas=task.betas)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    before = {name: p.clone() for name, p in task.named_parameters()}
    for step in range(2):
        batch = batches[step].expand(-1, task.codec.config.channels, -1)
        terms = task.train()(batch, step)
        assert all(term.isfinite() for term in terms.values())
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    # A hinge pulls a judge's bias up for what is real as much as down for what is made, until it tells them apart.
    names = [name for name in before if not (name.startswith("judges.") and "bias" in name)]
    now = dict(task.named_parameters())
    still = {name for name in names if torch.equal(now[name], before[name])}
    which = {f"judges.judges.{i}." for i in range(len(task.judges.judges))}
    if task.recipe.judges.choice == "difficulty":  # the others wait for their turn
        assert sum(any(name.startswith(judge) for name in still) for judge in which) == len(which) - 1
        still = {name for name in still if not name.startswith("judges.")}
    assert not still


def test_alone_with_its_judges_nothing_else_pulls():
    task = WaveCodecTask(make_recipe(None, [*SMALL, "judges.start=0", "judges.warmup=1", "judges.alone=true"]))
    first, then = (task.train()(torch.randn(4, 1, 800), step) for step in range(2))
    assert "mel" in first and {"mel", "loud"}.isdisjoint(then) and {"fool", "features", "judges"} < set(then)


def test_a_judge_that_says_the_same_of_all_is_counted():
    task = WaveCodecTask(make_recipe(None, [*SMALL, "judges.start=0"]))
    judges = len(task.judges.judges)
    task.given.fill_(VERDICTS)
    task.verdicts[:, :, 0], task.verdicts[:, :, 2] = 1.0, 1.0  # apart, and alive
    assert task.measure([torch.randn(1, 1, 800)], 1)["collapsed"] == 0
    task.verdicts[1:, :, 0] = 0.0
    assert task.measure([torch.randn(1, 1, 800)], 1)["collapsed"] == judges - 1


def test_eight_pieces_are_learned_by_heart():
    settings = ["network.width=48", "quantizer.levels=4", "quantizer.size=64", "quantizer.decay=0.9"]
    task = WaveCodecTask(make_recipe(None, [*SMALL, *settings, "judges.start=1000"]))
    times = torch.arange(1600) / 8000
    pieces = torch.stack([0.3 * torch.sin(2 * math.pi * (200 + 90 * i) * times)[None] for i in range(8)])
    optimizer = Muon(task.parameter_groups(task.recipe.training), betas=task.betas)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, 2 - step / 75)
        task.train()(pieces, step)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    codec = task.codec.eval()
    codec.steps_trained.fill_(150)
    made = codec.decode(codec.encode(pieces), 1600)
    silence = multi_scale_mel_distance(torch.zeros_like(pieces), pieces, 8000)
    assert multi_scale_mel_distance(made, pieces, 8000) < 0.3 * silence


def test_what_can_not_be_is_said():
    with pytest.raises(Error, match="can't share evenly"):
        WaveCodecTask(make_recipe(None, [*SMALL, "judges.judged=3"]), ranks=2)
    with pytest.raises(Error, match=r"set network.kind to soundstream"):
        WaveCodecTask(make_recipe(None, [*SMALL, "objective.stages=1"]))
    with pytest.raises(Error, match=r"pieces of 0.1 s .* more than 0.128 s"):
        WaveCodecTask(make_recipe(None, [*SMALL, "judges.judges=lumen"]))
    with pytest.raises(ValueError, match="give both the same dim"):
        make_recipe(None, [*SMALL, "energy={dim: 16, heads: 2}"]).config()


def test_the_command_says_what_to_do_with_it(folder, tmp_path, capsys):
    from cymatic.apps.cli import run as command

    given = [word for setting in SMALL for word in ("--set", setting)]
    assert command(["train", str(folder), "--steps", "2", "-o", str(tmp_path / "run"), *given]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"use it: cymatic encode in.wav -o out.cym --model {tmp_path / 'run'}"
