"""What a model goes on from: another's text encoder and prior, with the statistics that their weights speak in."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import nn

from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.config import nearest
from cymatic.encoders.text import TextEncoder
from cymatic.errors import ModelError
from cymatic.hub.parts import CONFIG, load_part
from cymatic.hub.pipeline_file import CodesFile, PipelineFile, read_pipeline
from cymatic.pipelines.load import starters
from cymatic.priors.flow import FlowPrior, FlowShape
from cymatic.priors.gpt_vae import GPTVAE
from cymatic.signal.mel import MelSpec
from cymatic.training.planning import SIZES, given, is_given
from cymatic.training.prior_task import PriorTask
from cymatic.training.recipe import Recipe, VocoderSettings
from cymatic.vocoders import VOCODERS, Vocoder
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN
from cymatic.vocoders.vocos import Vocos

USUAL = "starter-sound"
SHAPE = tuple(name for name in FlowShape.model_fields if name != "dropout")  # what weights depend on


@dataclass(frozen=True)
class Start:
    """The trained parts of the model called `name`."""

    name: str
    text: TextEncoder
    prior: FlowPrior
    captions: tuple[str, ...]


def load_start(name: str) -> Start:
    """The parts of a starter, or of a run. Raises ModelError where there is none, or none that was trained."""
    known = starters()
    folder = known.get(name, Path(name))
    if not os.path.isdir(folder):
        raise ModelError(
            f'there is no model "{name}" to start from ({nearest(name, known)}); give the name of a starter, '
            "a folder that cymatic train wrote, or scratch"
        )
    file = read_pipeline(folder, PipelineFile)
    text = load_part(file.folder(folder, "text"), (TextEncoder,))
    prior = load_part(file.folder(folder, "prior"), (FlowPrior,))
    if not prior.steps_trained:
        raise ModelError(f"{name} was never trained, so there is nothing to start from; leave it out")
    return Start(name, text, prior, file.captions)


def speaks(start: Start, recipe: Recipe) -> bool:
    """Whether the start's mel is the recipe's, or the recipe leaves it open."""
    return recipe.mel == "auto" or recipe.mel_spec() == start.prior.config.mel


def fitting(recipe: Recipe) -> Start | None:
    """The starter that this recipe could go on from by itself: it speaks the recipe's mel, and no size is set."""
    keys = given(recipe)
    if USUAL not in starters() or any(is_given(key, keys) for key in ("start", *SIZES)):
        return None
    start = load_start(USUAL)
    return start if speaks(start, recipe) else None


def shaped(recipe: Recipe, start: Start) -> Recipe:
    """`recipe` with the mel and the sizes of `start` wherever it does not set them.

    Raises ModelError where it sets others.
    """
    config = start.prior.config
    if not speaks(start, recipe):
        rates = f"{recipe.mel_spec().rate} Hz instead of {config.mel.rate}, say"
        raise ModelError(
            f"{start.name} speaks of another mel than this recipe ({rates}); leave mel out, or train from scratch "
            "(--from scratch)"
        )
    has = {name: getattr(config, name) for name in SHAPE}
    sizes = {f"prior.{name}": (getattr(recipe.prior, name), size) for name, size in has.items()}
    sizes["text.dim"] = recipe.text.dim, start.text.config.dim
    keys = given(recipe)
    for key, (wanted, there) in sizes.items():
        if is_given(key, keys) and wanted != there:
            raise ModelError(
                f"{key} is {wanted} and that of {start.name} is {there}; leave it out, or train from scratch "
                "(--from scratch)"
            )
    prior = recipe.prior.model_copy(update=has)
    text = recipe.text.model_copy(update={"dim": start.text.config.dim})
    return recipe.model_copy(update={"mel": config.mel, "prior": prior, "text": text, "start": start.name})


@torch.no_grad()
def take_over(task: PriorTask, start: Start, longest: int) -> None:
    """Fills `task` from `start`; its prior then also makes sounds of `longest` frames.

    The mean and the spread of the mels stay those of the start, since its weights speak in their terms. The length
    that the prior expects is told from the greatest, so where that rises a bias falls by as much.
    """
    task.text.load_state_dict(start.text.state_dict())
    prior = task.prior
    prior.load_state_dict(start.prior.state_dict())
    before = int(prior.longest)
    if longest > before:
        prior.longest.fill_(longest)
        cast(nn.Linear, prior.length[-1]).bias[0] -= math.log(longest / before)


def vocoder_for(settings: VocoderSettings, spec: MelSpec) -> Vocoder:
    """The vocoder that a run takes over: a trained one of the same mel where there is one, else Griffin-Lim.

    Raises ModelError where `vocos` or `melgan` is asked for and the model named has none for this mel.
    """
    if settings.kind != "griffin-lim":
        try:
            vocoder = load_vocoder(settings.model, spec)
            if settings.kind not in ("auto", vocoder.config.kind):
                raise ModelError(
                    f"the vocoder of {settings.model} is of the kind {vocoder.config.kind}, and vocoder.kind is "
                    f"{settings.kind}; let them agree, or set vocoder.kind to auto"
                )
            return vocoder
        except ModelError:
            if settings.kind != "auto":
                raise
    return GriffinLimVocoder(GriffinLimConfig(mel=spec, rounds=settings.rounds))


def load_vocoder(model: str, spec: MelSpec) -> Vocos | MelGAN:
    """The trained vocoder of a starter, or of a run. Raises ModelError where there is none that speaks of `spec`."""
    folder = starters().get(model, Path(model))
    place = folder / "vocoder"
    if not (place / CONFIG).exists():
        place = read_pipeline(folder).folder(folder, "vocoder")
    vocoder = load_part(place, VOCODERS)
    if not isinstance(vocoder, Vocos | MelGAN) or vocoder.config.mel != spec:
        raise ModelError(f"{model} has no trained vocoder for this recipe's mel; train one with --recipe vocoder")
    return vocoder


def load_codec(model: str, spec: MelSpec) -> SpectrogramCodec:
    """The trained spectrogram codec of a run. Raises ModelError where there is none that speaks of `spec`."""
    folder = starters().get(model, Path(model))
    place = folder / "codec"
    if not (place / CONFIG).exists():
        place = read_pipeline(folder).folder(folder, "codec")
    codec = load_part(place, (SpectrogramCodec,))
    if codec.config.mel != spec:
        raise ModelError(f"the codec of {model} speaks of another mel than this recipe; leave out --from")
    if not codec.steps_trained:
        raise ModelError(f"the codec of {model} was never trained; leave out --from")
    return codec


def load_latent_prior(model: str) -> GPTVAE:
    """The GPT-VAE of a run. Raises ModelError where there is none."""
    return load_part(read_pipeline(Path(model), CodesFile).folder(Path(model), "prior"), (GPTVAE,))
