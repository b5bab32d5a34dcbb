"""How fast is residual quantization? Against vector-quantize-pytorch, on the same codebooks.

    pip install -c constraints.txt vector-quantize-pytorch==1.32.0
    python benchmarks/residual.py --threads 2

Eight codebooks of 1024 codes and 128 numbers; what is encoded are vectors of a shrinking spread, as real latents are.
Both take turns in one process, and the medians of the rounds count. "CPU" is processor time, which says more than the
clock where others use the machine as well. The codes must be the same; where two codes are equally near up to rounding
(a margin below 1e-4) they may differ, and such places are counted apart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer
from torch import Tensor

from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig

LEVELS, SIZE, DIM = 8, 1024, 128
MARGIN = 1e-4
PEER = "vector-quantize-pytorch"

app = typer.Typer(add_completion=False, help=__doc__)


@dataclass
class Times:
    """Seconds of each round, by the clock and of the processor."""

    clock: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)

    def add(self, work: Callable[[], Any]) -> None:
        """One more round."""
        clock, processor = time.perf_counter(), time.process_time()
        work()
        self.clock.append(time.perf_counter() - clock)
        self.processor.append(time.process_time() - processor)


def vectors(count: int, generator: torch.Generator) -> Tensor:
    """`[1, DIM, count]`, of a spread that halves every sixteen numbers."""
    return torch.randn(1, count, DIM, generator=generator).mul(0.5 ** (torch.arange(DIM) / 16)).mT.contiguous()


def ours() -> ResidualQuantizer:
    """A quantizer whose codes are residuals of vectors as they will come."""
    quantizer = ResidualQuantizer(ResidualQuantizerConfig(levels=LEVELS, size=SIZE, dim=DIM)).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        quantizer(vectors(16 * SIZE, generator), generator)
    return quantizer.eval()


def theirs(quantizer: ResidualQuantizer) -> Any | None:
    """ResidualVQ with the same codebooks; None where it isn't installed."""
    try:
        from vector_quantize_pytorch import ResidualVQ
    except ImportError:
        return None
    peer = ResidualVQ(dim=DIM, num_quantizers=LEVELS, codebook_size=SIZE).eval()
    for layer, book in zip(peer.layers, quantizer.codebooks, strict=True):
        layer._codebook.embed.data.copy_(book[None])
        layer._codebook.initted.fill_(True)
    return peer


def margins(quantizer: ResidualQuantizer, z: Tensor, codes: Tensor) -> Tensor:
    """By how much the nearest code beats the second, in distance, `[levels, count]`."""
    residual, found = z[0].T, []
    for level, book in enumerate(quantizer.codebooks):
        distances = torch.cdist(residual.double(), book.double()).topk(2, largest=False).values
        found.append(distances[:, 1] - distances[:, 0])
        residual = residual - book[codes[0, level]]
    return torch.stack(found)


@app.command()
def main(
    threads: Annotated[int, typer.Option(help="Of the processor.")] = 1,
    count: Annotated[int, typer.Option(help="Vectors to encode at once; 1500 are half a minute at 50 Hz.")] = 1500,
    rounds: Annotated[int, typer.Option(help="Of which the medians count.")] = 9,
) -> None:
    """Seconds for each, and whether the codes are the same."""
    torch.set_num_threads(threads)
    quantizer = ours()
    peer = theirs(quantizer)
    if peer is None:
        print(f"{PEER} is not installed, so there is nothing to compare with; see this program's help")
    z = vectors(count, torch.Generator().manual_seed(1))
    rows = z.mT.contiguous()
    works: dict[str, Callable[[], Any]] = {"cymatic": lambda: quantizer.encode(z)}
    if peer is not None:
        works[PEER] = lambda: peer(rows)
    times = {name: Times() for name in works}
    with torch.inference_mode():
        for work in works.values():
            work()
        for _ in range(rounds):
            for name, work in works.items():
                times[name].add(work)
        print(f"{LEVELS} x {SIZE} codes of {DIM} numbers, {count} vectors, {threads} threads, {rounds} rounds")
        for name, took in times.items():
            print(f"{name:26} {median(took.clock):.4f} s   CPU {median(took.processor):.4f} s")
        if peer is None:
            return
        mine, other = times["cymatic"], times[PEER]
        faster = median(other.clock) / median(mine.clock), median(other.processor) / median(mine.processor)
        print(f"ours is {faster[0]:.1f} times as fast, {faster[1]:.1f} times by CPU")
        codes, found = quantizer.encode(z), peer(rows)[1].movedim(-1, 1)
        # A place that went another way at one level goes on with other residuals.
        sure = (margins(quantizer, z, codes) >= MARGIN).cummin(0).values[None]
        print(
            f"codes: {int((codes != found).sum())} of {codes.numel()} differ, {int((codes != found)[sure].sum())} of "
            f"the {int(sure.sum())} whose margins, and those of the levels before, are {MARGIN} or more"
        )


if __name__ == "__main__":
    app()
