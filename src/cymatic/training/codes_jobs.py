"""The two stages of a model over codes: a codec for the folder's mels, then a prior over their codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.data.codes import Coded, CodesBatches
from cymatic.data.crops import MelRandomCrops
from cymatic.data.mels import Clip
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.pipeline_file import MOST_CAPTIONS, PARTS_OF_CODES, CodesFile, write_pipeline
from cymatic.priors.gpt_vae import GPTVAE
from cymatic.seeds import mixed
from cymatic.training.codec_task import CodecTask
from cymatic.training.codes_task import CodesTask
from cymatic.training.data import Data, load_data
from cymatic.training.job import Job
from cymatic.training.plan import describe_data, parameters
from cymatic.training.recipe import GPTVAESettings, MelGPTRecipe, TrainingSettings
from cymatic.training.start import load_codec, load_latent_prior, vocoder_for
from cymatic.vocoders.vocos import Vocos

AT_ONCE = 64  # sounds encoded side by side


def codec_job(recipe: MelGPTRecipe, fabric: Fabric, *, strict: bool, say: Callable[[str], None], run: Path) -> Job:
    """The first stage. Raises Error and ModelError as `load_data` and the parts do."""
    data = load_data(recipe, strict=strict, say=say)
    recipe = recipe.model_copy(update={"mel": data.spec, "codec_training": _lasting(recipe)})
    settings = recipe.codec_training
    task = CodecTask(recipe, data.spec)
    clips = list({id(clip): clip for clip in data.train}.values())  # drawn by length, not as often as packs repeat them
    task.codec.fit_statistics([clip.mel for clip in clips])
    frames = recipe.codes.piece * task.codec.config.cell[1]
    pieces = MelRandomCrops(
        clips,
        frames,
        settings.batch,
        mixed(settings.seed, 1),
        silence=data.spec.silence,
        rank=fabric.global_rank,
        ranks=fabric.world_size,
    )
    size = f"{parameters(task.codec) / 1e6:.1f} M parameters, and {parameters(task.judge) / 1e6:.1f} M of a judge"
    cells = " x ".join(map(str, task.codec.config.cell))
    about = (
        *describe_data(data),
        f"model  {size}; batches of {settings.batch} pieces of {data.spec.seconds(frames):.2g} s",
        f"codes  {recipe.quantizer.size} of them, each for {cells} of mels and frames",
    )
    return Job(
        recipe,
        data,
        task,
        pieces,
        data.valid,
        about,
        lambda run: _complete(run, recipe, data),
        settings="codec_training",
    )


def codes_job(recipe: MelGPTRecipe, fabric: Fabric, *, strict: bool, say: Callable[[str], None], run: Path) -> Job:
    """The second stage, over the codes of the first, or of the codec of `recipe.start`."""
    data = load_data(recipe, strict=strict, say=say)
    recipe = recipe.model_copy(update={"mel": data.spec})
    own = recipe.start is None
    codec = load_part(run / "codec", (SpectrogramCodec,)) if own else load_codec(str(recipe.start), data.spec)
    codec.to(fabric.device)
    say(f"coding {len(data.train) + len(data.valid)} sounds, in {recipe.codes.variants} variants each")
    once = {id(clip): clip for clip in data.train}  # a pack may repeat its clips
    coded = dict(zip(once, encoded(list(once.values()), codec, recipe.codes.variants), strict=True))
    train, valid = [coded[id(clip)] for clip in data.train], encoded(data.valid, codec, 1)
    longest = max(one.columns for one in train)
    task = CodesTask(recipe, train, codes=codec.size, rows=codec.rows, longest=longest)
    if isinstance(recipe.prior, GPTVAESettings) and recipe.prior.start is not None:
        assert isinstance(task.prior, GPTVAE)
        task.prior.take_encoder(load_latent_prior(recipe.prior.start))
    seed = recipe.training.seed
    batches = CodesBatches(
        train, recipe.training.batch, mixed(seed, 1), rank=fabric.global_rank, ranks=fabric.world_size
    )

    def complete(run: Path) -> None:
        if not own:
            save_part(run / "codec", codec)
        _complete(run, recipe, data)

    about = (
        *describe_data(data),
        f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {batches.batch}",
        f"codes  {codec.size} of them, {codec.rows} in a column, at most {longest} columns",
    )
    return Job(recipe, data, task, batches, valid, about, complete, share=1 - recipe.codes.codec_share if own else 1.0)


@torch.no_grad()
def encoded(clips: list[Clip], codec: SpectrogramCodec, variants: int) -> list[Coded]:
    """The codes of each clip, in `variants` that begin up to a column later, in silence."""
    spec, stride = codec.config.mel, codec.config.cell[1]
    shifts = [i * stride // variants for i in range(min(variants, stride))]
    # The codec fills a sound up to whole columns with silence; done here, sounds of about one length go in together.
    by_columns: dict[int, list[tuple[int, int]]] = {}
    for i, clip in enumerate(clips):
        for shift in shifts:
            by_columns.setdefault(codec.columns(shift + clip.mel.shape[1]), []).append((i, shift))
    found: dict[tuple[int, int], Tensor] = {}
    for columns, places in by_columns.items():
        for start in range(0, len(places), AT_ONCE):
            some = places[start : start + AT_ONCE]
            mels = torch.full((len(some), spec.mels, columns * stride), spec.silence)
            for mel, (i, shift) in zip(mels, some, strict=True):
                mel[:, shift : shift + clips[i].mel.shape[1]] = clips[i].mel
            codes = codec.encode(mels.to(codec.mean.device)).codes
            assert codes is not None
            found.update(zip(some, codes.cpu(), strict=True))
    return [
        Coded(clip.caption, tuple(found[i, shift] for shift in shifts), getattr(clip, "features", None))
        for i, clip in enumerate(clips)
    ]


def _lasting(recipe: MelGPTRecipe) -> TrainingSettings:
    """How long the codec trains: as its own settings say, else its share of the minutes, else as many steps."""
    own, prior = recipe.codec_training, recipe.training
    if own.steps is not None or own.minutes is not None:
        return own
    minutes = None if prior.minutes is None else prior.minutes * recipe.codes.codec_share
    return own.model_copy(update={"minutes": minutes, "steps": prior.steps})


def _complete(run: Path, recipe: MelGPTRecipe, data: Data) -> None:
    vocoder = vocoder_for(recipe.vocoder, data.spec)
    save_part(run / "vocoder", vocoder, half=isinstance(vocoder, Vocos))
    captions = tuple(sorted({clip.caption for clip in data.train}))[:MOST_CAPTIONS]
    file = CodesFile(parts={name: name for name in PARTS_OF_CODES}, captions=captions, **recipe.sampling.model_dump())
    write_pipeline(run, file)
