"""What AudioToken's embedder is trained on, while all that hears and draws stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from cymatic.batch_shard import BatchShard
from cymatic.cond import Padded
from cymatic.encoders.audiotoken import AudioTokenEmbedder
from cymatic.errors import Error
from cymatic.hub.stable_diffusion import PLACEHOLDER, StableDiffusion
from cymatic.pipelines.audiotoken import check_fit, features

TEMPLATE = f"a photo of {PLACEHOLDER}"


class AudioTokenLoss(nn.Module):
    """How badly Stable Diffusion denoises a picture under a prompt that holds the word of its sound, e (Yariv et al.,
    2023, arXiv 2305.13050):

    `MSE(prediction, noise or velocity) + l1 mean|e| + l2 mean ||e||^2 + caption (1 - mean cos(e, c))^2`, c being the
    mean of the embeddings of the caption's tokens. The means are over the batch.

    Only the embedder is a part of this module. Encoder and diffusion model are frozen, stay in eval mode and are not
    in its state; whoever moves this module to a device moves them, too. Raises ModelError for parts that don't fit.
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
    ) -> None:
        super().__init__()
        check_fit(encoder, embedder, diffusion)
        diffusion.ids([template], pseudo=True)  # what it refuses
        self.embedder, self.template = embedder, template
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
        with torch.no_grad():
            heard = features(encoder, self.embedder.config, sounds)
        words = self.embedder(*heard)
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
