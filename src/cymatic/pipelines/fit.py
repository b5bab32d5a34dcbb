"""Whether the parts of a generator fit each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cymatic.errors import ModelError

if TYPE_CHECKING:
    from cymatic.pipelines.generate import Generator

LONGEST = 600  # seconds that an item trained on may last; a prior that claims more is damaged


def check_fit(model: Generator) -> None:
    """Raises ModelError for parts of a model that don't fit each other."""
    encoder, prior, codec, vocoder, name = model.encoder, model.prior, model.codec, model.vocoder, model.name
    if encoder.config.dim != prior.config.cond_dim:
        raise ModelError(
            f"{name}: its encoder gives tokens of {encoder.config.dim} numbers and its prior reads "
            f"{prior.config.cond_dim}; take parts that were trained together"
        )
    if (codec is None) == (prior.config.reads is None):
        held = "has no codec" if codec is None else "has a codec"
        raise ModelError(f"{name}: its prior is over {prior.config.over}, and it {held}; copy or train it again")
    if codec is None:
        target, seconds = prior.config.reads, prior.config.reads.seconds(1)
        most = None if seconds is None else LONGEST / seconds + 1
        least = 1 if prior.steps_trained else 0
        if int(prior.longest) < least or (most is not None and int(prior.longest) > most):
            raise ModelError(f"{name}: its prior claims a length of {int(prior.longest)}; copy or train it again")
    elif prior.config.over == "latents":
        target = codec.config.gives
        dim, rows, columns = prior.config.shape
        width = codec.columns(target.shape[-1]) if target.shape[-1] > 0 else columns
        if (dim, rows, columns) != (codec.dim, codec.rows, width):
            raise ModelError(
                f"{name}: its codec has latents of {codec.dim} x {codec.rows} x {width} numbers, and its prior "
                f"makes {dim} x {rows} x {columns}; take parts that were trained together"
            )
    else:
        target, sizes = codec.config.gives, tuple(map(prior.config.size, range(prior.config.rows)))
        offered = tuple(codec.sizes)
        if sizes != offered[: len(sizes)] or (codec.layout == "grid" and len(sizes) != len(offered)):
            raise ModelError(
                f"{name}: its codec has {len(offered)} codes in a column of up to {max(offered)}, and its prior "
                f"{len(sizes)} of up to {max(sizes)}; take parts that were trained together"
            )
    if vocoder is not None and vocoder.config.reads != target:
        raise ModelError(
            f"{name}: its vocoder reads another mel than is made before it; take parts with the same MelSpec"
        )
