"""Small sounds and models that several tests need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cymatic.media.picture import Picture
from cymatic.media.sound import Sound

if TYPE_CHECKING:
    from cymatic.codecs.waveform import BottleneckConfig, WaveformCodec
    from cymatic.data.batches import Batch
    from cymatic.evaluation.corpus import Clips
    from cymatic.media.picture import Picture
    from cymatic.training.loop import Report
    from cymatic.training.recipe import Recipe
    from cymatic.training.tasks.autoencoder import AutoencoderTask
    from cymatic.training.tasks.prior import PriorTask

# Small enough for a test, and the same parts as any model.
TINY = [
    "prior.encoder.dim=16", "prior.width=32", "prior.depth=1", "prior.heads=2", "prior.mel=voice-8k",
    "vocoder.rounds=2", "training.batch=8", "training.warmup=5",
]  # fmt: skip
PITCHES = {"low tone": 220, "high tone": 880}


def quiet(line: str) -> None:
    """For what would say how far it is."""


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tone(hz: float, seconds: float = 0.3, rate: int = 8000, seed: int = 0) -> Sound:
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).normal(size=len(time)) * 0.005
    return Sound(0.3 * np.sin(2 * np.pi * hz * time) + noise, rate)


def tiny_recipe(folder: Path, *settings: str) -> Recipe:
    """A recipe of `TINY` for the sounds in `folder`, with more settings laid over."""
    from cymatic.training.recipe import make_recipe  # brings in torch

    return make_recipe(None, [*TINY, f"data.folder={folder}", *settings])


def disc(radius: float, colour: tuple[float, float, float] = (0.9, 0.1, 0.1), size: int = 32) -> Picture:
    """A disc on white; radius: of half the side."""
    y, x = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    return Picture(np.where((x**2 + y**2 < radius**2)[..., None], np.array(colour), 1.0))


def tone_folder(root: Path, takes: int = 4) -> Path:
    """`low-tone_1.wav`, `high-tone_1.wav`, ...: captions "low tone" and "high tone"."""
    root.mkdir(parents=True, exist_ok=True)
    for caption, hz in PITCHES.items():
        for take in range(1, takes + 1):
            seconds = 0.2 + 0.05 * take
            tone(hz * (1 + 0.01 * take), seconds, seed=take).write(root / f"{caption.replace(' ', '-')}_{take}.wav")
    return root


# The same for a model over codes.
TINY_CODES = [
    "codec.mel=voice-8k", "codec.width=16", "codec.multiples=[1,2]", "codec.blocks=1", "codec.attention=[]",
    "codec.latent=16", "codec.patch=[8,4]", "codec.groups=4", "codec.segment=0.3",
    "codec.quantizer={kind: vector, size: 32, dim: 16, lookup_dim: 4, metric: cosine, restart: encoder}",
    "codec.discriminators.width=4", "codec.discriminators.start=10", "codec.discriminators.warmup=5",
    "codec.training={batch: 8, warmup: 5, learning_rate: 0.0005, betas: [0.5, 0.9], decay: 0.3}",
    "prior.part={kind: gpt, width: 32, depth: 1, heads: 2}", "prior.encoder.dim=16", "prior.variants=2",
    "prior.training={batch: 8, warmup: 5, betas: [0.9, 0.95]}", "vocoder.rounds=2",
]  # fmt: skip

TINY_CODES_STEPS = (
    "codec.training.steps=40", "codec.training.checkpoint_steps=15", "training.steps=45", "training.checkpoint_steps=15"
)  # fmt: skip


def tiny_codes_recipe(folder: Path, *settings: str) -> Recipe:
    """A recipe of `TINY_CODES` for the sounds in `folder`, with more settings laid over."""
    from cymatic.training.recipe import make_recipe

    return make_recipe("melspec-gpt-small", [*TINY_CODES, f"data.folder={folder}", *settings])


def autoencoder_of(recipe: Recipe, *, ranks: int = 1) -> AutoencoderTask:
    """The task of a recipe's first stage as it begins, before it has met any data."""
    from cymatic.training.builders.autoencoder import PARTS
    from cymatic.training.tasks.autoencoder import AutoencoderTask

    name, stage = next(iter(recipe.stages.items()))
    torch.manual_seed(0)
    return AutoencoderTask(name, stage, PARTS[type(stage.part)](stage.part), ranks=ranks)


COLOURS = {"red": (1, 0.1, 0.1), "blue": (0.1, 0.1, 1), "green": (0.1, 0.8, 0.1)}
SHAPES = ("circle", "square", "stripe")


def shape(caption: str, seed: int, side: int = 16) -> Picture:
    """A picture of "red circle" or another colour and shape, of its own place, size and noise."""
    from cymatic.media.picture import Picture

    colour, kind = caption.split()
    draws = np.random.default_rng([seed, list(COLOURS).index(colour), SHAPES.index(kind)])
    rows, columns = np.mgrid[:side, :side] / side
    y, x, size = draws.uniform(0.35, 0.65), draws.uniform(0.35, 0.65), draws.uniform(0.2, 0.3)
    inside = {
        "circle": (rows - y) ** 2 + (columns - x) ** 2 < size**2,
        "square": (abs(rows - y) < size) & (abs(columns - x) < size),
        "stripe": abs(rows - y) < size / 2,
    }[kind]
    pixels = np.ones((side, side, 3))
    pixels[inside] = COLOURS[colour]
    return Picture((pixels + draws.normal(0, 0.02, pixels.shape)).clip(0, 1))


def shape_clips(takes: int, seed: int = 0) -> Clips:
    """`takes` pictures of each of nine captions."""
    from cymatic.evaluation.corpus import Clips

    captions = [f"{colour} {kind}" for colour in COLOURS for kind in SHAPES for _ in range(takes)]
    return Clips.of([shape(caption, 1000 * seed + i) for i, caption in enumerate(captions)], captions)


def shape_folder(root: Path, takes: int = 4) -> Path:
    """`red-circle_1.png`, ...: captions such as "red circle"."""
    root.mkdir(parents=True, exist_ok=True)
    for colour in COLOURS:
        for kind in SHAPES:
            for take in range(1, takes + 1):
                shape(f"{colour} {kind}", take).write(root / f"{colour}-{kind}_{take}.png")
    return root


# A picture codec and a GPT over its codes, small enough for a test.
TINY_PICTURES = """
stages:
  codec:
    task: autoencoder
    part:
      {kind: picture, picture: {size: 16}, width: 16, multiples: [1, 2, 2], blocks: 1, attention: [], latent: 16,
       groups: 4, quantizer: {kind: vector, size: 32, dim: 16, lookup_dim: 4, metric: cosine, restart: encoder}}
    training: {steps: 60, batch: 8, learning_rate: 3.0e-3, warmup: 5, checkpoint_steps: 30}
  prior:
    task: prior
    codec: codec
    part: {kind: gpt, width: 32, depth: 1, heads: 2, order: row-major, end: false}
    encoder: {kind: text, dim: 16}
    training: {steps: 60, batch: 8, learning_rate: 3.0e-3, warmup: 5, checkpoint_steps: 30}
"""


def prior_over_codes(part: str, *settings: str, size: int, rows: int, longest: int = 12) -> PriorTask:
    """The task of a prior (`kind: gpt, width: 32`) over codes of a tiny codec's mels, as it begins."""
    from cymatic.encoders.text import TextEncoder
    from cymatic.latent import TargetFacts
    from cymatic.signal.mel import PRESETS
    from cymatic.training.builders.prior import PRIOR_OF
    from cymatic.training.recipe import make_recipe
    from cymatic.training.tasks.prior import PriorTask

    stage: Any = make_recipe("melspec-gpt-small", [f"prior.part={{{part}}}", *settings]).stages["prior"]
    torch.manual_seed(0)
    facts = TargetFacts(PRESETS["voice-8k"], (size,) * rows, longest, cond_dim=stage.encoder.dim)
    prior = PRIOR_OF[type(stage.part)](stage.part.fitted(facts))
    return PriorTask("prior", stage, TextEncoder(stage.encoder), prior, kept="encoder")


def batch_of(target: torch.Tensor, caption: str = "") -> Batch:
    """A batch of targets of one length."""
    from cymatic.data.batches import Batch

    return Batch(target, torch.full((len(target),), target.shape[-1]), [caption] * len(target))


def tiny_codec(
    channels: int = 1, rate: int = 2000, *, seed: int = 0, steps: int = 1, quantizer: BottleneckConfig | None = None
) -> WaveformCodec:
    """A codec whose networks are drawn at random, trained just enough for its codes to differ: 50 frames a second, 3
    levels of 16 codes, so 0.2, 0.4 and 0.6 kbps.
    """
    from cymatic.codecs.fast import FastShape
    from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
    from cymatic.quantizers.residual import ResidualQuantizerConfig

    torch.manual_seed(seed)
    shape = FastShape(hop=rate // 50, split=2, width=16, encoder=(1, 1), decoder=(1, 1))
    quantizer = quantizer or ResidualQuantizerConfig(levels=3, size=16, dim=8)
    config = WaveformCodecConfig(rate=rate, channels=channels, network=shape, quantizer=quantizer, block=32)
    codec = WaveformCodec(config)
    for p in codec.network.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    codec.train()
    codec(0.3 * torch.randn(4, channels, rate * 6 // 10), generator())
    codec.steps_trained.fill_(steps)
    return codec.eval()


def save_codec(folder: Path, codec: Any, kbps: float | None = None) -> Path:
    """The codec as a model that `cymatic.load` and `--model` take."""
    from cymatic.hub.parts import save_part
    from cymatic.hub.pipeline_file import PipelineFile, write_pipeline

    save_part(folder / "codec", codec)
    write_pipeline(folder, PipelineFile(parts={"codec": "codec"}, kbps=kbps))
    return folder


def numbered_tones(root: Path, count: int, seconds: float = 0.3, rate: int = 2000) -> Path:
    """`tone-a_000.wav`, `tone-b_001.wav`, ...: each higher and longer than the one before."""
    root.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        tone(100 + 10 * i, seconds + 0.01 * i, rate, seed=i).write(root / f"tone-{'abcdefgh'[i % 8]}_{i:03}.wav")
    return root


def interrupted_after(step: int) -> Callable[[Report], None]:
    """An `on_report` that interrupts the training after `step` steps, as Ctrl-C does."""

    def report(at: Report) -> None:
        if at.step == step:
            signal.raise_signal(signal.SIGINT)

    return report


def side_by_side(work: Callable[..., Any], *given: Any, processes: int = 2) -> list[Any]:
    """`work(rank, *given)` in each of several processes that train together over gloo, and what each gave.

    `work` is a function of a test module; what it takes and gives is pickled, so it gives arrays rather than tensors.
    A process that fails ends this at once with an EOFError, after its traceback on stderr.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    ends = [context.Pipe() for _ in range(processes)]
    workers = [
        context.Process(target=_one_of, args=(rank, processes, port, there, work, given))
        for rank, (_, there) in enumerate(ends)
    ]
    for worker, (_, there) in zip(workers, ends, strict=True):
        worker.start()
        there.close()  # or its end would never be seen here
    try:
        return [here.recv() if here.poll(300) else None for here, _ in ends]
    finally:
        for worker in workers:
            worker.join(10)


def _one_of(rank: int, processes: int, port: str, pipe: Any, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=processes)
    pipe.send(work(rank, *given))
    torch.distributed.destroy_process_group()
