"""What one training step of a spectrogram codec with its judge of patches costs: time and peak memory.

    OMP_NUM_THREADS=1 python benchmarks/specvqgan_step.py                  # the published size, 4 mels of 80 x 848
    OMP_NUM_THREADS=1 python benchmarks/specvqgan_step.py --as-published   # the same step as its authors take it
    OMP_NUM_THREADS=1 python benchmarks/specvqgan_step.py --small          # 64 mels of 100 x 48, patches of 4 x 4
    ... --costs 12                                                         # the operators that cost most

`--as-published` is the step that the published code takes, with the same results up to rounding: norm, swish and
convolution one by one, doubled grids convolved at their full size, the judge asked about real and made mels one after
the other and about made ones twice, and its whole gradient computed for the adaptive weight and once more for the step.

Time is that of the processor, so that other processes count little; memory is the process's peak.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import time

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import interpolate, silu

from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig, SpectrogramShape, specvqgan
from cymatic.discriminators.losses import discriminator_loss, generator_loss
from cymatic.discriminators.patch import PatchDiscriminator, discriminate_together
from cymatic.discriminators.weight import adaptive_weight, settled
from cymatic.nn import grid
from cymatic.quantizers.vector import VectorQuantizerConfig
from cymatic.signal.mel import PRESETS

SMALL = SpectrogramShape(width=64, multiples=(1, 2), blocks=1, patch=(4, 4), latent=64)


def as_published(codec: SpectrogramCodec, judge: PatchDiscriminator, mel: Tensor) -> Tensor:
    step = codec(mel)
    wanted, made = step.wanted[:, None], step.made[:, None]
    rec = (made - wanted).abs().mean()
    fool = generator_loss([judge(made)])
    weight = adaptive_weight(rec, fool, codec.last, most=1.0)
    (rec + sum(step.quantized.losses.values()) + weight * fool).backward()
    judge.zero_grad()
    discriminator_loss([judge(wanted)], [judge(made.detach())]).backward()
    return rec


def ours(codec: SpectrogramCodec, judge: PatchDiscriminator, mel: Tensor) -> Tensor:
    step = codec(mel)
    wanted, made = step.wanted[:, None], step.made[:, None]
    rec = (made - wanted).abs().mean()
    frozen = {name: p.detach() for name, p in judge.named_parameters()}
    fool = settled(lambda x: generator_loss([functional_call(judge, frozen, (x,))]), made)
    weight = adaptive_weight(rec, fool, codec.last, most=1.0)
    (rec + sum(step.quantized.losses.values()) + weight * fool).backward()
    real, fake = discriminate_together(judge, wanted, made.detach())
    discriminator_loss([real], [fake]).backward()
    return rec


def one_by_one() -> None:
    """Puts the layers' plain forms in place of their thrifty ones."""
    grid.NormConv.forward = lambda self, x: self.conv(silu(self.norm(x)))
    grid.Double.forward = lambda self, x: self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as-published", action="store_true")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, default=1, help="the fastest counts; the first is always slower")
    parser.add_argument("--costs", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.small:
        spec, frames = PRESETS["sound-24k"], 48
        batch, shape, width = 64, SMALL, 32
    else:
        spec, frames = PRESETS["specvqgan-22k"], 848
        batch, shape, width = 4, specvqgan(), 64
    quantizer = VectorQuantizerConfig(size=1024, dim=shape.latent)
    codec = SpectrogramCodec(SpectrogramCodecConfig(mel=spec, quantizer=quantizer, **shape.model_dump())).train()
    judge = PatchDiscriminator(width=width)
    mel = torch.randn(args.batch or batch, spec.mels, frames)
    step = as_published if args.as_published else ours
    if args.as_published:
        one_by_one()
    times = []
    with torch.profiler.profile() if args.costs else contextlib.nullcontext() as profile:
        for _ in range(args.steps):
            codec.zero_grad()
            judge.zero_grad()
            started = time.process_time()
            error = step(codec, judge, mel)
            times.append(time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    of_codec, of_judge = (torch.stack([p.grad.norm() for p in part.parameters()]).norm() for part in (codec, judge))
    print(f"reconstruction {error:.6f}, gradient {of_codec:.5g}, of the judge {of_judge:.5g}")
    print(f"{min(times):.2f} s a step ({torch.get_num_threads()} threads), peak {peak:.2f} GiB")
    if profile is not None:
        averages = profile.key_averages()
        print(averages.table(sort_by="self_cpu_time_total", row_limit=args.costs, max_name_column_width=50))


if __name__ == "__main__":
    main()
