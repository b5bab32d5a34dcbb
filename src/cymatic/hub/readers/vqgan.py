"""VQ-GANs of pictures (Esser et al., 2021, arXiv 2012.09841): the checkpoints of "taming transformers", and the decoder
alone that min-dalle keeps of DALL-E mini's (`detoker.pt`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from cymatic.codecs.picture import PictureCodec, PictureCodecConfig
from cymatic.errors import ModelError
from cymatic.hub.checkpoints import read_checkpoint, tensors_in
from cymatic.hub.readers.vqgan_layout import CODEBOOK, SHAPE, compare, fitting_codec, sizes_in, sizes_of
from cymatic.media.picture import PictureSpec

LEFT_OUT = ("loss.", "discriminator.", "model_ema.")  # what trained the codec, and is no part of it
FIRST_STAGE = "first_stage_model."
DETOKER_CODEBOOK = "embedding.weight"
DETOKER_EPS = 1e-5
SIZE = 256  # of the published models' pictures


@dataclass(frozen=True)
class ImportedVQGAN:
    """A codec in eval mode, and the names of the tensors of its file that were left out."""

    codec: PictureCodec
    left_out: list[str]


def is_of_pictures(held: Mapping[str, Any], path: Path) -> bool:
    """Whether what `read_checkpoint` gave for `path` holds a codec of pictures, and not one of spectrograms."""
    tensors = tensors_in(dict(held), path)
    ends = (tensors.get(f"{root}decoder.conv_out.weight") for root in ("", FIRST_STAGE))
    return any(end is not None and end.dim() == 4 and end.shape[0] == 3 for end in ends)


def read_vqgan(
    checkpoint: Path, config: Path | None = None, *, size: int | None = None, held: dict[str, Any] | None = None
) -> ImportedVQGAN:
    """A VQ-GAN of pictures, as Lightning checkpoint or bare state_dict; that inside a GPT's checkpoint is read, too.

    A file without an encoder gives a codec that only decodes; min-dalle's, whose pictures are in 0..1 from the start,
    is brought to -1..1 by its last layer. config: the project's YAML, whose sizes must be those of the tensors; size:
    of the pictures, else the YAML's, else 256; held: what `read_checkpoint` gave. Other quantizers than the vector
    quantizer are refused.

    Raises ModelError naming every tensor that is missing, unexpected or of another shape.
    """
    held = read_checkpoint(checkpoint) if held is None else held
    tensors = tensors_in(held, checkpoint)
    left_out = sorted(name for name in tensors if name.startswith(LEFT_OUT))
    if any(name.startswith(FIRST_STAGE) for name in tensors):
        left_out = sorted(name for name in tensors if not name.startswith(FIRST_STAGE))
        tensors = {n.removeprefix(FIRST_STAGE): t for n, t in tensors.items() if n.startswith(FIRST_STAGE)}
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(LEFT_OUT)}
    in_unit = DETOKER_CODEBOOK in kept and CODEBOOK not in kept
    if in_unit:
        kept[CODEBOOK] = kept.pop(DETOKER_CODEBOOK)
    decoder_only = not any(name.startswith("encoder.") for name in kept)
    halves = ("decoder",) if decoder_only else ("encoder", "decoder")

    def say(name: str) -> str:
        return DETOKER_CODEBOOK if in_unit and name == CODEBOOK else name

    sizes = sizes_of(kept, checkpoint, channels=3, say=say, half=halves[0])
    if config is not None:
        wanted, side = sizes_in(config, "VQ-GAN")
        compare(sizes, wanted, checkpoint, config)
        size = side if size is None else size
    made = PictureCodec(
        PictureCodecConfig.parse(
            {
                **{name: sizes[name] for name in SHAPE},
                "picture": PictureSpec(size=SIZE if size is None else size),
                "quantizer": {"size": sizes["codes"], "dim": sizes["dim"], "legacy": True},
                "decoder_only": decoder_only,
                "norm_eps": DETOKER_EPS if in_unit else 1e-6,
            },
            str(checkpoint),
        )
    )
    state: dict[str, Tensor] = fitting_codec(kept, made, checkpoint, say=say, halves=halves)
    if in_unit:
        state["decoder.write.conv.weight"] = 2 * state["decoder.write.conv.weight"]
        state["decoder.write.conv.bias"] = 2 * state["decoder.write.conv.bias"] - 1
    made.load_state_dict({**made.state_dict(), **state})
    steps = held.get("global_step")  # a bare state_dict counts none and was trained all the same
    made.steps_trained.fill_(max(1, steps) if isinstance(steps, int) else 1)
    return ImportedVQGAN(made.eval(), left_out)


def for_grids(codec: PictureCodec, over: Any) -> PictureCodec:
    """The same codec for the grids of a prior, whose config is `over`. Raises ModelError where that has other codes or
    its grids are no square pictures."""
    (high, wide), codes = codec.config.cell, codec.size
    if over.codes != codes:
        raise ModelError(f"the codec has {codes} codes and the prior {over.codes}; give both of one model")
    if over.rows * high != over.longest * wide:
        raise ModelError(f"{over.rows} x {over.longest} codes of {high} x {wide} pixels are no square picture")
    codec.config = codec.config.reading(PictureSpec(size=over.rows * high))
    return codec
