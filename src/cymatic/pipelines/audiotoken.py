"""A sound -> one word of a prompt -> pictures: AudioToken (Yariv et al., 2023, arXiv 2305.13050)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cymatic.cond import Padded, padded
from cymatic.encoders import ENCODERS
from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.encoders.beats import BeatsEncoder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.readers.audiotoken import read_audiotoken
from cymatic.hub.readers.beats import read_beats
from cymatic.hub.readers.stable_diffusion import read_stable_diffusion
from cymatic.hub.stable_diffusion import PLACEHOLDER, StableDiffusion
from cymatic.media import MEDIA
from cymatic.media.picture import Picture
from cymatic.media.sound import Sound
from cymatic.pipelines.asked import Prompt, check_count, described
from cymatic.priors.progress import OnStep
from cymatic.scalars import Number
from cymatic.version import __version__

TEMPLATE = f"a photo of {PLACEHOLDER}, 4k, high resolution"
AT_ONCE = 4  # pictures drawn side by side: more would cost much memory and save little time


def features(
    encoder: Any, config: AudioTokenConfig, batch: Padded
) -> tuple[Float[Tensor, "batch n inside"], Bool[Tensor, "batch n"]]:
    """What an embedder reads of a batch of sounds: of BEATs the states of some layers side by side, of any other
    encoder its tokens; and where there are some. Raises Error as the encoder does."""
    if isinstance(encoder, BeatsEncoder):
        return encoder.layers(batch, config.layers)
    cond = encoder(batch)
    if cond.tokens is None:
        raise Error("this encoder gives no tokens; give one that does, such as BEATs")
    return cond.tokens, cond.mask


def check_fit(encoder: Any, embedder: AudioTokenEmbedder, diffusion: StableDiffusion) -> None:
    """Raises ModelError for parts that don't fit each other."""
    config, spec = embedder.config, encoder.config.reads
    if spec is None or spec.medium != "audio":
        raise ModelError("this encoder reads no sounds; give one that does, such as BEATs")
    width, layers = encoder.config.dim, config.layers
    if isinstance(encoder, BeatsEncoder):
        if not all(0 <= layer < encoder.config.depth for layer in layers):
            raise ModelError(
                f"this embedder reads layers {list(layers)} of BEATs, and this one has layers 0 to "
                f"{encoder.config.depth - 1}; take parts that were trained together"
            )
        width *= len(layers)
    if width != config.inside:
        raise ModelError(
            f"this encoder gives {width} numbers and this embedder reads {config.inside}; take parts that were trained "
            "together"
        )
    if config.dim != diffusion.width:
        raise ModelError(
            f"this embedder makes words of {config.dim} numbers and this Stable Diffusion reads {diffusion.width}; "
            "take parts that were trained together"
        )


class AudioToken:
    """Sounds -> pictures: an encoder hears, an embedder makes one word of it, and Stable Diffusion draws a prompt that
    holds this word. The same sound and seed give the same picture.

    encoder: BEATs, or any encoder of sounds that gives tokens. template: the prompt, with `<*>` for the sound's word.
    Raises ModelError for parts that don't fit each other.
    """

    def __init__(
        self,
        encoder: Any,
        embedder: AudioTokenEmbedder,
        diffusion: StableDiffusion,
        *,
        template: str = TEMPLATE,
        name: str = "audiotoken",
        sha256: str = "",
    ) -> None:
        check_fit(encoder, embedder, diffusion)
        self.encoder, self.embedder, self.diffusion = encoder.eval(), embedder.eval(), diffusion.eval()
        self.stamp = {"model": name, **({"sha256": sha256} if sha256 else {})}
        self.template, self.spec = template, encoder.config.reads

    @classmethod
    def read(
        cls, encoder: Path, embedder: Path, diffusion: Path, *, layers: Sequence[int] = (3, 7, 11), device: str = "cpu"
    ) -> AudioToken:
        """From files: BEATs' checkpoint or the folder of an encoder, `embedder_learned_embeds.bin` or the folder of an
        embedder, and the folder of a Stable Diffusion. layers: as `read_audiotoken`. Raises ModelError as the readers.
        """
        heard: Any = load_part(encoder, (*ENCODERS, BeatsEncoder)) if encoder.is_dir() else read_beats(encoder)
        if embedder.is_dir():
            words = load_part(embedder, (AudioTokenEmbedder,))
        else:
            words = read_audiotoken(embedder, layers=layers)
        drawn = read_stable_diffusion(diffusion)
        return cls(heard.to(device), words.to(device), drawn.to(device), name=diffusion.name)

    def words(self, sounds: Sequence[Prompt]) -> Float[Tensor, "batch dim"]:
        """The embedding of the word that each sound becomes. All channels are heard, at whatever rate they have; a
        tensor is taken as prepared. Raises Error for what is no sound, or one too short."""
        prepare = MEDIA[self.spec.medium].prepare
        for sound in sounds:
            if not isinstance(sound, Sound | Tensor):
                raise Error(f"pictures are drawn of sounds; give these instead of {described(sound)!r:.60}")
        heard = [sound if isinstance(sound, Tensor) else prepare(sound, self.spec) for sound in sounds]
        if not heard:
            raise Error("no sound was given; give at least one")
        with torch.inference_mode():
            tokens, mask = features(self.encoder, self.embedder.config, padded([one.float() for one in heard]))
            return self.embedder(tokens, mask)

    def __call__(
        self,
        sound: Prompt,
        *,
        seed: SupportsIndex = 0,
        n: SupportsIndex | None = None,
        template: str | None = None,
        negative: str = "",
        steps: SupportsIndex = 50,
        guidance: Number = 7.5,
        size: int | tuple[int, int] | None = None,
        on_step: OnStep | None = None,
    ) -> Any:
        """A `Picture` of what is heard; with `n`, a list of n with seeds seed, seed + 1, ...

        template: a prompt of its own; negative: what guidance leads away from. steps, guidance, size: as
        `StableDiffusion.draw`. on_step: called between steps with how many are done and how many there are; what it
        raises ends the work. Raises PromptError for a prompt that can't be read, Error for a sound or a setting out of
        range, ModelError where numbers that are not finite are made.
        """
        count, seed = check_count(seed, 1 if n is None else n)
        drawn = self.diffusion
        how: dict[str, Any] = {"steps": drawn.check_steps(steps), "guidance": drawn.check_guidance(guidance)}
        template, size = template or self.template, drawn.sides(size)
        info = {
            "prompt": template, "sound": described(sound), **self.stamp, **how,
            **({"negative": negative} if negative else {}), "cymatic": __version__,
        }  # fmt: skip
        made: list[Picture] = []
        with torch.inference_mode():
            states = drawn.text_states([template], self.words([sound]))
            unconditional = drawn.text_states([negative])
            for begin in range(0, count, AT_ONCE):
                seeds = range(seed + begin, seed + min(count, begin + AT_ONCE))
                pictures = drawn.draw(
                    states.expand(len(seeds), -1, -1),
                    unconditional,
                    seeds,
                    **how,
                    size=size,
                    on_step=_of_all(on_step, begin // AT_ONCE, -(-count // AT_ONCE)),
                )
                made += [_picture(one, {**info, "seed": at}) for one, at in zip(pictures, seeds, strict=True)]
        return made[0] if n is None else made


def _picture(made: Float[Tensor, "3 height width"], info: Mapping[str, Any]) -> Picture:
    """Raises ModelError for NaN or infinity."""
    if not made.isfinite().all():
        raise ModelError("the model made NaN or infinity instead of a picture; lower the guidance or mend the model")
    return Picture(made.permute(1, 2, 0).float().cpu().numpy(), info)


def _of_all(on_step: OnStep | None, batch: int, batches: int) -> OnStep | None:
    """`on_step` of one of several batches, which counts the steps of all."""
    if on_step is None:
        return None
    return lambda done, steps: on_step(batch * steps + done, batches * steps)
