"""The task of training a spectrogram codec against a judge of its patches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.data.crops import Pieces
from cymatic.data.mels import Clip
from cymatic.discriminators.losses import discriminator_loss, feature_loss
from cymatic.discriminators.output import DiscriminatorOutput
from cymatic.discriminators.patch import PatchDiscriminator, discriminate_together
from cymatic.discriminators.weight import adaptive_weight, ramp, settled
from cymatic.encoders.text import TextConfig, TextEncoder
from cymatic.evaluation.code_use import perplexity
from cymatic.hub.parts import save_part
from cymatic.seeds import mixed
from cymatic.signal.mel import MelSpec
from cymatic.training.muon import groups_of
from cymatic.training.recipe import MelGPTRecipe, TrainingSettings

MOST_MEASURED = 128  # clips


class CodecTask(nn.Module):
    """A codec and its judge as one module with one loss.

    Both sides step at once, as in `VocoderTask`: the codec's terms see the judge's weights as constants, the judge's
    term sees the made mel as a constant. The loss is `|x - x'| + quantizer's terms + ramp * weight * (-D(x')) + ...` in
    the network's units, with the adaptive weight of VQ-GAN.
    """

    steps: Tensor
    stage = "codec"
    betas = (0.5, 0.9)
    keeps_best = False  # the distance held out rises a little while the picture gets sharper

    def __init__(self, recipe: MelGPTRecipe, spec: MelSpec) -> None:
        super().__init__()
        torch.manual_seed(mixed(recipe.codec_training.seed, 0))
        self.settings = recipe.judge
        self.codec = SpectrogramCodec(
            SpectrogramCodecConfig(mel=spec, quantizer=recipe.quantizer, **recipe.codec.model_dump())
        )
        dim = recipe.condition.dim if recipe.judge.conditional else None
        self.words = None if dim is None else TextEncoder(TextConfig(dim=dim))  # the judge's own
        self.judge = PatchDiscriminator(width=recipe.judge.width, cond_dim=dim)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: Pieces, seed: int) -> dict[str, Tensor]:
        """`{"loss": ..., and its terms}` of a batch of pieces."""
        settings, step = self.settings, int(self.steps)
        torch.manual_seed(seed)  # dropout draws from the global generator
        mel, generator = batch.mel.to(self.steps.device), torch.Generator().manual_seed(seed)
        wanted, made, _, quantized = self.codec(mel, generator, shard=batch.shard)
        own = (wanted - made).abs().mean()
        terms = {"mel": own, **quantized.losses, "loss": own + sum(quantized.losses.values())}
        factor = ramp(step, settings.start, settings.warmup)
        if factor and settings.weight:
            real, fake = wanted[:, None], made[:, None]
            vector = None if self.words is None else self.words(batch.captions).vector
            said, answered = discriminate_together(self.judge, real, fake.detach(), vector)
            terms["judge"] = discriminator_loss([said], [answered])
            frozen = {name: p.detach() for name, p in self.judge.named_parameters()}

            def fooled(picture: Tensor) -> Tensor:
                known = () if vector is None else (vector.detach(),)
                seen: DiscriminatorOutput = functional_call(self.judge, frozen, (picture, *known))
                return settings.features * feature_loss([said], [seen]) - seen[0].mean()

            fool = settled(fooled, fake)
            weight = adaptive_weight(
                own, fool, self.codec.last, weight=settings.weight, least=settings.least, most=settings.most
            )
            terms["fool"] = fool
            terms["loss"] = terms["loss"] + factor * weight * fool + terms["judge"]
        if self.training:
            self.steps += 1
        return terms

    @torch.no_grad()
    def measure(self, clips: Sequence[Clip], batch: int) -> dict[str, float]:
        """The distance of mels, in the mel's own units, on some clips from all over `clips`; and how many codes they
        use, as the perplexity of all their codes."""
        some = list(clips)[:: max(1, len(clips) // MOST_MEASURED)][:MOST_MEASURED]
        some.sort(key=lambda clip: clip.mel.shape[1])
        trained, distance = int(self.codec.steps_trained), 0.0
        self.codec.steps_trained.fill_(max(1, trained))
        counts = torch.zeros(self.codec.size, dtype=torch.int64)
        for clip in some:
            mel = clip.mel[None].to(self.steps.device)
            latent = self.codec.encode(mel)
            assert latent.codes is not None
            counts += torch.bincount(latent.codes.flatten().cpu(), minlength=len(counts))
            distance += (self.codec.decode(latent) - mel).abs().mean().item() / len(some)
        self.codec.steps_trained.fill_(trained)
        return {"loss": distance, "perplexity": float(perplexity(counts))}

    def parameter_groups(self, settings: TrainingSettings) -> list[dict[str, object]]:
        """Muon's steps for what is inside both halves, AdamW's for their ends, the codebook and the judge."""
        inside = [
            cast(nn.Parameter, layer.weight)
            for half in (self.codec.encoder, self.codec.decoder)
            for layer in half.modules()
            if isinstance(layer, nn.Conv2d) and layer.weight is not self.codec.last and layer.kernel_size == (3, 3)
        ]
        groups = groups_of(self.codec, settings, inside)
        judge = settings.model_copy(update={"learning_rate": settings.learning_rate * self.settings.rate})
        others = [self.judge, *([self.words] if self.words is not None else [])]
        return [*groups, *(group for other in others for group in groups_of(other, judge, [], "discriminators"))]

    def save_parts(self, run: Path, steps: int) -> None:
        """Writes the codec as it stands into `run`, marked as trained for `steps`."""
        self.codec.steps_trained.fill_(steps)
        save_part(run / "codec", self.codec)
