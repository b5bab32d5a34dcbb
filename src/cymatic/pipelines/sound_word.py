"""A sound -> one word of a prompt: AudioToken (Yariv et al., 2023, arXiv 2305.13050)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cymatic.cond import Padded, padded
from cymatic.encoders import ENCODERS
from cymatic.encoders.audiotoken import AudioTokenConfig, AudioTokenEmbedder
from cymatic.encoders.beats import BeatsEncoder
from cymatic.errors import Error, ModelError
from cymatic.hub.parts import fingerprint, load_part
from cymatic.hub.pipeline_file import PipelineFile
from cymatic.hub.stable_diffusion import PLACEHOLDER
from cymatic.media import MEDIA
from cymatic.pipelines.asked import Prompt, described, medium_asked

TEMPLATE = f"a photo of {PLACEHOLDER}, 4k, high resolution"
HEARD, WORD = "audio", "token"  # the parts of a model that makes words of sounds


def features(
    encoder: Any, config: AudioTokenConfig, batch: Padded
) -> tuple[Float[Tensor, "batch n inside"], Bool[Tensor, "batch n"]]:
    """What an embedder reads of a batch of sounds: the states of some layers of BEATs side by side, or the tokens of
    any encoder where it names no layers; and where there are some. Raises Error as the encoder does."""
    if config.layers:
        found: tuple[Tensor, Tensor] = encoder.layers(batch, config.layers)
        return found
    cond = encoder(batch)
    if cond.tokens is None:
        raise Error("this encoder gives no tokens; give one that does, such as BEATs")
    return cond.tokens, cond.mask


def check_fit(encoder: Any, embedder: AudioTokenEmbedder, width: int | None = None) -> None:
    """Raises ModelError for parts that don't fit each other. width: of the words that are read, where that is known."""
    config, spec = embedder.config, encoder.config.reads
    if spec is None or spec.medium != "audio":
        raise ModelError("this encoder reads no sounds; give one that does, such as BEATs")
    inside, layers = encoder.config.dim, config.layers
    if layers and type(encoder) is not BeatsEncoder:
        raise ModelError("this embedder reads layers of BEATs, and another encoder was given; give BEATs")
    if layers:
        if not all(0 <= layer < encoder.config.depth for layer in layers):
            raise ModelError(
                f"this embedder reads layers {list(layers)} of BEATs, and this one has layers 0 to "
                f"{encoder.config.depth - 1}; take parts that were trained together"
            )
        inside *= len(layers)
    if inside != config.inside:
        raise ModelError(
            f"this encoder gives {inside} numbers and this embedder reads {config.inside}; take parts that were "
            "trained together"
        )
    if width is not None and config.dim != width:
        raise ModelError(
            f"this embedder makes words of {config.dim} numbers and this Stable Diffusion reads {width}; take parts "
            "that were trained together"
        )


class SoundWord:
    """Sounds -> the embedding of a word each, which stands at `<*>` in the prompt `template`. The same sound is the
    same word.

    encoder: BEATs, or any encoder of sounds that gives tokens. Raises ModelError for parts that don't fit each other.
    """

    def __init__(
        self, encoder: Any, embedder: AudioTokenEmbedder, *, template: str = TEMPLATE, name: str = "audiotoken",
        sha256: str = "",
    ) -> None:  # fmt: skip
        check_fit(encoder, embedder)
        self.encoder, self.embedder, self.template = encoder.eval(), embedder.eval(), template
        self.name, self.sha256, self.spec = name, sha256, encoder.config.reads

    @classmethod
    def from_folder(
        cls, folder: Path, file: PipelineFile, *, device: str = "cpu", name: str | None = None
    ) -> SoundWord:
        """Raises ModelError where a part is missing, damaged or of the wrong kind."""
        places = file.places(folder, (HEARD, WORD))
        encoder: Any = load_part(places[HEARD], (*ENCODERS, BeatsEncoder)).to(device)
        embedder = load_part(places[WORD], (AudioTokenEmbedder,)).to(device)
        return cls(encoder, embedder, name=name or folder.name, sha256=fingerprint(list(places.values())))

    def words(self, sounds: Sequence[Prompt]) -> Float[Tensor, "batch dim"]:
        """The embedding of the word that each sound becomes. All channels are heard, at whatever rate they have; a path
        is read, and a tensor taken as prepared. Raises Error for what is no sound, or one too short."""
        audio = MEDIA[self.spec.medium]
        for sound in sounds:
            if not isinstance(sound, Tensor) and medium_asked(sound) is not audio:
                raise Error(f"pictures are drawn of sounds; give these instead of {described(sound)!r:.60}")
        read = [audio.read(one) if isinstance(one, Path) else one for one in sounds]
        heard = [one if isinstance(one, Tensor) else audio.prepare(one, self.spec) for one in read]
        if not heard:
            raise Error("no sound was given; give at least one")
        with torch.inference_mode():
            tokens, mask = features(self.encoder, self.embedder.config, padded([one.float() for one in heard]))
            return self.embedder(tokens, mask)
