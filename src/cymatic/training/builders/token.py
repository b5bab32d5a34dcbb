"""An embedder that makes a word of a sound, for a Stable Diffusion that others trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cymatic.cond import Padded
from cymatic.data.batches import Bucketed
from cymatic.data.examples import Data, Example, Reading, load_examples
from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.encoders.beats import BeatsEncoder
from cymatic.errors import Error
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.hub.readers.stable_diffusion import read_stable_diffusion
from cymatic.media.picture import PictureSpec
from cymatic.pipelines.load import find_model, load_embedder
from cymatic.pipelines.sound_word import HEARD, WORD, features
from cymatic.seeds import mixed
from cymatic.training.built import Built, Context
from cymatic.training.plan import describe_data, parameters
from cymatic.training.stages import TokenStage
from cymatic.training.tasks.audiotoken import AudioTokenLoss, AudioTokenTask


def build_token(context: Context, stage: TokenStage) -> Built:
    """Raises Error where pictures are not square, and as `load_examples`, the readers and `check_fit` do."""
    device, place = str(context.fabric.device), find_model(stage.generator)
    diffusion = read_stable_diffusion(place).to(device)
    if len(set(diffusion.size)) > 1:
        raise Error(f"{stage.generator} draws {diffusion.size[1]} x {diffusion.size[0]} pixels; give one of squares")
    model = load_embedder(stage.encoder, device=device)
    encoder = model.encoders[model.role_of("audio")].requires_grad_(False).eval()
    data = load_examples(
        context.recipe.data, Reading(stage.role or "picture", PictureSpec(size=diffusion.size[0])),
        [Reading(stage.given, encoder.config.reads)], captions=stage.caption > 0, strict=context.strict,
        say=context.say,
    )  # fmt: skip
    described = describe_data(data)
    config = _config(stage, encoder, diffusion.width)
    torch.manual_seed(mixed(stage.training.seed, 0))
    weights = {"l1": stage.l1, "l2": stage.l2, "caption": stage.caption}
    loss = AudioTokenLoss(
        encoder, AudioTokenEmbedder(config), diffusion, template=stage.template, heard=True, **weights
    )
    context.say(f"listening with {stage.encoder}, once to each item")
    data = _heard(data, stage.given, encoder, config)
    task, settings = AudioTokenTask(WORD, loss, given=stage.given), stage.training
    batches = Bucketed(data.epoch, settings.batch, mixed(settings.seed, 1), frames=settings.frames, **context.ranks)
    about = (*described, f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {batches.batch}")

    def complete(run: Path) -> None:
        """Keeps what hears beside the word, and names what draws."""
        save_part(run / HEARD, encoder)
        write_pipeline(run, PipelineFile(parts={HEARD: HEARD, WORD: WORD}, generator=str(place.resolve())))

    use = "cymatic picture sound.wav --model {run} -o picture.png"
    return Built(context.recipe, context.name, data, task, batches, data.valid, about, complete, use=use)


def _config(stage: TokenStage, encoder: Any, width: int) -> AudioTokenConfig:
    """The embedder's, which reads layers of BEATs, or the tokens of another encoder."""
    values: dict[str, Any] = {"dim": width, "inside": encoder.config.dim, "layers": ()}
    if type(encoder) is BeatsEncoder:
        layers = AudioTokenConfig.model_fields["layers"].default if stage.layers is None else stage.layers
        values |= {"layers": layers, "inside": encoder.config.dim * len(layers)}
    elif stage.layers is not None:
        raise Error(f"layers are of BEATs, and {stage.encoder} is none; leave layers out")
    return AudioTokenConfig.parse(values, "the embedder")


def _heard(data: Data, role: str, encoder: Any, config: AudioTokenConfig) -> Data:
    """The data with what the encoder says of each sound in its place, `[inside, n]` in 16 bits."""
    found: dict[int, Example] = {}

    def each(examples: Sequence[Example]) -> list[Example]:
        for one in examples:
            if id(one) not in found:
                found[id(one)] = replace(one, given={**one.given, role: _said(one, role, encoder, config)})
        return [found[id(one)] for one in examples]

    return replace(data, train=each(data.train), epoch=each(data.epoch), valid=each(data.valid))


@torch.no_grad()
def _said(one: Example, role: str, encoder: Any, config: AudioTokenConfig) -> torch.Tensor:
    """Raises Error for a sound that is too short."""
    wave = one.given[role].float()
    try:
        tokens, _ = features(encoder, config, Padded(wave[None], torch.tensor([wave.shape[-1]])))
    except Error as error:
        raise Error(f"{one.name}: {error}; leave it out") from None
    return tokens[0].mT.half().cpu()
