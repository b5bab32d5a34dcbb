"""What AudioToken's embedder is trained on, while all that hears and draws stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from cymatic.batch_shard import BatchShard
from cymatic.cond import Padded
from cymatic.data.batches import CAPTION, Batch, in_order
from cymatic.data.examples import Example
from cymatic.encoders.audiotoken import AudioTokenEmbedder
from cymatic.errors import Error
from cymatic.hub.parts import WEIGHTS, load_weights, save_part
from cymatic.hub.stable_diffusion import PLACEHOLDER, StableDiffusion
from cymatic.pipelines.sound_word import check_fit, features
from cymatic.seeds import mixed
from cymatic.training.muon import groups_of
from cymatic.training.settings import TrainingSettings

TEMPLATE = f"a photo of {PLACEHOLDER}"


class AudioTokenLoss(nn.Module):
    """How badly Stable Diffusion denoises a picture under a prompt that holds the word of its sound, e (Yariv et al.,
    2023, arXiv 2305.13050):

    `MSE(prediction, noise or velocity) + l1 mean|e| + l2 mean ||e||^2 + caption (1 - mean cos(e, c))^2`, c being the
    mean of the embeddings of the caption's tokens. The means are over the batch.

    Only the embedder is a part of this module. Encoder and diffusion model are frozen, stay in eval mode and are not
    in its state; whoever moves this module to a device moves them, too. heard: sounds come as what the encoder says of
    them, `[batch, inside, n]`, which may be made once. Raises ModelError for parts that don't fit.
    """

    def __init__(
        self,
        encoder: Any,
        embedder: AudioTokenEmbedder,
        diffusion: StableDiffusion,
        *,
        template: str = TEMPLATE,
        l1: float = 0.01,
        l2: float = 0.0,
        caption: float = 0.0,
        heard: bool = False,
    ) -> None:
        super().__init__()
        check_fit(encoder, embedder, diffusion.width)
        diffusion.ids([template], pseudo=True)  # what it refuses
        self.embedder, self.template, self.heard = embedder, template, heard
        self.weights = {"l1": l1, "l2": l2, "caption": caption}
        # In a tuple, or they would be trained, saved and switched to training mode with the embedder.
        self.frozen = (encoder.eval().requires_grad_(False), diffusion.eval())
        self._captions: dict[str, Tensor] = {}

    def forward(
        self,
        sounds: Padded,
        pictures: Float[Tensor, "batch 3 height width"],
        generator: torch.Generator,
        *,
        captions: Sequence[str] | None = None,
        shard: BatchShard | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """`{"loss": ..., "denoising": ..., and each term with a weight above 0}` of sounds, as the encoder reads them,
        and pictures in 0..1. generator: where times and noise come from; dropout draws from torch's own.

        Raises Error for another number of pictures than of sounds, for a missing caption, and as the encoder does.
        """
        encoder, diffusion = self.frozen
        if len(sounds) != len(pictures):
            raise Error(
                f"{len(sounds)} sounds and {len(pictures)} pictures were given; give one picture for each sound"
            )
        if self.heard:
            device = next(self.embedder.parameters()).device
            words = self.embedder(sounds.values.to(device).float().mT, sounds.mask.to(device))
        else:
            with torch.no_grad():
                said = features(encoder, self.embedder.config, sounds)
            words = self.embedder(*said)
        states = diffusion.text_states([self.template] * len(words), words)
        terms = {"denoising": diffusion.errors(states, pictures, generator, shard).mean()}
        weights = {name: weight for name, weight in self.weights.items() if weight > 0}
        terms |= {name: self._term(name, words, captions) for name in weights}
        if shard is not None:
            terms = {name: term * shard.items_weight for name, term in terms.items()}
        return {"loss": terms["denoising"] + sum(weight * terms[name] for name, weight in weights.items()), **terms}

    def _term(self, name: str, words: Float[Tensor, "batch dim"], captions: Sequence[str] | None) -> Float[Tensor, ""]:
        """One of the terms that are about the words alone."""
        if name == "l1":
            return words.abs().mean()
        if name == "l2":
            return words.square().sum(1).mean()
        if captions is None or len(captions) != len(words):
            raise Error("the words are to be near their captions; give a caption for each sound")
        wanted = torch.stack([self._caption(caption) for caption in captions]).to(words)
        return (1 - cosine_similarity(words, wanted).mean()).square()

    def _caption(self, caption: str) -> Float[Tensor, " dim"]:
        """The mean of the embeddings of a caption's tokens."""
        if caption not in self._captions:
            self._captions[caption] = self.frozen[1].embedding(caption).mean(0)
        return self._captions[caption]


class AudioTokenTask(nn.Module):
    """That loss as a task: the targets of a batch are pictures, and their sounds are given under the role `given`.

    name: the folder of the run in which the embedder is kept. Raises Error where `given` is the role of words.
    """

    keeps_best = True
    full_from = 0
    rounds = 1
    steps: Tensor

    def __init__(self, name: str, loss: AudioTokenLoss, *, given: str = "audio") -> None:
        super().__init__()
        if given == CAPTION:
            raise Error(f'"{given}" are words; give the role of the sounds')
        self.name, self.given = name, given
        self.total_steps: int | None = None
        self.loss = loss
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}`. Raises Error for items without a sound, and as `AudioTokenLoss`."""
        shard = batch.shard
        torch.manual_seed(mixed(seed, shard.rank) if shard and shard.rank else seed)  # for dropout
        terms = self._terms(batch, torch.Generator().manual_seed(seed))
        if self.training:
            self.steps += 1
        return terms

    def _terms(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        return self.loss(
            cast(Padded, batch.inputs(self.given)), batch.target, generator, captions=batch.captions, shard=batch.shard
        )

    @torch.no_grad()
    def measure(self, held_out: Sequence[Example], batch: int, frames: int | None = None) -> dict[str, float]:
        """Mean terms over items held out, with the same noise and times at every call. The loss is the denoising alone:
        the other terms say how the word is, not what it is good for."""
        generator = torch.Generator().manual_seed(1)
        sums: dict[str, float] = {}
        for some in in_order(held_out, batch, frames):
            for name, value in self._terms(some, generator).items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(some)
        means = {name: value / len(held_out) for name, value in sums.items()}
        return {**means, "loss": means["denoising"]} if means else {"loss": 0.0}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """AdamW's steps for all of the embedder."""
        return groups_of(self, settings, [])

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the embedder as it stands into its folder of `run`."""
        save_part(run / self.name, self.loss.embedder)

    def load_parts(self, run: Path) -> None:
        """Fills the embedder with what `save_parts` wrote into `run`. Raises ModelError where it does not fit."""
        load_weights(self.loss.embedder, run / self.name / WEIGHTS)
