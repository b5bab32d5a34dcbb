"""Encoders of other projects as a model of their own: each alone, or those that were aligned in one space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cymatic.encoders import ENCODERS
from cymatic.encoders.beats import BeatsEncoder
from cymatic.errors import ModelError
from cymatic.hub.checkpoints import read_checkpoint
from cymatic.hub.readers.beats import is_beats, read_beats
from cymatic.hub.readers.cascaded_speechclip import CascadedSpeechClipEncoder, read_cascaded_speechclip
from cymatic.hub.readers.clip import ClipPictureEncoder, ClipTextEncoder, is_clip, read_clip
from cymatic.hub.readers.hubert import HubertEncoder, is_hubert, read_hubert
from cymatic.hub.readers.speechclip import SpeechClipEncoder, has_parallel_branch, read_speechclip
from cymatic.hub.readers.vit import VitEncoder, is_vit, read_vit

# What a model of encoders may hold, ours or others'.
ANY_ENCODER: tuple[type[Any], ...] = (
    *ENCODERS, ClipTextEncoder, ClipPictureEncoder, VitEncoder, HubertEncoder, SpeechClipEncoder,
    CascadedSpeechClipEncoder, BeatsEncoder,
)  # fmt: skip


@dataclass(frozen=True)
class Towers:
    """Encoders by role, and by what the similarities of two become logits."""

    parts: dict[str, nn.Module]
    scale: float | None = None


def read_towers(source: Path, *, speech: Path | None = None, heads: int | None = None) -> Towers | None:
    """The encoders in a folder of CLIP's, ViT's, HuBERT's or wav2vec 2.0's, or in a file of BEATs; None where `source`
    is none of these. speech: a checkpoint of SpeechCLIP's, whose sounds lie in the space of the CLIP in `source`;
    heads: of its speech tower, else a 64th of its width. Of a SpeechCLIP with both branches the parallel one is read.

    Raises ModelError as their readers do, and for a SpeechCLIP whose vectors are no CLIP's or of another width.
    """
    if source.is_dir() and is_clip(source):
        clip = read_clip(source)
        parts: dict[str, nn.Module] = {"picture": clip.picture, "caption": clip.text}
        if speech is None:
            return Towers(parts, clip.scale)
        heard: Any
        if has_parallel_branch(speech):
            heard = read_speechclip(speech, heads=heads).speech
        else:
            heard = read_cascaded_speechclip(speech, clip.text, heads=heads).speech
        if heard.config.dim != clip.picture.config.dim:
            raise ModelError(
                f"{speech} gives vectors of {heard.config.dim} numbers and {source} of {clip.picture.config.dim}; give "
                "the CLIP that it was trained with"
            )
        return Towers({"audio": heard, **parts})
    if speech is not None:
        raise ModelError(f"{source} is no folder of CLIP's, which {speech} goes with; give the CLIP of its training")
    if source.is_dir() and is_hubert(source):
        return Towers({"audio": read_hubert(source)})
    if source.is_dir() and is_vit(source):
        return Towers({"picture": read_vit(source)})
    if source.is_file() and is_beats(read_checkpoint(source)):
        return Towers({"audio": read_beats(source)})
    return None
