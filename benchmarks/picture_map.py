"""A self-organising map of pictures: their patches, or their colours, so that neighbours look alike.

    python benchmarks/picture_map.py PICTURES -o map.png --of colours

PICTURES is a folder of pictures, such as that of the emoji pack. The map is learned by the same quantizer as a codec's
codes are, one level of it, and so is the codebook without a map that it is measured against; both are measured on
pictures that neither has seen. What is transparent is left out of colours, and white in patches.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import typer
from jaxtyping import Float
from PIL import Image

from cymatic.errors import Error
from cymatic.evaluation.topography import topographic_error
from cymatic.files import check_output, write_atomically
from cymatic.quantizers.maps import MapConfig
from cymatic.quantizers.residual import ResidualQuantizer, ResidualQuantizerConfig
from cymatic.signal.colours import from_srgb, to_srgb

MOST_VECTORS = 100_000
SHOWN = 8  # pixels a side of a colour on the map
PLAINEST = 0.02  # of a patch: a standard deviation below which there is nothing to see


def read_pictures(paths: Sequence[Path]) -> list[Float[np.ndarray, "height width 4"]]:
    """Red, green, blue and opacity, 0 to 1."""
    return [np.asarray(Image.open(path).convert("RGBA"), dtype=np.float32) / 255 for path in paths]


def colours(pictures: Sequence[Float[np.ndarray, "height width 4"]]) -> Float[np.ndarray, "n 3"]:
    """OKLab of every opaque pixel."""
    pixels = np.concatenate([picture[picture[..., 3] == 1][:, :3] for picture in pictures])
    return from_srgb(pixels).astype(np.float32)


def patches(pictures: Sequence[Float[np.ndarray, "height width 4"]], side: int) -> Float[np.ndarray, "n dim"]:
    """OKLab of squares side by side, row by row, without the plain ones."""
    found = []
    for picture in pictures:
        laid = from_srgb(picture[..., :3] * picture[..., 3:] + 1 - picture[..., 3:])
        rows, columns = (size // side for size in laid.shape[:2])
        cut = laid[: rows * side, : columns * side].reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        found.append(cut.reshape(rows * columns, -1, 3))
    every = np.concatenate(found)
    return every[every.std(1).max(-1) > PLAINEST].reshape(-1, side * side * 3).astype(np.float32)


def learn(
    vectors: Float[np.ndarray, "n dim"], size: int, around: MapConfig | None, *, batches: int, batch: int, seed: int = 0
) -> ResidualQuantizer:
    """One level of `size` codes, learned from batches drawn at random."""
    config = ResidualQuantizerConfig(levels=1, size=size, dim=vectors.shape[1], decay=0.9, map=around)
    quantizer, chance = ResidualQuantizer(config).train(), np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _ in range(batches):
            some = torch.from_numpy(vectors[chance.integers(0, len(vectors), batch)])
            quantizer(some.T[None], generator)
    return quantizer.eval()


def drawn(codes: Float[np.ndarray, "size dim"], shape: tuple[int, int]) -> bytes:
    """The codes as a PNG, each where it lies."""
    side = round((codes.shape[1] / 3) ** 0.5)
    cells = to_srgb(codes.reshape(*shape, side, side, 3).astype(np.float64)).swapaxes(1, 2)
    picture = (cells.reshape(shape[0] * side, shape[1] * side, 3) * 255).round().astype(np.uint8)
    times = max(1, SHOWN // side) if side < SHOWN else 2
    buffer = io.BytesIO()
    Image.fromarray(picture.repeat(times, 0).repeat(times, 1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main(
    pictures: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="PNG to write.")],
    of: Annotated[Literal["patches", "colours"], typer.Option(help="What a cell is.")] = "patches",
    size: Annotated[int, typer.Option(help="Cells.")] = 1024,
    side: Annotated[int, typer.Option(help="Pixels a side of a patch.")] = 8,
    batches: Annotated[int, typer.Option(help="How long to learn.")] = 400,
    batch: Annotated[int, typer.Option(help="Vectors of a batch.")] = 2048,
) -> None:
    """Learn a map, draw it, and measure it."""
    check_output(output, (".png",))
    paths = sorted(path for path in pictures.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if len(paths) < 2:
        raise Error(f"{pictures} holds {len(paths)} pictures; give a folder of two at least")
    seen = read_pictures([path for i, path in enumerate(paths) if i % 10])
    unseen = read_pictures(paths[::10])
    known, fresh = (colours(some) if of == "colours" else patches(some, side) for some in (seen, unseen))
    chance = np.random.default_rng(0)
    known, fresh = (one[chance.permutation(len(one))[:MOST_VECTORS]] for one in (known, fresh))
    around = MapConfig(batches=max(1, batches * 3 // 4))
    print(f"{len(known)} {of} of {len(seen)} pictures to learn from, {len(fresh)} of {len(unseen)} others")
    tried = torch.from_numpy(fresh)
    for name, config in (("with a map", around), ("without one", None)):
        quantizer = learn(known, size, config, batches=batches, batch=batch)
        book = quantizer.codebooks[0]
        error = topographic_error(tried, book, around.shape(size))
        lost = float((quantizer(tried.T[None]).z - tried.T[None]).square().mean() / tried.var(0).mean())
        print(f"{name}: topographic error {100 * error:.1f} %, {100 * lost:.2f} % of the variance is lost")
        if config is not None:
            write_atomically(output, drawn(book.numpy(), around.shape(size)))
    print(output)


if __name__ == "__main__":
    typer.run(main)
