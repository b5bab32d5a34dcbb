"""What each code of a picture codec looks like, each where it lies on its map, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.errors import Error, ModelError
from cymatic.evaluation.code_use import perplexity
from cymatic.evaluation.topography import shuffled, topographic_error
from cymatic.media.picture import Picture
from cymatic.pipelines.codebook_map import AT_ONCE, MOST_CODES, places_of

LEAST_SIDE = 8  # pixels of a cell on the picture, for palettes have cells of one


@dataclass(frozen=True, eq=False)
class PictureMap:
    """A codec's codes, numbered from 0, and `places` says which lies where.

    places: rows and columns of the map, -1 for none; cells: what a grid full of a code decodes to, its middle cell;
    counts: how often the places of real pictures chose each code; error, control: topographic, of the codes where they
    lie and of the same codes shuffled; both are None for codes that are not compared by their vectors. topology: `none`
    for a codec that was trained without a map.
    """

    topology: str
    places: Int[np.ndarray, "rows columns"]
    cells: Float[np.ndarray, "size height width 3"]
    counts: Int[np.ndarray, " size"]
    error: float | None
    control: float | None

    @property
    def used(self) -> float:
        """The share of the codes that were chosen at all."""
        return float((self.counts > 0).mean())

    @property
    def perplexity(self) -> float:
        """How many codes, used evenly, would be as surprising."""
        return perplexity(torch.from_numpy(self.counts))

    def picture(self) -> Picture:
        """The cells side by side where their codes lie; white where no code does."""
        size, high, wide, _ = self.cells.shape
        times = -(-LEAST_SIDE // min(high, wide))
        cells = np.concatenate([self.cells, np.ones((1, high, wide, 3), np.float32)])  # the last, -1, is none
        drawn = cells.repeat(times, 1).repeat(times, 2)[self.places]
        return Picture(drawn.swapaxes(1, 2).reshape(len(self.places) * high * times, -1, 3), {"codes": size})


@torch.inference_mode()
def picture_map(codec: Any, pictures: Sequence[Float[Tensor, "3 size size"]]) -> PictureMap:
    """The map of a codec that was trained on pictures, measured on `pictures` as the codec reads them.

    Raises ModelError for a codec without codes, Error for no pictures, or more codes than a picture can show.
    """
    if not codec.sizes:
        raise ModelError("this codec has no codes but continuous latents, so there is no map of them; give another")
    size, quantizer = codec.sizes[0], codec.quantizer
    if size > MOST_CODES:
        raise Error(f"this codec has {size} codes, and a picture shows {MOST_CODES} at most; give another codec")
    if not pictures:
        raise Error("there are no pictures to measure the map on; give some")
    device = codec.steps_trained.device
    batches = [torch.stack(list(pictures[i : i + AT_ONCE])).to(device) for i in range(0, len(pictures), AT_ONCE)]
    chosen = torch.cat([codec.encode(batch).codes.flatten() for batch in batches])
    counts = torch.bincount(chosen, minlength=size).cpu().numpy()
    around = quantizer.config.map if quantizer.compares_vectors else None
    topology = "none" if around is None else around.topology
    places = places_of(size, topology)
    error = control = None
    if quantizer.compares_vectors:
        shape = places.shape if around is None else around.shape(size)
        rows, book = quantizer.compared(torch.cat([codec.latent(batch) for batch in batches]), 0)
        error = topographic_error(rows, book, shape)
        control = topographic_error(rows, shuffled(book, torch.Generator().manual_seed(0)), shape)
    return PictureMap(topology, places, _cells(codec, size), counts, error, control)


def _cells(codec: Any, size: int) -> Float[np.ndarray, "size height width 3"]:
    """Of each code the middle cell of a grid that is full of it. Raises ModelError for NaN or infinity."""
    columns = codec.columns(codec.config.gives.size)
    high, wide = codec.config.gives.size // codec.rows, codec.cell
    top, left = codec.rows // 2 * high, columns // 2 * wide
    made = []
    for some in torch.arange(size, device=codec.steps_trained.device).split(AT_ONCE):
        whole = codec.decode_codes(some[:, None, None].expand(-1, codec.rows, columns))
        made.append(whole[:, :, top : top + high, left : left + wide].movedim(1, -1).cpu())
    cells = torch.cat(made).float().numpy()
    if not np.isfinite(cells).all():
        raise ModelError("this codec made NaN or infinity instead of a picture; mend the model")
    return cells
