"""The task of training a waveform codec: near in its spectra, then against judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from cymatic.adversarial.discriminators import Discriminators, spectrograms_and_periods
from cymatic.adversarial.judged import Judged
from cymatic.adversarial.losses import discriminator_loss, feature_loss, generator_loss
from cymatic.codecs.fast import CausalMix
from cymatic.codecs.waveform import WaveformCodec
from cymatic.errors import Error
from cymatic.hub.parts import save_part
from cymatic.metrics.code_use import perplexity
from cymatic.seeds import mixed
from cymatic.share import Share
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.training.muon import groups_of
from cymatic.training.recipe import CodecRecipe, TrainingSettings

MOST_MEASURED = 48  # clips


class WaveCodecTask(nn.Module):
    """A waveform codec and its judges as one module with one loss.

    `mel_weight * d(x, x') + quantizer's terms`, with the multi-scale mel distance d, and once the judges have come
    their terms as in `VocoderTask`: both sides step at once, each by the gradient of its own. Of `ranks` processes each
    shows its judges as many pieces; raises Error where that can't be.
    """

    steps: Tensor
    stage = "codec"
    betas = (0.8, 0.99)
    keeps_best = False  # the distance held out rises a little while the sound gets better

    def __init__(self, recipe: CodecRecipe, *, rank: int = 0, ranks: int = 1) -> None:
        settings = recipe.judges
        if settings.judged % ranks:
            raise Error(
                f"judges.judged is {settings.judged}, which {ranks} devices can't share evenly; give a multiple"
            )
        super().__init__()
        torch.manual_seed(mixed(recipe.training.seed, 0))
        self.settings, self.judged, self.rank, self.ranks = settings, settings.judged // ranks, rank, ranks
        self.codec = WaveformCodec(recipe.config())
        self.judges = Discriminators(spectrograms_and_periods(width=settings.judge_width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Float[Tensor, "batch channels samples"], seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of a batch of pieces."""
        settings = self.settings
        share = Share.of([1] * self.ranks * len(batch), self.rank, self.ranks) if self.ranks > 1 else None
        generator = torch.Generator().manual_seed(seed)
        wanted, made, quantized = self.codec(batch.to(self.steps.device), generator, share=share)
        real, fake = wanted.flatten(0, 1)[:, None], made.flatten(0, 1)[:, None]  # each channel on its own
        terms = {"mel": multi_scale_mel_distance(fake, real, self.codec.config.rate), **quantized.losses}
        terms["loss"] = settings.mel_weight * terms["mel"] + sum(quantized.losses.values())
        if self.steps >= settings.alone:
            some = slice(0, self.judged)
            frozen = {name: p.detach() for name, p in self.judges.named_parameters()}
            heard = self.judges(real[some])
            seen: list[Judged] = functional_call(self.judges, frozen, (fake[some],))
            terms["judges"] = discriminator_loss(heard, self.judges(fake[some].detach()))
            terms["fool"], terms["features"] = generator_loss(seen), feature_loss(heard, seen)
            # A judge that knows nothing yet should not pull: its push grows over the first steps.
            push = min(1.0, float(self.steps - settings.alone) / settings.judges_warmup)
            terms["loss"] = (
                terms["loss"] + terms["judges"] + push * (terms["fool"] + settings.feature_weight * terms["features"])
            )
        if self.training:
            self.steps += 1
        return terms

    @torch.no_grad()
    def measure(self, waves: Sequence[Float[Tensor, "1 1 samples"]], batch: int) -> dict[str, float]:
        """The distance of waveforms held out with all levels and with half of them, and the least used level's
        perplexity, as a share of its size."""
        codec = self.codec
        trained, half = int(codec.steps_trained), max(1, codec.levels // 2)
        codec.steps_trained.fill_(max(1, trained))
        some = waves[:: max(1, len(waves) // MOST_MEASURED)][:MOST_MEASURED]
        scores = {"loss": 0.0, "half": 0.0}
        counts = [torch.zeros(size, dtype=torch.int64) for size in codec.sizes]
        for wave in some:
            real = wave.to(self.steps.device).expand(-1, codec.config.channels, -1)
            codes = codec.encode(real).codes
            assert codes is not None
            for name, kept in (("loss", codec.levels), ("half", half)):
                fake = codec.decode_codes(codes[:, :kept], real.shape[-1])
                scores[name] += multi_scale_mel_distance(fake[:, :1], real[:, :1], codec.config.rate).item() / len(some)
            for level, count in enumerate(counts):
                count += torch.bincount(codes[:, level].flatten().cpu(), minlength=len(count))
        codec.steps_trained.fill_(trained)
        used = min(perplexity(count) / len(count) for count in counts)
        return {**scores, "perplexity": used}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Muon's steps for the matrices inside the networks, AdamW's for their ends, the quantizer and the judges."""
        inside = [
            cast(nn.Parameter, layer.weight)
            for block in self.codec.network.modules()
            if isinstance(block, CausalMix)
            for layer in (block.widen, block.narrow)
        ]
        bold = settings.model_copy(update={"learning_rate": settings.learning_rate * self.settings.judge_rate})
        return groups_of(self.codec, settings, inside) + groups_of(self.judges, bold, [])

    def save_parts(self, run: Path, steps: int) -> None:
        self.codec.steps_trained.fill_(steps)
        save_part(run / "codec", self.codec)
