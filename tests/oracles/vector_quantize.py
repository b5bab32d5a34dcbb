"""`ResidualVQ` of vector-quantize-pytorch (lucidrains) -> a residual quantizer of ours.

Its codebooks are `layers.N._codebook.embed`, its running counts and sums `cluster_size` and `embed_avg`. A shared
codebook is stored once for each level, and becomes one a level. Projections are around all levels together there, and
around each level in ours, so they stay outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cymatic.errors import ModelError
from cymatic.nn.linear import Linear
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig

CODEBOOK = re.compile(r"layers\.(\d+)\._codebook\.embed")
# Whether a codebook has begun, and what is read beside it.
REST = re.compile(r"layers\.\d+\._codebook\.(initted|cluster_size|embed_avg)")
PROJECTIONS = tuple(f"project_{way}.{name}" for way in ("in", "out") for name in ("weight", "bias"))


class ImportedResidual(nn.Module):
    """`quantizer` between the projections of its file, where it has any."""

    def __init__(self, quantizer: ResidualQuantizer, in_proj: nn.Module, out_proj: nn.Module) -> None:
        super().__init__()
        self.quantizer, self.in_proj, self.out_proj = quantizer, in_proj, out_proj

    @torch.no_grad()
    def encode(
        self, z: Float[Tensor, "batch dim places"], levels: int | None = None
    ) -> Int[Tensor, "batch levels places"]:
        """The codes of the first `levels` or of all."""
        return self.quantizer.encode(self.in_proj(z.mT).mT, levels)

    def lookup(self, codes: Int[Tensor, "batch levels places"]) -> Float[Tensor, "batch dim places"]:
        """What the codes stand for."""
        return self.out_proj(self.quantizer.lookup(codes).mT).mT


def read_residual_vq(
    tensors: Mapping[str, Tensor], *, metric: Literal["euclidean", "cosine"] = "euclidean", decay: float = 0.8
) -> ImportedResidual:
    """The quantizer in a state_dict, in eval mode. Its file doesn't say how it compares codes: `metric` does.

    decay: of its running means, a batch. Raises ModelError for tensors that are missing, unexpected or don't fit.
    """
    books = {int(match[1]): name for name in tensors if (match := CODEBOOK.fullmatch(name))}
    if sorted(books) != list(range(len(books))) or not books:
        raise ModelError("these are no weights of a ResidualVQ; give those with layers.0._codebook.embed")
    projections = [name for name in PROJECTIONS if name in tensors]
    known = {*books.values(), *projections}
    unexpected = [name for name in tensors if name not in known and not REST.fullmatch(name)]
    if unexpected or len(projections) not in (0, len(PROJECTIONS)):
        raise ModelError(
            f"these weights hold {unexpected[0] if unexpected else projections[0]} and are no plain ResidualVQ; "
            "give one of one head, without further options"
        )
    found = {}
    for ours, theirs in (("codebooks", "embed"), ("usage", "cluster_size"), ("sums", "embed_avg")):
        parts = [tensors.get(f"layers.{level}._codebook.{theirs}") for level in range(len(books))]
        have = [part[0].float() for part in parts if part is not None and len(part) == 1]
        if len(have) != len(parts) or len({part.shape for part in have}) > 1:
            raise ModelError(f"the levels of this ResidualVQ don't have one {theirs} each, all of one shape")
        found[ours] = torch.stack(have)
    levels, size, dim = found["codebooks"].shape
    quantizer = ResidualQuantizer(
        ResidualQuantizerConfig(
            levels=levels, size=size, dim=dim, metric=metric, learned="ema", decay=decay, beta=1.0, restart=False
        )
    )
    quantizer.load_state_dict({**found, "batches": torch.ones((), dtype=torch.int64)})
    if not projections:
        return ImportedResidual(quantizer, nn.Identity(), nn.Identity()).eval()
    around = {}
    for way in ("in", "out"):
        weight, bias = tensors[f"project_{way}.weight"], tensors[f"project_{way}.bias"]
        around[way] = Linear(weight.shape[1], weight.shape[0])
        around[way].load_state_dict({"weight": weight, "bias": bias})
    return ImportedResidual(quantizer, around["in"], around["out"]).eval()
