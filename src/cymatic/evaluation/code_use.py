"""What a codec loses and how much of its codebooks is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from cymatic.errors import Error
from cymatic.evaluation.domain import Domain, Losses
from cymatic.evaluation.evaluable import HasCodec
from cymatic.evaluation.intervals import Estimate, bootstrap, groups_of, jackknife


@dataclass(frozen=True)
class CodeUse:
    """How a codebook of `size` codes is used by `clips` clips: `counts` of each code, most frequent first."""

    size: int
    clips: int
    perplexity: Estimate
    unused: int
    counts: tuple[int, ...]


def perplexity(counts: Int[Tensor, " size"]) -> float:
    """`exp(-sum p log p)`: how many codes used evenly would be as surprising as these; from 1 to the codebook's size.

    Raises Error where nothing was counted.
    """
    if not counts.any():
        raise Error("no codes were counted, so nothing can be said about their use; give at least one clip")
    shares = counts.double() / counts.sum()
    return float(shares.clamp_min(1e-300).log().mul(shares).sum().neg().exp())


def unused(counts: Int[Tensor, " size"]) -> int:
    """Codes that were never chosen."""
    return int((counts == 0).sum())


@torch.inference_mode()
def through_codec(
    model: HasCodec, clips: Sequence[object], captions: Sequence[str], domain: Domain
) -> tuple[Losses, dict[str, CodeUse]]:
    """How far clips lie from what the model's codec makes of them, in its own distance; and how each of its codebooks
    is used, in as many rows as the model uses: by "codes" where there is one codebook, else by "level 1" and so on.

    Both are empty where there are no clips, and codes are where the codec has none.
    """
    codec, far = model.codec, []
    if codec is None:
        return {}, {}
    rows: dict[str, list[Tensor]] = {}
    for clip in clips:
        target = domain.target(model, clip)[None]
        latent = codec.encode(target)
        codes = latent.codes
        if codes is not None and model.rows is not None and model.rows < codes.shape[1]:
            codes = codes[:, : model.rows]
            again = codec.decode_codes(codes, latent.lengths).to(target.device)
        else:
            again = codec.decode(latent).to(target.device)
        length = min(target.shape[-1], again.shape[-1])
        far.append(float(codec.distance(again[..., :length], target[..., :length])))
        if codes is not None:
            for name, book, size in _codebooks(codes, latent.layout, codec.sizes):
                rows.setdefault(name, []).append(torch.bincount(book.flatten().cpu(), minlength=size))
    if not far:
        return {}, {}
    use = {name: _use(torch.stack(counts), captions) for name, counts in rows.items()}
    return {"distance": bootstrap(np.mean, np.array(far))}, use


def _codebooks(
    codes: Int[Tensor, "batch rows columns"], layout: str, sizes: Sequence[int]
) -> list[tuple[str, Tensor, int]]:
    """The codes of each codebook with its name and size: a grid has one, levels have one each."""
    if layout == "grid" or len(sizes) == 1:
        return [("codes", codes, sizes[0])]
    return [(f"level {i + 1}", codes[:, i], size) for i, size in enumerate(sizes[: codes.shape[1]])]


def _use(counts: Int[Tensor, "clips size"], captions: Sequence[str]) -> CodeUse:
    total = counts.sum(0)
    spread = jackknife(lambda kept: perplexity(counts[torch.from_numpy(kept)].sum(0)), groups_of(captions))
    ordered = total.sort(descending=True).values
    return CodeUse(counts.shape[1], len(counts), spread, unused(total), tuple(ordered.tolist()))
