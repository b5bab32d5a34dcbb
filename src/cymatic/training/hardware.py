"""Devices, precision and compilation: what Fabric is given, after a look at whether it works on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import Logger
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import nn

from cymatic.errors import Error
from cymatic.nn.adaln import AdaLNBlock
from cymatic.vocoders.vocos import Mix

PRECISIONS = ("fp32", "bf16")
REPEATED = (AdaLNBlock, Mix)  # compiled once each and used many times
PATIENCE = timedelta(days=7)  # how long processes wait for one that reads or measures; a dead one is noticed at once
# Run by an interpreter of its own: products of a few sizes forwards and backwards, the time of both precisions.
PROBE = """
import sys, time, torch
from torch.nn.functional import scaled_dot_product_attention as attention
kind = sys.argv[1]
torch.manual_seed(0)
layer, x = torch.nn.Linear(192, 768).to(kind), torch.randn(2048, 192, device=kind)
def once():
    y = layer(x)
    h = y.unflatten(-1, (4, 192)).unflatten(0, (32, 64)).transpose(1, 2)
    attention(h, h, h).float().square().mean().backward()
    return layer.weight.grad.sum().item()
def seconds(mixed):
    with torch.autocast(kind, dtype=torch.bfloat16, enabled=mixed):
        once()
        began = time.perf_counter()
        for _ in range(3): once()
    return time.perf_counter() - began
rounds = [(seconds(False), seconds(True)) for _ in range(5)]  # other programs come and go, so the best of each counts
print("took", *map(min, zip(*rounds)))
"""


class Mixed(MixedPrecision):
    """Fabric's bf16-mixed, but what a batch holds stays float32: it is what the loss is measured against."""

    def convert_input(self, data: Any) -> Any:
        return data


def make_fabric(
    device: str,
    devices: int = 1,
    precision: str = "fp32",
    *,
    loggers: Logger | list[Logger] | None = None,
    some_unused: bool = False,
) -> Fabric:
    """A Fabric on `devices` devices of the kind of `device` (`cpu`, `cuda`, `cuda:1`, `mps`).

    One device means no process group and no launch. With `some_unused` a step may leave some weights without a
    gradient. Raises Error for a number of devices or a precision that is not to be had.
    """
    kind, _, index = device.partition(":")
    if precision not in PRECISIONS:
        raise Error(f'--precision is "{precision}"; give one of {", ".join(PRECISIONS)}')
    plugins: list[Any] = [Mixed("bf16-mixed", kind)] if precision == "bf16" else []
    check_devices(device, devices)
    if devices == 1:
        one: Any = [int(index)] if index and kind == "cuda" else 1
        return Fabric(accelerator=kind, devices=one, plugins=plugins, loggers=loggers)
    strategy = DDPStrategy(
        start_method="spawn",
        cluster_environment=LightningEnvironment(),  # whatever scheduler started this process
        timeout=PATIENCE,
        broadcast_buffers=False,  # they are the same everywhere, and the table of words is large
        find_unused_parameters=some_unused,
    )
    return Fabric(accelerator=kind, devices=devices, strategy=strategy, plugins=plugins, loggers=loggers)


def check_devices(device: str, devices: int) -> None:
    """Raises Error where this machine has no `devices` devices of that kind."""
    kind, _, index = device.partition(":")
    if devices < 1:
        raise Error(f"--devices is {devices}; give a whole number from 1")
    if devices == 1:
        return
    if index:
        raise Error(f"--device {device} names one device and --devices {devices} asks for more; say --device {kind}")
    has = {"cpu": os.cpu_count() or 1, "cuda": torch.cuda.device_count()}.get(kind, 1)
    if devices > has:
        what = "processor cores" if kind == "cpu" else f"{kind} devices"
        raise Error(f"--devices is {devices}, and this machine has {has} {what}; give at most {has}")


def check_precision(device: str, precision: str, say: Callable[[str], None]) -> None:
    """Tries bf16 in a process of its own, since where it isn't to be had it may end the process that asks for it.

    Says where it is slower than float32 here; raises Error where it does not work.
    """
    kind = device.partition(":")[0]
    if precision != "bf16":
        return
    if kind == "cuda":  # asking is enough
        if not torch.cuda.is_bf16_supported(including_emulation=False):
            raise Error("--precision bf16 needs a GPU that computes with it (from NVIDIA's Ampere on); leave it out")
        return
    done = subprocess.run([sys.executable, "-c", PROBE, kind], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        how = signal.Signals(-done.returncode).name if done.returncode < 0 else last[:200]
        raise Error(f"--precision bf16 does not work on this machine's {kind} (a trial ended with {how}); leave it out")
    plain, mixed = map(float, done.stdout.split()[-2:])
    if mixed > 0.95 * plain:
        say(f"note   bf16 takes {mixed / plain:.1f} times as long as fp32 on this machine's {kind}; it would not help")


def check_compiler() -> None:
    """Compiles one sum, which takes what compiling a network takes. Raises Error where that fails."""
    try:
        compiled = torch.compile(lambda x: (x.sin() + 1).sum())
        compiled(torch.ones(64))
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        compiler = "clang++ (xcode-select --install)" if sys.platform == "darwin" else "g++"
        raise Error(
            f"--compile does not work on this machine ({reason[:200]}); it needs a C++ compiler such as {compiler}, so "
            "install one or leave --compile out"
        ) from None


def compile_blocks(network: nn.Module) -> None:
    """Compiles the blocks that a network repeats, in place: one compilation serves all of one kind and any length.

    Names of weights stay as they are, and a copy of the network is not compiled.
    """
    for module in network.modules():
        if isinstance(module, REPEATED):
            module.compile(dynamic=True)
