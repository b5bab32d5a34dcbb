"""Several processes train what one would have: the same draws, weights of losses, steps, files and endings."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import TINY, autoencoder_of, prior_over_codes, quiet, tiny_recipe

import cymatic
from cymatic.data.batches import Bucketed, RandomCrops
from cymatic.data.reading import Example
from cymatic.encoders.text import TextEncoder
from cymatic.errors import Error
from cymatic.latent import TargetFacts
from cymatic.priors.flow import FlowPrior
from cymatic.signal.mel import PRESETS
from cymatic.training import hardware
from cymatic.training.hardware import check_devices, check_precision, make_fabric
from cymatic.training.loop import Outcome, fit
from cymatic.training.pace import Pace
from cymatic.training.ranks import train_together
from cymatic.training.recipe import make_recipe
from cymatic.training.state import Progress
from cymatic.training.tasks.prior import PriorTask
from cymatic.training.train import read_run, train

VOICE = PRESETS["voice-8k"]
STEPS = 50


def clips(count: int) -> list[Example]:
    draws = torch.Generator().manual_seed(0)
    return [
        Example(torch.randn(64, 9 + 5 * i, generator=draws), caption=f"{'low' if i % 2 else 'high'} tone")
        for i in range(count)
    ]


def flow_task(*settings: str) -> PriorTask:
    """A flow over mels as it begins."""
    stage = tiny_recipe("anywhere", *settings).stages["prior"]
    torch.manual_seed(0)
    prior = FlowPrior(stage.part.fitted(TargetFacts(spec=VOICE, longest=9, cond_dim=stage.encoder.dim)))
    return PriorTask("prior", stage, TextEncoder(stage.encoder), prior, kept="encoder")


def gradients(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("count", "ranks", "frames"), [(8, 2, None), (7, 2, None), (5, 4, None), (12, 2, 150), (3, 2, 10)]
)
def test_the_mean_over_shares_is_the_whole_batch(count, ranks, frames):
    """Losses and gradients, though lengths and numbers of items differ between the processes."""
    task = flow_task("training.condition_dropout=0.5")
    for p in task.parameters():  # layers that begin at zero would hide what lies before them
        p.data.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    some = clips(count)
    whole = task(Bucketed(some, count, 3, frames=frames)[2], 11)
    whole["loss"].backward()
    wanted = gradients(task)
    task.zero_grad()
    sums = dict.fromkeys(whole, 0.0)
    for rank in range(ranks):
        terms = task(Bucketed(some, count, 3, frames=frames, rank=rank, ranks=ranks)[2], 11)
        (terms["loss"] / ranks).backward()
        sums = {name: sums[name] + terms[name].item() / ranks for name in sums}
    assert sums == pytest.approx({name: value.item() for name, value in whole.items()}, rel=1e-5)
    got = gradients(task)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            got[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("kind", ["gpt", "gpt-vae"])
@pytest.mark.parametrize(("count", "ranks"), [(8, 2), (7, 2), (5, 4)])
def test_the_mean_over_shares_is_the_whole_batch_of_codes(count, ranks, kind):
    draws = torch.Generator().manual_seed(0)
    some = [
        Example(torch.randint(32, (8, 2 + i), generator=draws), caption=f"{'low' if i % 2 else 'high'} tone")
        for i in range(count)
    ]
    part = f"kind: {kind}, width: 32, depth: 1, heads: 2, dropout: 0, pkeep: 0.8"
    task = prior_over_codes(part, "training.condition_dropout=0.5", size=32, rows=8).eval()
    for module in (task.prior, *task.prior.children()):  # codes are corrupted in training only
        module.training = True
    whole = task(Bucketed(some, count, 3)[2], 11)
    whole["loss"].backward()
    wanted = gradients(task)
    task.zero_grad()
    sums = dict.fromkeys(whole, 0.0)
    for rank in range(ranks):
        terms = task(Bucketed(some, count, 3, rank=rank, ranks=ranks)[2], 11)
        (terms["loss"] / ranks).backward()
        sums = {name: sums[name] + terms[name].item() / ranks for name in sums}
    assert sums == pytest.approx({name: value.item() for name, value in whole.items()}, rel=1e-5)
    got = gradients(task)
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(
            got[name], gradient, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_batch_too_small_for_the_devices_is_refused():
    with pytest.raises(Error, match=r"a batch of 3 items is too small for 4 devices"):
        Bucketed(clips(3), 64, 0, rank=0, ranks=4)
    with pytest.raises(Error, match="can't be shared evenly by 2 devices"):
        RandomCrops(clips(1), 4, 7, 0, rank=0, ranks=2)
    with pytest.raises(Error, match=r"discriminators\.segments is 3"):
        autoencoder_of(make_recipe("vocoder", ["stages.vocoder.discriminators.segments=3"]), ranks=2)


@pytest.mark.parametrize(
    ("device", "devices", "said"),
    [
        ("cpu", 0, "give a whole number from 1"),
        ("cpu", 100_000, r"this machine has \d+ processor cores"),
        ("mps", 2, "this machine has 1 mps devices"),
        ("cuda:1", 2, "--device cuda"),
    ],
)
def test_devices_that_are_not_here_are_named(device, devices, said):
    with pytest.raises(Error, match=said):
        check_devices(device, devices)


def test_one_device_takes_no_process_group():
    fabric = make_fabric("cpu")
    assert fabric.strategy.launcher is None and fabric.world_size == 1


def test_bf16_is_tried_before_it_is_used(monkeypatch):
    heard: list[str] = []
    monkeypatch.setattr(hardware, "PROBE", "import os, signal\nos.kill(os.getpid(), signal.SIGILL)")
    with pytest.raises(Error, match=r"does not work on this machine's cpu \(a trial ended with SIGILL\); leave it out"):
        check_precision("cpu", "bf16", heard.append)
    monkeypatch.setattr(hardware, "PROBE", "raise RuntimeError('no such type')")
    with pytest.raises(Error, match=r"ended with RuntimeError: no such type"):
        check_precision("cpu", "bf16", heard.append)
    monkeypatch.setattr(hardware, "PROBE", "print('took', 1.0, 2.0)")
    check_precision("cpu", "bf16", heard.append)
    check_precision("cpu", "fp32", heard.append)
    assert heard == ["note   bf16 takes 2.0 times as long as fp32 on this machine's cpu; it would not help"]
    with pytest.raises(Error, match='--precision is "fp16"; give one of fp32, bf16'):
        make_fabric("cpu", 1, "fp16")


def test_what_a_batch_holds_stays_in_float32_under_bf16():
    fabric = make_fabric("cpu", 1, "bf16")
    batch = torch.ones(2)
    assert fabric.strategy.precision.convert_input(batch) is batch
    assert fabric.strategy.precision.precision == "bf16-mixed"


def test_compiled_blocks_keep_their_names_and_copies_are_plain():
    task = flow_task()
    names = list(task.state_dict())
    hardware.compile_blocks(task)
    assert list(task.state_dict()) == names
    assert task.prior.blocks[0]._compiled_call_impl is not None
    assert copy.deepcopy(task).prior.blocks[0]._compiled_call_impl is None


@pytest.mark.slow
def test_two_devices_train_what_one_does(tones, tmp_path):
    """50 steps, no dropout, an odd batch: losses within 1e-3; and one goes on where two were broken off."""
    losses: dict[str, list[float]] = {"one": [], "two": [], "both": []}
    settings = tiny_recipe(
        tones, f"training.steps={STEPS}", "training.batch=7", "training.checkpoint_steps=20", "prior.dropout=0"
    )

    def note(name: str, until: int = STEPS + 1):
        def hear(at) -> None:
            losses[name].append(at.losses["loss"])
            if at.step == until:
                raise KeyboardInterrupt

        return hear

    assert train(settings, tmp_path / "one", say=quiet, on_report=note("one")).finished
    assert train(settings, tmp_path / "two", devices=2, say=quiet, on_report=note("two")).finished
    assert len(losses["two"]) == STEPS
    assert losses["two"] == pytest.approx(losses["one"], abs=1e-3)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "both", devices=2, say=quiet, on_report=note("both", until=30))
    both = tmp_path / "both"
    (state,) = (both / "prior/state").iterdir()
    before = json.loads((state / "state.json").read_text())["step"]
    assert 20 <= before < STEPS
    assert train(read_run(both), both, resume=True, say=quiet, on_report=note("both")).finished
    assert losses["both"][-(STEPS - before) :] == pytest.approx(losses["one"][before:], abs=1e-3)
    wanted = load_file(tmp_path / "one/prior/model.safetensors")
    for name in ("two", "both"):
        cymatic.load(tmp_path / name)("low tone", steps=2)
        assert {p.name for p in (tmp_path / name).iterdir()} == {p.name for p in (tmp_path / "one").iterdir()}
        tensors = load_file(tmp_path / name / "prior/model.safetensors")
        assert tensors.keys() == wanted.keys()
        assert max(float((tensors[key].float() - wanted[key].float()).abs().max()) for key in wanted) < 1e-3
    assert len(list((tmp_path / "two/logs").iterdir())) == 1, "one process writes the log"


def train_a_vocoder(fabric, *, run, say, on_report, stopped):
    """Three steps without discriminators, three with them, on noise."""
    recipe = make_recipe("vocoder", [
        "stages.vocoder.part={kind: vocos, mel: voice-8k, width: 16, depth: 1, corrections: 1}",
        "stages.vocoder.discriminators={kind: spectrograms, width: 4, start: 3, segments: 2}",
        "training={steps: 6, batch: 4, warmup: 1, learning_rate: 0.0001, checkpoint_steps: 6, betas: [0.8, 0.99]}",
    ])  # fmt: skip
    draws = torch.Generator().manual_seed(0)
    waves = [Example(0.1 * torch.randn(1, 6000, generator=draws)) for _ in range(4)]
    task = autoencoder_of(recipe, ranks=fabric.world_size)
    settings = task.stage.training
    crops = RandomCrops(
        waves, 4100, settings.batch, 1, level=(-20.0, 6.0), rank=fabric.global_rank, ranks=fabric.world_size
    )
    return fit(
        task.to(fabric.device), crops, waves[:1], settings, run, fabric, stage="vocoder", expected=Pace(1.0, 1.0),
        data="noise", resume=False, renew=None, deadline=None, stopped=stopped, on_report=on_report,
        on_settings=lambda settings: None,
    )  # fmt: skip


@pytest.mark.slow
def test_two_devices_train_a_vocoder(tmp_path):
    one: list[dict[str, float]] = []
    two: list[dict[str, float]] = []
    train_a_vocoder(
        make_fabric("cpu"), run=tmp_path / "one", say=quiet, on_report=lambda at: one.append(at.losses),
        stopped=lambda: False,
    )  # fmt: skip
    train_together(
        make_fabric("cpu", 2, some_unused=True), partial(train_a_vocoder, run=tmp_path / "two"), say=quiet,
        on_report=lambda at: two.append(at.losses),
    )  # fmt: skip
    assert [set(terms) for terms in two] == [set(terms) for terms in one]
    for ours, theirs in zip(two, one, strict=True):
        # Feature matching is a ratio of two means, so the mean of the processes' ratios is only near it.
        assert ours == pytest.approx(theirs, abs=1e-3, rel=2e-2 if "features" in theirs else 0)
    assert (tmp_path / "two/vocoder/model.safetensors").exists()


def fail_on_one(fabric, *, say, on_report, stopped):
    if fabric.global_rank == 1:
        raise Error("this clip is broken")
    fabric.barrier()
    return Outcome(Progress(), True)


def killed_on_one(fabric, *, say, on_report, stopped):
    if fabric.global_rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    fabric.barrier()
    return Outcome(Progress(), True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "said"),
    [(fail_on_one, "^this clip is broken$"), (killed_on_one, "a training process ended from outside .* --resume")],
)
def test_what_ends_one_ends_all_with_one_sentence(work, said):
    began = time.monotonic()
    with pytest.raises(Error, match=said) as error:
        train_together(make_fabric("cpu", 2), work, say=quiet, on_report=lambda at: None)
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 300, "something waited for what never came"
    assert "MASTER_PORT" not in os.environ


@pytest.mark.slow
def test_ctrl_c_stops_all_and_the_run_goes_on(tones, tmp_path):
    """As a terminal does it: the interrupt reaches every process."""
    run = tmp_path / "run"
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-m", "cymatic", "train"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, tones, "--steps", "100000", "-o", run, "--devices", "2", *settings,
             "--set", "training.checkpoint_steps=40"],
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 300
    while not (run / "prior/state/step-40").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    code = process.wait(120)
    said = (tmp_path / "log").read_text()
    assert code == 130, said
    assert "Traceback" not in said and "Initializing" not in said
    (state,) = (run / "prior/state").iterdir()
    before = int(state.name.removeprefix("step-"))
    assert f"stopped at step {before}; go on with: cymatic train --resume --out {run} --devices 2" in said
    with pytest.raises(ProcessLookupError):  # none is left, once multiprocessing's own helper has seen the end
        while time.monotonic() < deadline + 120:
            os.killpg(process.pid, 0)
            time.sleep(0.1)


@pytest.mark.slow
def test_compile_needs_a_compiler(tones, tmp_path):
    settings = [part for setting in TINY for part in ("--set", setting)]
    command = [sys.executable, "-m", "cymatic", "train", tones, "--compile", *settings]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    without = subprocess.run(
        [*command, "--steps", "3", "-o", tmp_path / "without"], capture_output=True, text=True, check=False,
        env={**environment, "CXX": "no-such-compiler"},
    )  # fmt: skip
    assert without.returncode == 2, without.stderr
    assert "--compile does not work on this machine" in without.stderr and "C++ compiler" in without.stderr
    assert len(without.stderr.strip().splitlines()) == 1
    if shutil.which("g++") is None and shutil.which("clang++") is None:
        pytest.skip("no C++ compiler here")
    done = subprocess.run(
        [*command, "--steps", "31", "-o", tmp_path / "run"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert not [name for name in load_file(tmp_path / "run/prior/model.safetensors") if "orig_mod" in name]
    cymatic.load(tmp_path / "run")("low tone", steps=2)


@pytest.mark.slow
def test_an_error_while_reading_is_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "cymatic", "train", tmp_path / "nowhere", "--devices", "2", "--steps", "3", "-o",
         tmp_path / "run"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"cymatic: {tmp_path / 'nowhere'} does not exist; give a folder of sounds\n"
