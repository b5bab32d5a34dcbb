"""The task of training a waveform codec: near in its spectra, and in time against judges."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from cymatic.batch_shard import BatchShard
from cymatic.codecs.fast import CausalMix
from cymatic.codecs.soundstream import SoundStreamNet
from cymatic.codecs.waveform import WaveformCodec
from cymatic.discriminators.balancer import Balancer, BalancerConfig
from cymatic.discriminators.losses import discriminator_loss, feature_loss, generator_loss, repulsion_loss
from cymatic.discriminators.output import DiscriminatorOutput, collapse, verdict
from cymatic.discriminators.selection import Choice, ChoiceConfig
from cymatic.discriminators.sets import Discriminators, DiscriminatorsConfig, lumen, spectrograms_and_periods
from cymatic.discriminators.weight import ramp
from cymatic.errors import Error
from cymatic.evaluation.code_use import perplexity
from cymatic.hub.parts import save_part
from cymatic.nn.whiteness import whiteness_loss
from cymatic.quantizers.gaussian import GaussianBottleneck
from cymatic.seeds import mixed
from cymatic.signal.channel_average import LUMENS, channel_average_distance
from cymatic.signal.distances import loudness_distance, multi_scale_mel_distance, phase_distance
from cymatic.signal.filters import low_pass, opening
from cymatic.training.codec_settings import WaveJudgeSettings
from cymatic.training.muon import groups_of
from cymatic.training.recipe import CodecRecipe, TrainingSettings

MOST_MEASURED = 48  # clips
VERDICTS = 50  # batches over which a judge is asked whether it still says anything


class WaveCodecTask(nn.Module):
    """A waveform codec and its judges as one module with one loss.

    The loss is the objective's distances and the quantizer's terms, and once the judges have come what they teach: as
    in `VocoderTask` both sides step at once, each by the gradient of its own. Of `ranks` processes each shows its
    judges as many pieces; raises Error where that can't be, and for an objective that the network can't have.
    """

    steps: Tensor
    verdicts: Tensor
    given: Tensor
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
        self.recipe, self.judged, self.rank, self.ranks = recipe, settings.judged // ranks, rank, ranks
        self.codec = WaveformCodec(recipe.config())
        self.judges = Discriminators(_judges(settings))
        least = max((judge.window // 2 for judge in self.judges.config.judges if hasattr(judge, "window")), default=0)
        if recipe.piece * recipe.rate <= least:
            raise Error(
                f"pieces of {recipe.piece:g} s are too short for the windows of these judges; give a piece of more "
                f"than {least / recipe.rate:g} s, or other judges"
            )
        count = len(self.judges.judges)
        self.choice = Choice(ChoiceConfig(kind=settings.choice, every=settings.every), count)
        # As buffers, for they are asked about in the average of the weights, which has the buffers of the newest.
        self.register_buffer("verdicts", torch.zeros(count, VERDICTS, 3))
        self.register_buffer("given", torch.zeros(count, dtype=torch.int64))
        self.balancer = Balancer(BalancerConfig(weights=self._weights())) if settings.balanced else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.outputs: list[Tensor] = []  # of the decoder's stages, coarse first
        if recipe.objective.stages:
            network = self.codec.network
            if not isinstance(network, SoundStreamNet):
                raise Error("objective.stages is for SoundStream's decoder; set network.kind to soundstream")
            if (count := len(network.decoder.stages)) > len(LUMENS):
                raise Error(
                    f"objective.stages has weights for {len(LUMENS)} stages at most and network.strides has {count}; "
                    "give fewer strides, or 0 for objective.stages"
                )
            for stage in network.decoder.stages:
                stage.register_forward_hook(self._hear)

    def forward(self, batch: Float[Tensor, "batch channels samples"], seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of a batch of pieces."""
        settings, rate, step = self.recipe.judges, self.codec.config.rate, int(self.steps)
        shard = BatchShard.of([1] * self.ranks * len(batch), self.rank, self.ranks) if self.ranks > 1 else None
        generator = torch.Generator().manual_seed(seed)
        batch = batch.to(self.steps.device)
        batch = self.recipe.augment(batch, rate, torch.Generator().manual_seed(mixed(seed, 1 + self.rank)))
        self.outputs.clear()
        wanted, made, latent, quantized = self.codec(self._opened(batch, step), generator, shard=shard)
        real, fake = wanted.flatten(0, 1)[:, None], made.flatten(0, 1)[:, None]  # each channel on its own
        terms = self._distances(real, fake, step)
        judged: dict[str, Tensor] = {}
        if step >= settings.start and settings.weight + settings.features:
            judged, terms["judges"] = self._judged(real, fake, step, generator)
        if self.balancer is None:
            weights = self._weights()
            pulls = sum((weights[name] * value for name, value in {**terms, **judged}.items() if name in weights), 0.0)
        else:
            pulls = self.balancer({**{name: terms[name] for name in terms if name != "judges"}, **judged}, made)
        loss = pulls + sum(quantized.losses.values())
        if (white := self.recipe.objective.white) and not isinstance(self.codec.quantizer, GaussianBottleneck):
            terms["white"] = whiteness_loss(latent)  # a Gaussian bottleneck has a pull of its own
            loss = loss + white * terms["white"]
        if "judges" in terms:
            loss = loss + terms["judges"]
        if self.training:
            self.steps += 1
        return {**terms, **judged, **quantized.losses, "loss": cast(Tensor, loss)}

    def _hear(self, module: nn.Module, given: object, made: Tensor) -> None:
        if torch.is_grad_enabled():
            self.outputs.append(made)

    def _weights(self) -> dict[str, float]:
        own, judges = self.recipe.objective, self.recipe.judges
        named = {name: float(getattr(own, name)) for name in ("mel", "loud", "phase", "stages")}
        return {**named, "fool": judges.weight, "features": judges.features}

    def _distances(self, real: Tensor, fake: Tensor, step: int) -> dict[str, Tensor]:
        """Those of the objective that have a weight, and the one of mels, for the log."""
        own, judges = self.recipe.objective, self.recipe.judges
        if judges.alone and step >= judges.start + judges.warmup:
            return {}
        terms = {"mel": multi_scale_mel_distance(fake, real, self.codec.config.rate)} if own.mel else {}
        if own.loud:
            terms["loud"] = loudness_distance(real, fake)
        if own.phase:
            terms["phase"] = phase_distance(real, fake, self.codec.config.rate)
        if own.stages:
            stages = self.outputs
            terms["stages"] = channel_average_distance(
                stages, real.unflatten(0, (len(stages[0]), -1)).mean(1), LUMENS[: len(stages)]
            )
        return terms

    def _opened(self, batch: Tensor, step: int) -> Tensor:
        """What the codec is shown, and is to give again: a sound whose treble comes later."""
        shard, steps = self.recipe.objective.opening, self.recipe.training.steps
        if not (shard and steps and self.training):
            return batch
        rate = self.codec.config.rate
        return low_pass(batch, opening(step, steps, self.codec.levels, rate, open_by=shard), rate)

    def _judged(
        self, real: Tensor, fake: Tensor, step: int, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Tensor]:
        settings, some = self.recipe.judges, slice(0, self.judged)
        which = self.choice.which(step, generator)
        frozen = {name: p.detach() for name, p in self.judges.named_parameters()}
        heard: list[DiscriminatorOutput] = self.judges(real[some], which)
        seen: list[DiscriminatorOutput] = functional_call(self.judges, frozen, (fake[some], which))
        answered: list[DiscriminatorOutput] = self.judges(fake[some].detach(), which)
        own = discriminator_loss(heard, answered, settings.rule)
        if settings.repulsion:
            own = own + repulsion_loss(heard, answered, settings.repulsion)
        if self.training:
            self.choice.learn(which, [generator_loss([one], settings.rule) for one in seen])
            for judge, r, f in zip(which, heard, answered, strict=True):
                self.verdicts[judge, self.given[judge] % VERDICTS] = verdict(r, f)
                self.given[judge] += 1
        factor = ramp(step, settings.start, settings.warmup)
        fooled = {"fool": factor * generator_loss(seen, settings.rule), "features": factor * feature_loss(heard, seen)}
        return fooled, own

    @torch.no_grad()
    def measure(self, waves: Sequence[Float[Tensor, "1 1 samples"]], batch: int) -> dict[str, float]:
        """On waveforms held out: the distance with all levels and with half of them, the perplexity of the level that
        is used least, as a share of its size, and how many judges have collapsed."""
        codec = self.codec
        trained, half = int(codec.steps_trained), max(codec.min_levels, codec.levels // 2)
        codec.steps_trained.fill_(max(1, trained))
        some = waves[:: max(1, len(waves) // MOST_MEASURED)][:MOST_MEASURED]
        scores = {"loss": 0.0, "half": 0.0}
        counts = [torch.zeros(size, dtype=torch.int64) for size in codec.sizes]
        for wave in some:
            real = wave.to(self.steps.device).expand(-1, codec.config.channels, -1)
            latent = codec.encode(real)
            made = {"loss": codec.decode(latent)}
            if latent.codes is not None:
                made["half"] = codec.decode_codes(latent.codes[:, :half], latent.lengths)
                for level, count in enumerate(counts):
                    count += torch.bincount(latent.codes[:, level].flatten().cpu(), minlength=len(count))
            for name, fake in made.items():
                scores[name] += multi_scale_mel_distance(fake[:, :1], real[:, :1], codec.config.rate).item() / len(some)
        codec.steps_trained.fill_(trained)
        used = min((perplexity(count) / len(count) for count in counts), default=0.0)
        asked = self.verdicts[self.given >= VERDICTS]
        fallen = sum(collapse(list(seen)) is not None for seen in asked)
        return {**scores, "perplexity": used, "collapsed": float(fallen)}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Muon's steps for the matrices inside the fast family's blocks, AdamW's for all else."""
        inside = [
            cast(nn.Parameter, layer.weight)
            for block in self.codec.network.modules()
            if isinstance(block, CausalMix)
            for layer in (block.widen, block.narrow)
        ]
        bold = settings.model_copy(update={"learning_rate": settings.learning_rate * self.recipe.judges.rate})
        return groups_of(self.codec, settings, inside) + groups_of(self.judges, bold, [], "discriminators")

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the codec as it stands into `run`, marked as trained for `steps`."""
        self.codec.steps_trained.fill_(steps)
        save_part(run / "codec", self.codec)


def _judges(settings: WaveJudgeSettings) -> DiscriminatorsConfig:
    if settings.judges == "spectrograms":
        return spectrograms_and_periods(width=settings.width)
    return lumen()
