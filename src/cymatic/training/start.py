"""What a stage goes on from: the parts of another model, with the statistics that their weights speak in."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cymatic.config import Config, nearest
from cymatic.data.audio_moves import speaks_of_pitch
from cymatic.data.examples import Data
from cymatic.encoders import ENCODERS
from cymatic.encoders.text import normalise
from cymatic.errors import ModelError
from cymatic.hub.parts import CONFIG, fingerprint, load_part
from cymatic.hub.pipeline_file import RECIPE, read_pipeline
from cymatic.hub.wave_codecs import load_any_codec
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.load import find_model, load_embedder, starters
from cymatic.priors import PRIORS
from cymatic.training.planning import PlanFacts, given, is_given
from cymatic.training.recipe import Recipe
from cymatic.training.settings import VocoderSettings
from cymatic.vocoders import TRAINED_VOCODERS
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

USUAL = "starter-sound"
CODEC = "codec"  # the part, and the folder of a run in which its copy of another model's codec lies
# What no weight depends on.
FREE = ("kind", "dropout", "pkeep", "mel", "picture", "centre", "cond_dim", "table_sha256")
# Which trained vocoders each word of a recipe takes over.
VOCODERS_TAKEN: dict[str, tuple[type[nn.Module], ...]] = {
    "auto": TRAINED_VOCODERS,
    "griffin-lim": (),
    **{one.config_class.model_fields["kind"].default: (one,) for one in TRAINED_VOCODERS},
}


@dataclass(frozen=True)
class Start:
    """The trained encoder and prior of the model called `name`."""

    name: str
    encoder: Any
    prior: Any
    captions: tuple[str, ...]

    @torch.no_grad()
    def give(self, encoder: nn.Module, prior: Any, longest: int) -> None:
        """Fills the parts of a stage; its prior then also makes targets of length `longest`.

        The statistics stay those of the start, since its weights speak in their terms.
        """
        if encoder.config == self.encoder.config:
            encoder.load_state_dict(self.encoder.state_dict())
        prior.take_over(self.prior, longest)


def load_start(name: str, part: Any = None) -> Start:
    """The parts of a starter, or of a run. part: the config of a prior that it has to be of the kind of.

    Raises ModelError where there is none, none that was trained, or one of another kind.
    """
    known = starters()
    folder = known.get(name, Path(name))
    if not os.path.isdir(folder):
        raise ModelError(
            f'there is no model "{name}" to start from ({nearest(name, known)}); give the name of a starter, '
            "a folder that cymatic train wrote, or scratch"
        )
    file = read_pipeline(folder)
    places = file.places(folder, ("encoder", "prior"))
    prior = load_part(places["prior"], PRIORS)
    if not prior.steps_trained:
        raise ModelError(f"{name} was never trained, so there is nothing to start from; leave it out")
    if part is not None:
        _check_same("prior", name, prior.config, part)
    return Start(name, load_part(places["encoder"], ENCODERS), prior, file.captions)


def _check_same(part: str, name: str, has: Any, wanted: Any) -> None:
    """Raises ModelError where a part of the start and that of the recipe are of different kinds."""
    if type(has) is not type(wanted):
        raise ModelError(
            f"the {part} of {name} is of the kind {has.kind}, and this recipe's of the kind {wanted.kind}; start from "
            "another model, or train from scratch (--from scratch)"
        )


def fits_spec(start: Start, recipe: Recipe, stage: str) -> bool:
    """Whether the start's target is prepared as the recipe's, or the recipe leaves that open."""
    part: Any = recipe.stages[stage].part  # type: ignore[union-attr]
    return not part.names_its_spec or part.reads == start.prior.config.reads


def fitting(recipe: Recipe, stage: str) -> Start | None:
    """The starter that this stage could go on from by itself: it reads the same, and no size is set."""
    keys = given(recipe)
    settings: Any = recipe.stages[stage]
    sizes = [f"stages.{stage}.part.{name}" for name in type(settings.part).model_fields if name not in FREE]
    sizes += [f"stages.{stage}.encoder.{name}" for name in type(settings.encoder).model_fields if name != "kind"]
    if USUAL not in starters() or any(is_given(key, keys) for key in (f"stages.{stage}.start", *sizes)):
        return None
    start = load_start(USUAL)
    if {type(start.prior.config), type(start.encoder.config)} != {type(settings.part), type(settings.encoder)}:
        return None
    return start if fits_spec(start, recipe, stage) else None


def shaped(recipe: Recipe, stage: str, start: Start) -> Recipe:
    """`recipe` with what the start reads and its sizes wherever the stage does not set them.

    Raises ModelError where it sets others.
    """
    settings: Any = recipe.stages[stage]
    if not fits_spec(start, recipe, stage):
        raise ModelError(
            f"{start.name} reads another target than this recipe ({start.prior.config.reads!r}); leave mel out, or "
            "train from scratch (--from scratch)"
        )
    _check_same("encoder", start.name, start.encoder.config, settings.encoder)
    keys = given(recipe)
    updates: dict[str, Config] = {}
    for section, wanted, has in (
        ("part", settings.part, start.prior.config), ("encoder", settings.encoder, start.encoder.config)
    ):  # fmt: skip
        names = [name for name in type(wanted).model_fields if name not in FREE]
        for name in names:
            asked, there = dict(wanted)[name], dict(has)[name]
            if is_given(f"stages.{stage}.{section}.{name}", keys) and asked != there:
                raise ModelError(
                    f"{stage}.{name} is {asked} and that of {start.name} is {there}; leave it out, or train from "
                    "scratch (--from scratch)"
                )
        updates[section] = wanted.model_copy(update={name: value for name, value in has if name in names})
    part = updates["part"].reading(start.prior.config.reads)  # type: ignore[attr-defined]
    return recipe.with_stage(stage, start=start.name, part=part, encoder=updates["encoder"])


def facts(data: Data, recipe: Recipe, stage: str, start: Start | None) -> PlanFacts:
    """What a plan for this stage rests on; `start`: a starter that fits it."""
    captions = {normalise(one.caption) for one in data.train}
    keys = given(recipe)
    open_frames = recipe.data.balance is None and not any(
        is_given(f"stages.{stage}.training.{key}", keys) for key in ("batch", "frames")
    )
    return PlanFacts(
        clips=len(data.train),
        captions=len(captions),
        known=len(captions.intersection(map(normalise, start.captions))) if start is not None else 0,
        seconds=data.seconds,
        held_out=len(data.valid),
        pitched=sum(speaks_of_pitch(one.caption) for one in data.train),
        start=start.name if start is not None else None,
        ends=recipe.lasting(stage).steps is not None,
        lengths=tuple(one.target.shape[-1] for one in data.train) if open_frames else (),
        batch=recipe.stages[stage].training.batch,
    )


def load_trained(name: str, part: str, kinds: Iterable[type[nn.Module]]) -> Any:
    """A trained part of a starter or a run. Raises ModelError where there is none of these kinds, or none trained."""
    folder = find_model(name)
    place = folder / part
    if not (place / CONFIG).exists():
        place = read_pipeline(folder).places(folder, (part,))[part]
    found: Any = load_part(place, tuple(kinds))
    if not found.steps_trained:
        raise ModelError(f"the {part} of {name} was never trained; leave out --from")
    return found


@dataclass(frozen=True)
class GivenCodec:
    """A trained codec, ours or another project's, that lies in `place`, of the fingerprint `sha256`. name: of the model
    that it was taken from; kept: whether `place` is the run's own copy."""

    name: str
    codec: Any
    place: Path
    sha256: str
    kept: bool


def given_codec(name: str, run: Path) -> GivenCodec:
    """The codec of a starter or a run called `name`; where `run` has begun, the copy of it there, since the model may
    have been moved or trained further.

    Raises ModelError where there is none.
    """
    copy, begun = run / CODEC, (run / RECIPE).is_file()
    kept = begun and (copy / CONFIG).is_file()
    if begun and not kept and name not in starters() and not Path(name).is_dir():
        raise ModelError(
            f"{run} learns the codes of {name}, which is not there any more, and holds no copy of it; put it back, or "
            "begin a new run with another codec (--set prior.codec=MODEL, --out)"
        )
    place = copy if kept else _codec_place(find_model(name))
    codec = load_any_codec(place)
    if not codec.steps_trained:
        raise ModelError(f"the codec of {name} was never trained; leave it out, and one is trained first")
    return GivenCodec(Path(name).name, codec, place, fingerprint([place]), kept)


def _codec_place(model: Path) -> Path:
    place = model / CODEC
    return place if (place / CONFIG).exists() else read_pipeline(model).places(model, (CODEC,))[CODEC]


def load_space(name: str, *, device: str = "cpu") -> Embedder:
    """The aligned encoders of a model: itself, or the space of its prior. Raises ModelError where there are none."""
    folder = find_model(name)
    space = read_pipeline(folder).space_of(folder)
    return load_embedder(folder if space is None else space, device=device)


def check_spaces(recipe: Recipe) -> None:
    """Raises ModelError where a stage of the recipe is given a space that is not there, before anything is trained."""
    for stage in recipe.stages.values():
        if stage.task in ("prior", "alignment") and stage.space is not None and stage.space not in recipe.stages:
            load_space(stage.space)


def vocoder_for(settings: VocoderSettings, spec: Any) -> Any:
    """The vocoder that a run takes over: a trained one that reads `spec` where there is one, else Griffin-Lim.

    None where `spec` is no mel. Raises ModelError where `vocos` or `melgan` is asked for and the model named has none
    for this mel.
    """
    if not spec.vocoded:
        return None
    kinds = VOCODERS_TAKEN[settings.kind]
    if kinds:
        try:
            vocoder = load_trained(settings.model, "vocoder", TRAINED_VOCODERS)
            if vocoder.config.reads != spec:
                raise ModelError(
                    f"{settings.model} has no trained vocoder for this recipe's mel; train one with --recipe vocoder"
                )
            if type(vocoder) not in kinds:
                raise ModelError(
                    f"the vocoder of {settings.model} is of the kind {vocoder.config.kind}, and vocoder.kind is "
                    f"{settings.kind}; let them agree, or set vocoder.kind to auto"
                )
            return vocoder
        except ModelError:
            if kinds != TRAINED_VOCODERS:  # one of them was asked for
                raise
    return GriffinLimVocoder(GriffinLimConfig(mel=spec, rounds=settings.rounds))
