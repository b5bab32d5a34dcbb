"""A waveform codec trained through the same loop and command as all else."""

import math
from itertools import combinations

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


STREAM = "network={kind: soundstream, strides: [2, 4, 10], widths: [4, 6, 8, 8]}"
# Each option that does something else than it does by default, with what it can't do without.
WAYS = {
    "as it comes": [],
    "a pitch": ["network.pitch={}"],
    "SoundStream's": [STREAM],
    "Snake": [STREAM, "network.activation=snake"],
    "multiresolution": [STREAM, "network.multires=[1]"],
    "wavelets": [STREAM, "network.wavelets=[1]"],
    "wavelets that look ahead": [STREAM, "network.wavelets=[1]", "network.wavelet=moving-sum"],
    "SoundStream's, its stages led": [STREAM, "objective.stages=1"],
    "by gradient": ["quantizer.learned=gradient"],
    "by direction": ["quantizer.metric=cosine"],
    "a narrow lookup": ["quantizer.lookup_dim=4"],
    "a map of codes": ["quantizer.map={topology: grid, batches: 10}"],
    "dropped levels": ["quantizer.dropout=0.5"],
    "no restarts": ["quantizer.restart=false"],
    "finite scalars": ["quantizer={kind: finite, levels: 2, steps: [5, 5], dim: 8, dropout: 0.5}"],
    "signs": ["quantizer={kind: lookup-free, levels: 2, bits: 4, dim: 8}"],
    "continuous latents": ["quantizer={kind: gaussian, dim: 8, latent: 4}"],
    "an energy transformer before codes": ["energy={dim: 8, heads: 2, memories: 16, steps: 2}"],
    "one judge at a time": ["judges.choice=difficulty", "judges.every=2"],
    "Lumen's judges": ["piece=0.15", "judges.judges=lumen"],
    "squares": ["judges.rule=squares"],
    "repulsion": ["judges.repulsion=0.001"],
    "balanced": ["judges.balanced=true"],
    "judges alone": ["judges.alone=true", "judges.warmup=1"],
    "judges that teach nothing": ["judges.weight=0", "judges.features=0"],
    "no mels": ["objective.mel=0"],
    "neither loud nor phase": ["objective.loud=0", "objective.phase=0"],
    "not white": ["objective.white=0"],
    "treble later": ["objective.opening=0.5"],
    "another sound each time": ["augment={gain: 6, polarity: 0.5, filter: 3, noise: 0.5, overtones: 0.5, mix: 0.5}"],
    "two channels": ["channels=2"],
}
# Pairs that can't be, and the sentence that says so.
REFUSED = {
    frozenset({"balanced", "judges alone"}): "alone leaves these out; give one of the two",
    frozenset({"a pitch", "continuous latents"}): "a pitch is codes, and a gaussian bottleneck has none",
}


def _can_be(one: str, other: str) -> bool:
    """Whether no setting of one undoes one of the other: a key with two values, or one inside a mapping that is set."""
    a, b = (dict(setting.split("=", 1) for setting in WAYS[name]) for name in (one, other))
    ours, theirs = dict(a.items() - b.items()), dict(b.items() - a.items())
    return not any(k == m or k.startswith(f"{m}.") or m.startswith(f"{k}.") for k in ours for m in theirs)


PAIRS = [pair for pair in combinations(WAYS, 2) if "as it comes" not in pair and _can_be(*pair)]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pair_of_options_takes_a_step(one, other):
    settings = [*SMALL, "training.steps=20", "judges.start=0", *WAYS[one], *WAYS[other]]
    if said := REFUSED.get(frozenset({one, other})):
        with pytest.raises(Error, match=said):
            WaveCodecTask(make_recipe(None, settings))
        return
    task = WaveCodecTask(make_recipe(None, settings))
    batch = 0.1 * torch.randn(4, task.codec.config.channels, round(8000 * task.recipe.piece))
    for step in range(2):  # "judges alone" begins with the second
        loss = task.train()(batch, step)["loss"]
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


ALL = {**WAYS, "balanced, and stages led": [STREAM, "objective.stages=1", "judges.balanced=true"]}  # a pair that failed


@pytest.mark.parametrize("settings", ALL.values(), ids=ALL)
def test_every_way_takes_a_step(settings):
    task = WaveCodecTask(make_recipe(None, [*SMALL, "training.steps=20", "judges.start=0", *settings]))
    tone = 0.2 * np.sin(2 * np.pi * 200 * np.arange(2000) / 8000)
    waves = [(tone + np.random.default_rng(i).normal(0, 0.1, 2000)).astype(np.float32) for i in range(4)]
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
    if not task.recipe.judges.weight + task.recipe.judges.features:  # who teaches nothing is not asked
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
    with pytest.raises(ModelError, match="give both the same dim"):
        make_recipe(None, [*SMALL, "energy={dim: 16, heads: 2}"]).config()
    deep = "network={kind: soundstream, strides: [2, 2, 2, 2, 2, 2, 2], widths: [2, 2, 2, 2, 2, 2, 2, 2]}"
    with pytest.raises(Error, match=r"weights for 6 stages at most and network.strides has 7; give fewer strides"):
        WaveCodecTask(make_recipe(None, [*SMALL, deep, "objective.stages=1"]))


def test_six_stages_are_led():
    six = "network={kind: soundstream, strides: [2, 2, 2, 2, 2, 2], widths: [2, 2, 2, 2, 2, 2, 2]}"
    task = WaveCodecTask(make_recipe(None, [*SMALL, six, "objective.stages=1"]))
    assert task.train()(torch.randn(2, 1, 800), 0)["stages"] > 0


def test_the_command_says_what_to_do_with_it(folder, tmp_path, capsys):
    from cymatic.apps.cli import run as command

    given = [word for setting in SMALL for word in ("--set", setting)]
    assert command(["train", str(folder), "--steps", "2", "-o", str(tmp_path / "run"), *given]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"use it: cymatic encode in.wav -o out.cym --model {tmp_path / 'run'}"
