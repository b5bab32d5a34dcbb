"""A waveform codec trained through the same loop and command as all else."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from tests.helpers import autoencoder_of, batch_of, interrupted_after, quiet, tone_folder

from cymatic.codecs.waveform import WaveformCodec
from cymatic.data.batches import RandomCrops
from cymatic.data.reading import Example
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.training.adversary import REMEMBERED
from cymatic.training.muon import Muon
from cymatic.training.recipe import make_recipe
from cymatic.training.train import read_run, train

BASE = "starter-codec"  # and then everything else than it has
SMALL = [
    "data.packs=[]", "codec.kind=waveform", "codec.rate=8000", "codec.block=4",
    "codec.network={kind: fast, hop: 80, width: 16, encoder: [0, 1], decoder: [1, 0]}",
    "codec.quantizer={kind: residual, levels: 2, size: 16, dim: 8}", "codec.segment=0.1",
    "codec.objective={mel: 1.0, loud: 1.0, phase: 0.5, white: 0.03}",
    "codec.discriminators={kind: spectrograms, start: 6, warmup: 4, width: 4, segments: 2}",
    "training={batch: 4, warmup: 2, learning_rate: 0.001, decay: 0.6, ema: 0.99, betas: [0.8, 0.99]}",
]  # fmt: skip


def recipe(folder, *settings):
    return make_recipe(BASE, [*SMALL, f"data.folder={folder}", *settings])


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


def test_discriminators_come_when_they_are_due(run):
    _, reports = run
    assert ["discriminators" in report.losses for report in reports] == [False] * 6 + [True] * 6
    assert set(reports[-1].valid) == {"loss", "half", "perplexity", "collapsed"}


def test_a_run_is_a_model(run):
    place = run[0]
    codec = load_part(read_pipeline(place).folder(place, "codec"), (WaveformCodec,))
    assert int(codec.steps_trained) == 12
    assert codec.decode(codec.encode(torch.randn(1, 1, 999)))[..., :999].shape == (1, 1, 999)


def test_resumed_equals_uninterrupted(folder, run, tmp_path):
    train(recipe(folder, "training.steps=12"), tmp_path / "run", say=quiet, on_report=interrupted_after(8))
    assert not _same(tmp_path / "run", run[0])
    train(read_run(tmp_path / "run"), tmp_path / "run", resume=True, say=quiet)
    assert _same(tmp_path / "run", run[0])


def _same(a, b):
    one, other = (load_part(place / "codec", (WaveformCodec,)).state_dict() for place in (a, b))
    return all(torch.equal(one[name], other[name]) for name in one)


def test_it_goes_on_from_another(folder, run, tmp_path):
    train(recipe(folder, "training.steps=1", f"codec.start={run[0]}"), tmp_path / "on", say=quiet)
    first, then = (load_part(place / "codec", (WaveformCodec,)) for place in (run[0], tmp_path / "on"))
    assert int(then.steps_trained) == 1
    near = [torch.dist(a, b) / b.norm() for a, b in zip(then.parameters(), first.parameters(), strict=True) if b.any()]
    assert max(near) < 0.5
    with pytest.raises(ModelError, match="is another one"):
        train(
            recipe(folder, "training.steps=1", f"codec.start={run[0]}", "codec.quantizer.levels=3"),
            tmp_path / "x",
            say=quiet,
        )


STREAM = "codec.network={kind: soundstream, strides: [2, 4, 10], widths: [4, 6, 8, 8]}"
D = "codec.discriminators"
# Each option that does something else than it does by default, with what it can't do without.
WAYS = {
    "as it comes": [],
    "a pitch": ["codec.network.pitch={}"],
    "SoundStream's": [STREAM],
    "Snake": [STREAM, "codec.network.activation=snake"],
    "multiresolution": [STREAM, "codec.network.multires=[1]"],
    "wavelets": [STREAM, "codec.network.wavelets=[1]"],
    "wavelets that look ahead": [STREAM, "codec.network.wavelets=[1]", "codec.network.wavelet=moving-sum"],
    "SoundStream's, its stages led": [STREAM, "codec.objective.stages=1"],
    "by gradient": ["codec.quantizer.learned=gradient"],
    "by direction": ["codec.quantizer.metric=cosine"],
    "a narrow lookup": ["codec.quantizer.lookup_dim=4"],
    "a map of codes": ["codec.quantizer.map={topology: grid, batches: 10}"],
    "dropped levels": ["codec.quantizer.dropout=0.5"],
    "no restarts": ["codec.quantizer.restart=false"],
    "finite scalars": ["codec.quantizer={kind: finite, levels: 2, steps: [5, 5], dim: 8, dropout: 0.5}"],
    "signs": ["codec.quantizer={kind: lookup-free, levels: 2, bits: 4, dim: 8}"],
    "continuous latents": ["codec.quantizer={kind: gaussian, dim: 8, latent: 4}"],
    "an energy transformer before codes": ["codec.energy={dim: 8, heads: 2, memories: 16, steps: 2}"],
    "one discriminator at a time": [f"{D}.selection=difficulty", f"{D}.every=2"],
    "Lumen's discriminators": ["codec.segment=0.15", f"{D}.kind=lumen"],
    "MelGAN's discriminators": [f"{D}.kind=scales", f"{D}.loss=melgan"],
    "squares": [f"{D}.loss=squares"],
    "linear": [f"{D}.loss=linear"],
    "repulsion": [f"{D}.repulsion=0.001"],
    "balanced": [f"{D}.balanced=true"],
    "an adaptive weight": [f"{D}.adaptive=true"],
    "discriminators alone": [f"{D}.adversarial_only=true", f"{D}.warmup=1"],
    "discriminators that teach nothing": [f"{D}.weight=0", f"{D}.features=0"],
    "no mels": ["codec.objective.mel=0"],
    "neither loud nor phase": ["codec.objective.loud=0", "codec.objective.phase=0"],
    "samples": ["codec.objective.l1=1", "codec.objective.l2=1"],
    "not white": ["codec.objective.white=0"],
    "treble later": ["codec.objective.opening=0.5"],
    "another sound each time": [
        "codec.augment={gain: 6, polarity: 0.5, filter: 3, noise: 0.5, overtones: 0.5, mix: 0.5}"
    ],
    "two channels": ["codec.channels=2"],
}
# Pairs that can't be, and the sentence that says so.
REFUSED = {
    frozenset({"balanced", "discriminators alone"}): "adversarial_only leaves out; give one",
    frozenset({"balanced", "an adaptive weight"}): "both scale the adversarial loss; give one of them",
    frozenset({"an adaptive weight", "discriminators alone"}): "adversarial_only leaves out; give one",
    frozenset({"discriminators alone", "discriminators that teach nothing"}): "leaves nothing to learn from",
    frozenset(
        {"a pitch", "an adaptive weight"}
    ): "has a pitch filter beside them; set discriminators.adaptive to false",
    frozenset({"a pitch", "continuous latents"}): "a pitch is codes, and a gaussian bottleneck has none",
}


def small(*settings):
    """The task as it begins."""
    return autoencoder_of(make_recipe(BASE, [*SMALL, *settings]))


def _can_be(one: str, other: str) -> bool:
    """Whether no setting of one undoes one of the other: a key with two values, or one inside a mapping that is set."""
    a, b = (dict(setting.split("=", 1) for setting in WAYS[name]) for name in (one, other))
    ours, theirs = dict(a.items() - b.items()), dict(b.items() - a.items())
    return not any(k == m or k.startswith(f"{m}.") or m.startswith(f"{k}.") for k in ours for m in theirs)


ALL_PAIRS = [pair for pair in combinations(WAYS, 2) if "as it comes" not in pair and _can_be(*pair)]
# A third of those that have to work, since all of them take minutes; each way is in several.
PAIRS = [pair for i, pair in enumerate(ALL_PAIRS) if i % 3 == 0 or frozenset(pair) in REFUSED]


@pytest.mark.slow
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_every_pair_of_options_takes_a_step(one, other):
    settings = ["training.steps=20", f"{D}.start=0", *WAYS[one], *WAYS[other]]
    if said := REFUSED.get(frozenset({one, other})):
        with pytest.raises(Error, match=said):
            small(*settings)
        return
    task = small(*settings)
    batch = 0.1 * torch.randn(2, task.part.config.channels, round(8000 * task.stage.segment))
    loss = task.train()(batch_of(batch), 0)["loss"]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in task.parameters() if p.grad is not None)


ALL = {
    **WAYS,
    "balanced, and stages led": [STREAM, "codec.objective.stages=1", f"{D}.balanced=true"],
}  # a pair that failed


@pytest.mark.parametrize("settings", ALL.values(), ids=ALL)
def test_every_way_takes_a_step(settings):
    task = small("training.steps=20", f"{D}.start=0", *settings)
    channels, chosen = task.part.config.channels, task.stage.discriminators
    tone = 0.2 * np.sin(2 * np.pi * 200 * np.arange(2000) / 8000)
    noises = [np.random.default_rng(i).normal(0, 0.1, (channels, 2000)) for i in range(4)]
    examples = [Example(torch.from_numpy((tone + noise).astype(np.float32))) for noise in noises]
    batches = RandomCrops(examples, round(8000 * task.stage.segment), 4, 0, level=(-20.0, 6.0))
    optimizer = Muon(task.parameter_groups(task.stage.training), betas=task.stage.training.betas)
    for group in optimizer.param_groups:
        group["lr"] = 1e-4
    before = {name: p.clone() for name, p in task.named_parameters()}
    for step in range(2):
        terms = task.train()(batches[step], step)
        assert all(term.isfinite() for term in terms.values())
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    # A hinge pulls a discriminator's bias up for what is real as much as down for what is made, until it tells them
    # apart.
    names = [name for name in before if not (name.startswith("adversary.") and "bias" in name)]
    now = dict(task.named_parameters())
    still = {name for name in names if torch.equal(now[name], before[name])}
    count = len(task.adversary.discriminators.discriminators)
    which = {f"adversary.discriminators.discriminators.{i}." for i in range(count)}
    if chosen.selection == "difficulty":  # the others wait for their turn
        assert sum(any(name.startswith(one) for name in still) for one in which) == len(which) - 1
        still = {name for name in still if not name.startswith("adversary.")}
    if not chosen.weight + chosen.features:  # who teaches nothing is not asked
        still = {name for name in still if not name.startswith("adversary.")}
    assert not still


def test_alone_with_its_discriminators_nothing_else_pulls():
    task = small(f"{D}.start=0", f"{D}.warmup=2", f"{D}.adversarial_only=true")
    first, then = (task.train()(batch_of(torch.randn(4, 1, 800)), step) for step in range(2))
    assert "mel" in first and {"mel", "loud"}.isdisjoint(then)
    assert {"adversarial", "features", "discriminators"} < set(then)


def test_a_discriminator_that_scores_all_alike_is_counted():
    task = small(f"{D}.start=0")
    adversary, held_out = task.adversary, [Example(torch.randn(1, 800))]
    count = len(adversary.discriminators.discriminators)
    adversary.met.fill_(REMEMBERED)
    adversary.statistics[:, :, 0], adversary.statistics[:, :, 2] = 1.0, 1.0  # apart, and alive
    assert task.measure(held_out, 1)["collapsed"] == 0
    adversary.statistics[1:, :, 0] = 0.0
    assert task.measure(held_out, 1)["collapsed"] == count - 1


def test_eight_segments_are_learned_by_heart():
    quantizer = "codec.quantizer={kind: residual, levels: 4, size: 64, dim: 8, decay: 0.9}"
    task = small("codec.network.width=48", quantizer, f"{D}.start=1000")
    times = torch.arange(1600) / 8000
    segments = torch.stack([0.3 * torch.sin(2 * math.pi * (200 + 90 * i) * times)[None] for i in range(8)])
    optimizer = Muon(task.parameter_groups(task.stage.training), betas=task.stage.training.betas)
    for step in range(150):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, 2 - step / 75)
        task.train()(batch_of(segments), step)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    codec = task.part.eval()
    codec.steps_trained.fill_(150)
    made = codec.decode(codec.encode(segments))[..., :1600]
    silence = multi_scale_mel_distance(torch.zeros_like(segments), segments, 8000)
    assert multi_scale_mel_distance(made, segments, 8000) < 0.3 * silence


def test_what_can_not_be_is_said():
    with pytest.raises(Error, match="can't share evenly"):
        autoencoder_of(make_recipe(BASE, [*SMALL, f"{D}.segments=3"]), ranks=2)
    with pytest.raises(Error, match=r"set network.kind to soundstream"):
        small("codec.objective.stages=1")
    with pytest.raises(Error, match=r"segments of 0.1 s .* more than 0.128 s"):
        small(f"{D}.kind=lumen")
    with pytest.raises(ModelError, match="give both the same dim"):
        small("codec.energy={dim: 16, heads: 2}")
    deep = "codec.network={kind: soundstream, strides: [2, 2, 2, 2, 2, 2, 2], widths: [2, 2, 2, 2, 2, 2, 2, 2]}"
    with pytest.raises(Error, match=r"weights for 6 stages at most and network.strides has 7; give fewer strides"):
        small(deep, "codec.objective.stages=1")


NOTHING = "codec.objective={}"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ([NOTHING, "codec.discriminators=null"], "so nothing would be learned"),
        ([NOTHING, f"{D}.weight=0", f"{D}.features=0"], "so nothing would be learned"),
        ([NOTHING, f"{D}.start=0", f"{D}.adaptive=true"], "and objective has none"),
    ],
)
def test_something_has_to_teach(settings, said):
    with pytest.raises(Error, match=said):
        small(*settings)


@pytest.mark.parametrize("start", [0, 1])
def test_discriminators_may_teach_alone(start):
    task = small(NOTHING, f"{D}.start={start}", "codec.network.pitch=null")
    batch = batch_of(0.1 * torch.randn(4, 1, round(8000 * task.stage.segment)))
    for step in range(2):
        assert not task.part.last.grad
        task.train()(batch, step)["loss"].backward()
        taught = bool(task.part.last.grad.any())
        assert taught == (step >= start)
        task.zero_grad()


def test_six_stages_are_led():
    six = "codec.network={kind: soundstream, strides: [2, 2, 2, 2, 2, 2], widths: [2, 2, 2, 2, 2, 2, 2]}"
    assert small(six, "codec.objective.stages=1").train()(batch_of(torch.randn(2, 1, 800)), 0)["stages"] > 0


LED = [STREAM, "codec.objective.stages=0.1", "codec.objective.opening=0.5", f"{D}.start=3"]


def test_a_run_whose_stages_are_led_and_whose_treble_comes_later(folder, tmp_path):
    """The loop copies the task, whose hooks and outputs must not be in the way."""
    assert train(recipe(folder, *LED, "training.steps=5"), tmp_path / "run", say=quiet).finished


def test_two_channels_are_trained_and_kept_apart(folder, tmp_path):
    reports = []
    two = recipe(folder, "codec.channels=2", "training.steps=8")
    assert train(two, tmp_path / "run", say=quiet, on_report=reports.append).finished
    codec = load_part(tmp_path / "run/codec", (WaveformCodec,))
    made = codec.decode(codec.encode(torch.randn(1, 2, 800)))
    assert codec.config.channels == 2 and made.shape[1] == 2
    assert "discriminators" in reports[-1].losses


def test_the_command_says_what_to_do_with_it(folder, tmp_path, capsys):
    from cymatic.apps.cli import run as command

    given = [word for setting in SMALL for word in ("--set", setting)]
    assert command(["train", str(folder), "--recipe", BASE, "--steps", "2", "-o", str(tmp_path / "run"), *given]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == f"use it: cymatic encode in.wav -o out.cym --model {tmp_path / 'run'}"


def test_lumens_recipe_trains_by_the_command(folder, tmp_path):
    """Shrunk in width alone: stages that are led, a low-pass that opens, eight discriminators one at a time."""
    from cymatic.apps.cli import run as command

    shrunk = [
        "codec.rate=8000", STREAM, "codec.network.wavelets=[1]",
        "codec.quantizer={kind: residual, levels: 2, size: 16, dim: 8, dropout: 0.5, map: {topology: grid}}",
        "codec.segment=0.15", "codec.discriminators.start=3", "codec.discriminators.segments=2", "training.batch=2",
    ]  # fmt: skip
    given = [word for setting in shrunk for word in ("--set", setting)]
    assert (
        command(["train", str(folder), "--recipe", "lumen", "--steps", "5", "-o", str(tmp_path / "run"), *given]) == 0
    )
    assert load_part(tmp_path / "run/codec", (WaveformCodec,)).steps_trained == 5
