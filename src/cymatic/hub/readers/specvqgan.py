"""Spectrogram codecs of SpecVQGAN (Iashin and Rahtu, 2021, arXiv 2110.08791) and MelSpec_GPT_VQVAE as codecs of ours.

Both have the same network under other names. SpecVQGAN says its sizes in a `config.yaml`, which is checked where it is
given; MelSpec_GPT_VQVAE doesn't say them at all. So they are read from the tensors, which know them best.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cymatic.codecs.spectrogram import SpectrogramCodec, SpectrogramCodecConfig
from cymatic.errors import ModelError
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.hub.readers.vqgan_layout import SHAPE, compare, fitting_codec, sizes_in, sizes_of
from cymatic.signal.mel import MelSpec

LEFT_OUT = ("loss.", "discriminator.")  # what trained the codec, and is no part of it
# The same three parts in the two projects; the rest of the names is alike.
SPECVQGAN = ("encoder.", "decoder.", "quantize.embedding.")
FIRST_STAGE = "first_stage_model."
MELSPEC = ("_encoder.", "_decoder.", "_vq_vae._embedding.")


@dataclass(frozen=True)
class Imported:
    """A codec in eval mode, and the names of the tensors of its file that trained it and were left out."""

    codec: SpectrogramCodec
    left_out: list[str]


def read_codec(
    checkpoint: Path,
    mel: MelSpec,
    config: Path | None = None,
    *,
    legacy: bool | None = None,
    held: dict[str, Any] | None = None,
) -> Imported:
    """A SpecVQGAN codec (`codebook.ckpt`) or a MelSpec_GPT_VQVAE one, as Lightning checkpoint or bare state_dict.

    `mel` is on a scale from 0 to 1, and the network sees `2 m - 1`. `config` is SpecVQGAN's YAML, whose sizes must be
    those of the tensors; the codec inside the checkpoint of a GPT is read, too. `legacy` says which term of the
    quantizer's loss beta weighs (see `VectorQuantizerConfig`); SpecVQGAN's order is the legacy one and
    MelSpec_GPT_VQVAE's is not, and without `legacy` the file decides. held: what `read_checkpoint` gave.

    Raises ModelError naming every tensor that is missing, unexpected or of another shape, and for a mel on another
    scale.
    """
    if mel.normalisation != "decibel-unit":
        raise ModelError(
            f'{checkpoint} reads mels from 0 to 1 ("decibel-unit") and was given "{mel.normalisation}"; '
            "give the mel specvqgan-22k"
        )
    held = read_checkpoint(checkpoint) if held is None else held
    tensors = tensors_in(held, checkpoint)
    left_out = sorted(name for name in tensors if name.startswith(LEFT_OUT))
    if any(name.startswith(FIRST_STAGE) for name in tensors):  # a GPT that was saved with its codec
        left_out = sorted(name for name in tensors if not name.startswith(FIRST_STAGE))
        tensors = {n.removeprefix(FIRST_STAGE): t for n, t in tensors.items() if n.startswith(FIRST_STAGE)}
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(LEFT_OUT)}
    published = not any(name.startswith(MELSPEC) for name in kept)
    named = {name if published else _translated(name, MELSPEC, SPECVQGAN): tensor for name, tensor in kept.items()}

    def say(name: str) -> str:
        return name if published else _translated(name, SPECVQGAN, MELSPEC)

    sizes = sizes_of(named, checkpoint, channels=1, say=say)
    if config is not None:
        compare(sizes, sizes_in(config, "SpecVQGAN")[0], checkpoint, config)
    codec = SpectrogramCodec(
        SpectrogramCodecConfig.parse(
            {
                "mel": mel,
                **{name: sizes[name] for name in SHAPE},
                "quantizer": {
                    "size": sizes["codes"],
                    "dim": sizes["dim"],
                    "legacy": published if legacy is None else legacy,
                },
            },
            str(checkpoint),
        )
    )
    codec.load_state_dict({**codec.state_dict(), **fitting_codec(named, codec, checkpoint, say=say)})
    codec.mean.fill_(0.5)
    codec.std.fill_(0.5)
    steps = held.get("global_step")  # a bare state_dict counts none and was trained all the same
    codec.steps_trained.fill_(max(1, steps) if isinstance(steps, int) else 1)
    return Imported(codec.eval(), left_out)


def _translated(name: str, before: tuple[str, ...], after: tuple[str, ...]) -> str:
    for old, new in zip(before, after, strict=True):
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name
