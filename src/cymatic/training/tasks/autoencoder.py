"""The task of training an autoencoder: near by its distances, and against discriminators where it has them.

Any codec, and any vocoder, which is an autoencoder whose encoder is the mel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from cymatic.batch_shard import BatchShard
from cymatic.data.batches import Batch
from cymatic.discriminators.balancer import Balancer, BalancerConfig
from cymatic.discriminators.weight import adaptive_weight, ramp, settled
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.errors import Error
from cymatic.evaluation.code_use import perplexity
from cymatic.hub.parts import WEIGHTS, load_weights, save_part
from cymatic.nn.whiteness import whiteness_loss
from cymatic.seeds import mixed
from cymatic.signal.channel_average import LUMENS
from cymatic.signal.filters import low_pass, opening
from cymatic.training.adversary import Adversary
from cymatic.training.muon import groups_of
from cymatic.training.objective import DISTANCES, OF_PICTURES, OF_WAVEFORMS, stages_distance
from cymatic.training.settings import TrainingSettings
from cymatic.training.stages import AutoencoderStage

MOST_MEASURED = 72  # items


class AutoencoderTask(nn.Module):
    """A part and its discriminators as one module with one loss.

    Both sides step at once: the part's terms see the discriminators' weights as constants, the discriminators' term
    sees what was made as a constant, so the gradient of the sum is each side's own and one optimiser serves both. The
    loss is `distances + quantizer's terms + ramp * (weight * adversarial + features * feature matching) +
    discriminators'`.

    Raises Error for an objective that the part can't have.
    """

    keeps_best = False  # the distance held out rises a little while the result gets sharper
    rounds = 1
    steps: Tensor

    def __init__(self, name: str, stage: AutoencoderStage, part: nn.Module, *, rank: int = 0, ranks: int = 1) -> None:
        super().__init__()
        self.name, self.stage, self.rank, self.ranks = name, stage, rank, ranks
        self.total_steps: int | None = stage.training.steps
        self.part: Any = part
        self.weights = stage.objective.weights()
        self.waves = any(term in OF_WAVEFORMS for term in self.weights)
        settings, shape = stage.discriminators, stage.part.gives.shape
        self.channels = shape[0] if len(shape) == 3 else 1  # of a picture; a mel is one of one channel
        self.words = TextEncoder(TextConfig(dim=192)) if settings is not None and settings.conditional else None
        self.adversary = None
        if settings is not None:
            self.adversary = Adversary(
                settings, cond_dim=192 if settings.conditional else None, channels=self.channels, ranks=ranks
            )
            self.waves = self.waves or self.adversary.waveforms
        self._check_objective()
        self.balancer = None
        if settings is not None and settings.balanced:
            shares = {**self.weights, "adversarial": settings.weight, "features": settings.features}
            self.balancer = Balancer(BalancerConfig(weights=shares))
        self.full_from = 0 if settings is None else settings.start + settings.warmup
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.outputs: list[Tensor] = []  # of the decoder's stages, coarse first
        stages: Sequence[Any] = part.decoder_stages if "stages" in self.weights else ()  # type: ignore[assignment]
        for decoder_stage in stages:
            decoder_stage.register_forward_hook(self._keep_output)

    def _check_objective(self) -> None:
        spec = self.part.config.gives
        if self.waves and not spec.waveform:
            raise Error(
                f"{', '.join(sorted(set(self.weights) & set(OF_WAVEFORMS)))} compare waveforms, and this part gives "
                "none; set objective to {l1: 1.0}"
            )
        if not spec.waveform and (self.stage.objective.opening or self.stage.augment is not None):
            raise Error("objective.opening and augment change waveforms, and this part gives none; leave them out")
        if self.channels == 1 and any(term in OF_PICTURES for term in self.weights):
            raise Error(
                f"objective.{', '.join(sorted(set(self.weights) & set(OF_PICTURES)))} compares pictures, and this part "
                "gives none; set objective to {l1: 1.0}"
            )
        if "stages" in self.weights and not self.part.decoder_stages:
            raise Error("objective.stages is for SoundStream's decoder; set network.kind to soundstream")
        if "stages" in self.weights and len(self.part.decoder_stages) > len(LUMENS):
            raise Error(
                f"objective.stages has weights for {len(LUMENS)} stages at most and network.strides has "
                f"{len(self.part.decoder_stages)}; give fewer strides"
            )
        if "log_mel" in self.weights and not self.part.config.reads.vocoded:
            raise Error("objective.log_mel compares the mel that a vocoder reads; set objective.mel instead")
        if self.adversary is not None and self.adversary.settings.adaptive and self.part.last is None:
            raise Error(
                "adaptive weighs gradients at the decoder's last weights, and this decoder has a pitch filter beside "
                "them; set discriminators.adaptive to false"
            )
        segment, window = self.stage.segment, 0 if self.adversary is None else self.adversary.window
        if segment is not None and window and segment * spec.rate <= window // 2:
            raise Error(
                f"segments of {segment:g} s are too short for the windows of these discriminators; give a segment of "
                f"more than {window / 2 / spec.rate:g} s, or other discriminators"
            )

    def forward(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of a batch of segments."""
        step, objective, settings = int(self.steps), self.stage.objective, self.stage.discriminators
        torch.manual_seed(seed)  # dropout draws from the global generator
        generator = torch.Generator().manual_seed(seed)
        target = batch.target.to(self.steps.device)
        if self.stage.augment is not None:
            chance = torch.Generator().manual_seed(mixed(seed, 1 + self.rank))
            target = self.stage.augment(target, self.part.config.gives.rate, chance)
        self.outputs.clear()
        result = self.part.reconstruct(self._opened(target, step), generator, self._shard(batch))
        wanted, made = self._view(result.wanted), self._view(result.made)
        factor = 0.0 if settings is None else ramp(step, settings.start, settings.warmup)
        meets = settings is not None and factor and settings.weight + settings.features
        over = settings is not None and settings.adversarial_only and factor == 1
        terms = {} if over else self._distances(wanted, made, result.wanted)
        loss = wanted.new_zeros(())
        if meets:
            vector = None if self.words is None else self.words(batch.captions).vector
            pull, more = self._against(wanted, made, terms, step, factor, generator, vector)
            loss, terms = loss + pull, {**terms, **more}
        elif self.balancer is not None:
            loss = loss + self.balancer(terms, made)
        else:
            loss = loss + self._weighted(terms, made)
        quantized = {} if result.quantized is None else result.quantized.losses
        loss = loss + sum(quantized.values())
        if objective.white and self.part.whitened:  # a Gaussian bottleneck has a term of its own
            terms["white"] = whiteness_loss(result.latent.flatten(2))  # places of a grid, too
            loss = loss + objective.white * terms["white"]
        self.outputs.clear()  # a copy of the task must not hold a graph
        if self.training:
            self.steps += 1
        return {**terms, **quantized, "loss": cast(Tensor, loss)}

    def _shard(self, batch: Batch) -> BatchShard | None:
        return batch.shard if self.ranks > 1 else None

    def _view(self, values: Tensor) -> Tensor:
        """Waveforms with each channel on its own; anything else as it is."""
        return values.flatten(0, 1)[:, None] if self.waves else values

    def _distances(self, wanted: Tensor, made: Tensor, whole: Tensor) -> dict[str, Tensor]:
        terms = {}
        for name in self.weights:
            if name == "stages":
                terms[name] = stages_distance(self.outputs, whole)
            else:
                terms[name] = DISTANCES[name](made, wanted, self.part.config)
        return terms

    def _weighted(self, terms: dict[str, Tensor], made: Tensor) -> Tensor:
        if not terms:  # until the discriminators come nothing is learned, and a step is one all the same
            return 0 * made.sum()
        return cast(Tensor, sum(self.weights[name] * value for name, value in terms.items()))

    def _against(
        self,
        wanted: Tensor,
        made: Tensor,
        terms: dict[str, Tensor],
        step: int,
        factor: float,
        generator: torch.Generator,
        vector: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What pulls at `made` and at the discriminators at a step that meets them, and its terms for the log.

        `factor`: of the ramp.
        """
        adversary, settings = self.adversary, self.stage.discriminators
        assert adversary is not None and settings is not None
        own = self._weighted(terms, made)
        if settings.adaptive:
            met: list[tuple[Tensor, Tensor, Tensor]] = []

            def taught(here: Tensor) -> Tensor:
                met.append(adversary(wanted, here, step, generator, vector))
                return met[0][0] + settings.features * met[0][1]

            pull = settled(taught, made)
            least, most = settings.adaptive_range
            weight = adaptive_weight(own, pull, self.part.last, weight=settings.weight, least=least, most=most)
            learned = met[0][2]
            return own + factor * weight * pull + learned, {"adversarial": pull.detach(), "discriminators": learned}
        adversarial, features, learned = adversary(wanted, made, step, generator, vector)
        against = {"adversarial": factor * adversarial, "features": factor * features}
        more = {**against, "discriminators": learned}
        if self.balancer is not None:
            return self.balancer({**terms, **against}, made) + learned, more
        pull = settings.weight * against["adversarial"] + settings.features * against["features"]
        return own + pull + learned, more

    def _keep_output(self, module: nn.Module, given: object, made: Tensor) -> None:
        if torch.is_grad_enabled():
            self.outputs.append(made)

    def _opened(self, batch: Tensor, step: int) -> Tensor:
        """What the part reads, and is to give again: a sound whose treble comes later."""
        share = self.stage.objective.opening
        if not (share and self.training):
            return batch
        rate, total = self.part.config.gives.rate, self.total_steps
        # Until the number of steps is known the low-pass stays where it began.
        cutoff = opening(step if total else 0, total or 1, len(self.part.sizes), rate, open_by=share)
        return low_pass(batch, cutoff, rate)

    @torch.no_grad()
    def measure(self, held_out: Sequence[Any], batch: int, frames: int | None = None) -> dict[str, float]:
        """On items held out: the part's own distance between an item and its reconstruction, `half` the same with half
        of the levels, and what else the part says of both (`readings`); how evenly codes are used: the perplexity of
        the level that is used least, as a share of its size; how many discriminators have collapsed."""
        part, some = self.part, held_out[:: max(1, len(held_out) // MOST_MEASURED)][:MOST_MEASURED]
        trained = int(part.steps_trained)
        part.steps_trained.fill_(max(1, trained))
        sizes = part.sizes[:1] if part.layout == "grid" else part.sizes  # the rows of a grid share a codebook
        counts = [torch.zeros(size, dtype=torch.int64) for size in sizes]
        sums: dict[str, float] = {}
        try:
            for one in some:
                target = one.target[None].float().to(self.steps.device)
                for name, made in self._reconstructed(target, counts).items():
                    sums[name] = sums.get(name, 0.0) + float(part.distance(made, target)) / len(some)
                    if name == "loss":
                        for reading, value in part.readings(made, target).items():
                            sums[reading] = sums.get(reading, 0.0) + float(value) / len(some)
        finally:
            part.steps_trained.fill_(trained)
        if counts:
            sums["perplexity"] = min(float(perplexity(count)) / len(count) for count in counts)
        if self.adversary is not None:
            sums["collapsed"] = float(self.adversary.collapsed)
        return sums

    def _reconstructed(self, target: Tensor, counts: Sequence[Tensor]) -> dict[str, Tensor]:
        """The item through the part, and where a frame has several levels of codes through half of them; counts
        codes."""
        part, length = self.part, target.shape[-1]
        latent = part.encode(target)
        made = {"loss": part.decode(latent)[..., :length]}
        if latent.codes is None:
            return made
        levels = latent.codes.unbind(1) if latent.layout == "levels" else [latent.codes]
        for count, codes in zip(counts, levels, strict=True):
            count += torch.bincount(codes.flatten().cpu(), minlength=len(count))
        if latent.layout == "levels" and (half := max(part.min_levels, len(levels) // 2)) < len(levels):
            made["half"] = part.decode_codes(latent.codes[:, :half], latent.lengths)[..., :length]
        return made

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, Any]]:
        """Muon's steps for the matrices that the part names, AdamW's for all else; discriminators take steps of their
        own size."""
        groups = groups_of(self.part, settings, self.part.matrices())
        if self.adversary is None:
            return groups
        rate = settings.learning_rate * self.adversary.settings.rate
        others = settings.model_copy(update={"learning_rate": rate})
        modules = [self.adversary, *([self.words] if self.words is not None else [])]
        return [*groups, *(group for one in modules for group in groups_of(one, others, [], side="discriminators"))]

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the part as it stands into `run`, marked as trained for `steps`."""
        self.part.steps_trained.fill_(steps)
        save_part(run / self.name, self.part)

    def load_parts(self, run: Path) -> None:
        """Fills the part with what `save_parts` wrote into `run`. Raises ModelError where it does not fit."""
        load_weights(self.part, run / self.name / WEIGHTS)
