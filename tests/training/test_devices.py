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

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import TINY, quiet, tiny_codes_recipe, tiny_recipe

import cymatic
from cymatic.data.codes import Coded, CodesBatches
from cymatic.data.mels import Batches, Clip
from cymatic.data.waves import RandomCrops
from cymatic.errors import Error
from cymatic.signal.mel import PRESETS
from cymatic.training import hardware
from cymatic.training.codec_task import CodecTask
from cymatic.training.codes_task import CodesTask
from cymatic.training.hardware import check_devices, check_precision, make_fabric
from cymatic.training.loop import Outcome, fit
from cymatic.training.prior_task import PriorTask
from cymatic.training.ranks import train_together
from cymatic.training.recipe import JudgeSettings, TrainingSettings
from cymatic.training.state import Progress
from cymatic.training.train import read_run, train
from cymatic.training.vocoder_task import VocoderTask
from cymatic.vocoders.vocos import VocosShape

VOICE = PRESETS["voice-8k"]
STEPS = 50


def clips(count: int) -> list[Clip]:
    draws = torch.Generator().manual_seed(0)
    return [
        Clip(f"{'low' if i % 2 else 'high'} tone", torch.randn(64, 9 + 5 * i, generator=draws)) for i in range(count)
    ]


def gradients(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in task.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("count", "ranks"), [(8, 2), (7, 2), (5, 4)])
def test_the_mean_over_shares_is_the_whole_batch(tmp_path, count, ranks):
    """Losses and gradients, though lengths and numbers of items differ between the processes."""
    task = PriorTask(tiny_recipe(tmp_path, "training.steps=1", "training.condition_dropout=0.5"), VOICE)
    for p in task.parameters():  # layers that begin at zero would hide what lies before them
        p.data.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    some = clips(count)
    whole = task(Batches(some, count, 3)[2], 11)
    whole["loss"].backward()
    wanted = gradients(task)
    task.zero_grad()
    sums = dict.fromkeys(whole, 0.0)
    for rank in range(ranks):
        terms = task(Batches(some, count, 3, rank=rank, ranks=ranks)[2], 11)
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
def test_the_mean_over_shares_is_the_whole_batch_of_codes(tmp_path, count, ranks, kind):
    keys = ("training.condition_dropout=0.5", "prior.pkeep=0.8", "prior.dropout=0", f"prior.kind={kind}")
    recipe = tiny_codes_recipe(tmp_path, "training.steps=1", *keys)
    codec = CodecTask(recipe, VOICE).codec
    draws = torch.Generator().manual_seed(0)
    some = [
        Coded(f"{'low' if i % 2 else 'high'} tone", (torch.randint(32, (codec.rows, 2 + i), generator=draws),))
        for i in range(count)
    ]
    task = CodesTask(recipe, some, codes=codec.config.quantizer.size, rows=codec.rows, longest=12).eval()
    for module in (task.prior, *task.prior.children()):  # codes are corrupted in training only
        module.training = True
    whole = task(CodesBatches(some, count, 3)[2], 11)
    whole["loss"].backward()
    wanted = gradients(task)
    task.zero_grad()
    sums = dict.fromkeys(whole, 0.0)
    for rank in range(ranks):
        terms = task(CodesBatches(some, count, 3, rank=rank, ranks=ranks)[2], 11)
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
    with pytest.raises(Error, match=r"a batch of 3 clips is too small for 4 devices"):
        Batches(clips(3), 64, 0, rank=0, ranks=4)
    with pytest.raises(Error, match="can't be shared evenly by 2 devices"):
        RandomCrops([np.ones(9)], [1.0], 4, 7, 0, rank=0, ranks=2)
    with pytest.raises(Error, match=r"judges\.judged is 3"):
        VocoderTask(VocosShape(), JudgeSettings(judged=3), VOICE, 0, ranks=2)


def test_crops_are_shared():
    waves = [np.random.default_rng(i).normal(size=4000) for i in range(3)]
    whole = RandomCrops(waves, [1, 2, 3], 1024, 6, 5)[9]
    for rank in range(3):
        assert torch.equal(RandomCrops(waves, [1, 2, 3], 1024, 6, 5, rank=rank, ranks=3)[9], whole[rank::3])


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
    task = PriorTask(tiny_recipe("anywhere", "training.steps=1"), VOICE)
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
    """Three steps alone, three with judges, on noise."""
    waves = [np.random.default_rng(i).normal(size=6000).astype(np.float32) * 0.1 for i in range(4)]
    settings = TrainingSettings(steps=6, batch=4, warmup=1, learning_rate=1e-4, checkpoint_steps=6)
    ranks = fabric.world_size
    task = VocoderTask(
        VocosShape(width=16, depth=1, corrections=1),
        JudgeSettings(alone=3, judged=2, judge_width=4),
        VOICE,
        0,
        ranks=ranks,
    )
    crops = RandomCrops(waves, [1.0] * 4, 4100, settings.batch, 1, rank=fabric.global_rank, ranks=ranks)
    return fit(
        task.to(fabric.device), crops, [torch.from_numpy(waves[0])[None, None]], settings, run, fabric, resume=False,
        deadline=None, stopped=stopped, on_report=on_report, on_settings=lambda settings: None,
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
