"""`Picture`: pixels and where they came from; `PictureSpec`: what parts read of them; PICTURE, the medium."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, SupportsIndex

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike
from pydantic import Field

from cymatic.errors import ModelError, PictureError
from cymatic.media import image_files as files
from cymatic.media.medium import Facts, Medium
from cymatic.scalars import python_values, whole
from cymatic.signal.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

CLEAR = 0.04  # of alpha: so little is nothing, and so little less than all is all
THIN = 0.02  # of the full range: a picture whose pixels differ by less shows nothing
OUTLINE = 16  # rows and columns of an outline
MOST_ITEMS = 400  # on one sheet
Filter = Literal["nearest", "lanczos", "bilinear", "bicubic", "box", "hamming"]
FILTERS: dict[Filter, int] = {  # by pillow's numbers
    "nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5,
}  # fmt: skip
LONGEST = 8  # times as long as it is wide is what is resized of a picture of which the middle square is used


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Picture:
    """A picture in memory: float32 pixels `[height, width, channels]` in 0..1, RGB or RGBA (straight alpha).

    `info` holds what is known about it (prompt, seed, model, hash), as JSON values; `write` puts it into PNG files.
    """

    pixels: Float[np.ndarray, "height width channels"]
    info: dict[str, Any]

    def __init__(self, pixels: ArrayLike, info: Mapping[str, Any] | None = None) -> None:
        """Takes `[height, width, 3 or 4]` or `[height, width]` (grey) in 0..1; what lies beyond is cut off.

        Raises PictureError for other shapes, no pixels, whole numbers that were not scaled, and NaN or infinity.
        """
        object.__setattr__(self, "pixels", _checked(pixels))
        object.__setattr__(self, "info", python_values(dict(info or {})))

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Picture:
        """Reads PNG, JPEG, WebP, BMP or GIF (its first frame), turned as its EXIF says, with what alpha it has.

        Palettes, grey, 16 bits, CMYK and alpha are read as they look. Raises FileNotFoundError, and PictureError for a
        folder, an empty or damaged file, one that is no picture, and one that claims more than 134 megapixels.
        """
        return cls(*files.read(path))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Writes PNG, JPEG, WebP or BMP as the extension says, 8 bits a channel, and returns the path.

        JPEG and BMP know no alpha: there the picture lies on white. The file appears whole or not at all. Raises
        PictureError for an unknown extension, info that is not JSON, and whatever the file system refuses.
        """
        shown = self if files.check_suffix(path) in files.WITH_ALPHA else self.on()
        return files.write(path, shown.pixels, self.info)

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    def __repr__(self) -> str:
        return f"Picture({self.width} x {self.height}, {'RGBA' if self.pixels.shape[2] == 4 else 'RGB'})"

    def on(self, background: Sequence[float] = (1.0, 1.0, 1.0)) -> Picture:
        """The picture without alpha, on a colour."""
        if self.pixels.shape[2] == 3:
            return self
        alpha = self.pixels[..., 3:]
        colour = np.asarray(background, dtype=np.float32)
        return Picture(self.pixels[..., :3] * alpha + colour * (1 - alpha), self.info)

    def resized(self, height: SupportsIndex, width: SupportsIndex) -> Picture:
        """The whole picture in another size (Lanczos); transparent pixels do not bleed into their neighbours.

        Raises PictureError for a height or width that is no whole number.
        """
        height, width = whole(height, "the height", PictureError), whole(width, "the width", PictureError)
        if (height, width) == (self.height, self.width):
            return self
        pixels = self.pixels
        if pixels.shape[2] == 3:
            return Picture(_resampled(pixels, height, width), self.info)
        weighed = _resampled(np.concatenate([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], 2), height, width)
        alpha = weighed[..., 3:]
        colour = np.divide(weighed[..., :3], alpha, out=np.zeros_like(weighed[..., :3]), where=alpha > 1e-4)
        return Picture(np.concatenate([colour, alpha], 2), self.info)

    def square(self, size: SupportsIndex) -> Picture:
        """The middle of the picture, `size` x `size`: as large a square as there is, in that size."""
        side = min(self.height, self.width)
        top, left = (self.height - side) // 2, (self.width - side) // 2
        return Picture(self.pixels[top : top + side, left : left + side], self.info).resized(size, size)

    def plot(self, path: str | os.PathLike[str], title: str | None = None) -> Path:
        """Draws the picture under its title (the prompt unless given) into a PNG."""
        return sheet(path, [(str(self.info.get("prompt", "")) if title is None else title, self)], 1, side=512)


class PictureSpec(Spec):
    """Pictures `[3, size, size]` in 0..1: the middle square on `background` (red, green, blue).

    With `alpha` they are `[4, size, size]`: the same and what of it is the picture's own, so that a made one has alpha.
    """

    medium: ClassVar[str] = "picture"
    cached: ClassVar[bool] = True

    size: int = Field(gt=0, le=4096)
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    alpha: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        return 4 if self.alpha else 3, self.size, self.size

    def seconds(self, length: int) -> float | None:
        return None

    def pixels(self, picture: Picture) -> Float[np.ndarray, "size size channels"]:
        """What is read of a picture, rounded to float16, so that it is the same from a cache as without."""
        seen = picture.on(self.background).square(self.size).pixels
        if self.alpha:
            own = picture.pixels[..., 3:] if picture.pixels.shape[2] == 4 else np.ones_like(picture.pixels[..., :1])
            own = Picture(np.repeat(own, 3, axis=2)).square(self.size).pixels[..., :1]
            seen = np.concatenate([seen, own], axis=2)
        return seen.astype(np.float16).astype(np.float32)

    def picture(
        self, pixels: Float[np.ndarray, "size size channels"], info: Mapping[str, Any] | None = None
    ) -> Picture:
        """The picture that `pixels` were read of: what of them is the background's is taken out where they say so."""
        if not self.alpha:
            return Picture(pixels, info)
        own = pixels[..., 3:].clip(0, 1)
        own = np.where(own < CLEAR, 0, np.where(own > 1 - CLEAR, 1, own))
        behind = (1 - own) * np.asarray(self.background, dtype=np.float32)
        colour = np.divide(pixels[..., :3] - behind, own, out=np.zeros_like(pixels[..., :3]), where=own > 0)
        return Picture(np.concatenate([colour, own], axis=2), info)


class EightBitSpec(PictureSpec):
    """The same resized by pillow in eight bits, as other projects' encoders were trained on pictures.

    edge: pixels that the shorter side is resized to before the middle is cut out; None: the whole picture is made
    square. filter: pillow's.
    """

    cached: ClassVar[bool] = False

    alpha: Literal[False] = False
    edge: int | None = Field(default=None, gt=0, le=4096)
    filter: Filter = "bicubic"

    def pixels(self, picture: Picture) -> Float[np.ndarray, "size size 3"]:
        """What is read of a picture, in 256 steps."""
        from PIL import Image

        whole = picture.on(self.background).pixels
        if self.edge is not None:
            most = LONGEST * min(whole.shape[:2])
            top, left = (max(0, (side - most) // 2) for side in whole.shape[:2])
            whole = whole[top : top + most, left : left + most]
        image = Image.fromarray(files.as_bytes(whole))
        size, (width, height) = self.size, image.size
        wanted = (size, size)
        if self.edge is not None:
            long = int(self.edge * max(width, height) / min(width, height))
            wanted = (self.edge, long) if width <= height else (long, self.edge)
        image = image.resize(wanted, Image.Resampling(FILTERS[self.filter]))
        left, top = ((side - size) // 2 for side in image.size)
        image = image.crop((left, top, left + size, top + size))
        return np.asarray(image, dtype=np.float32) / np.float32(255)


def _checked(pixels: ArrayLike) -> Float[np.ndarray, "height width channels"]:
    given = np.asarray(pixels)
    if given.ndim == 2:
        given = np.repeat(given[..., None], 3, axis=2)
    if given.ndim != 3 or given.shape[2] not in (3, 4):
        turned = "; transpose them" if given.ndim == 3 and given.shape[0] in (3, 4) else ""
        raise PictureError(f"pixels have the shape {list(given.shape)}; give [height, width, 3 or 4]{turned}")
    if not given.size:
        raise PictureError(f"pixels have the shape {list(given.shape)}, so there is no picture; give at least one")
    if given.dtype.kind in "iu" and given.max() > 1:
        raise PictureError(f"pixels are {given.dtype} up to {given.max()}; give floats in 0..1 (divide by the largest)")
    if given.dtype.kind not in "fiub":
        raise PictureError(f"pixels are {given.dtype}; give floats in 0..1")
    array = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(array).all():
        raise PictureError("pixels hold NaN or infinity; give finite numbers in 0..1")
    return array if array.min() >= 0 and array.max() <= 1 else array.clip(0, 1)


def _resampled(pixels: np.ndarray, height: int, width: int) -> Float[np.ndarray, "height width channels"]:
    """Each channel resampled in floats, since 8 bits would round twice."""
    from PIL import Image

    images = [Image.fromarray(np.ascontiguousarray(pixels[..., k])) for k in range(pixels.shape[2])]
    planes = [np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)) for image in images]
    return np.stack(planes, axis=2).clip(0, 1)


def examine(path: Path, keep: float) -> tuple[Facts, Picture]:
    """The picture, too, since it was read for its facts."""
    picture = Picture.read(path)
    channels = picture.pixels.shape[2]
    # What differs on no background differs neither on white nor on black, and a white one on a clear background does.
    span = max(float(np.ptp(picture.on((grey,) * 3).pixels, axis=(0, 1)).max()) for grey in (0.0, 1.0)[: channels - 2])
    details = {"width": picture.width, "height": picture.height, "channels": channels}
    problems = () if span >= THIN or span == 0 else ("shows next to nothing (its pixels hardly differ)",)
    return Facts(None, span == 0, problems, details), picture


def prepare(picture: Picture, spec: PictureSpec) -> Float[Tensor, "channels size size"]:
    """What a part reads."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(spec.pixels(picture).transpose(2, 0, 1)))


def restore(made: Float[Tensor, "channels height width"], spec: PictureSpec, info: Mapping[str, Any]) -> Picture:
    """A made picture with `info`; what lies beyond 0..1 is cut off. Raises ModelError for NaN or infinity."""
    if not made.isfinite().all():
        raise ModelError("the model made NaN or infinity instead of a picture; lower the guidance or mend the model")
    return spec.picture(made.detach().float().cpu().numpy().transpose(1, 2, 0), info)


def paste(made: Picture, other: Picture | None, where: Bool[np.ndarray, "height width"], spec: PictureSpec) -> Picture:
    """`made`, but where `where` is True the pixels that `spec` reads of `other`, exactly; of None, the background."""
    if other is None:
        other = Picture(np.zeros((spec.size, spec.size, 4)))
    if made.pixels.shape[2] == 3:
        other = other.on(spec.background)
    pixels = other.square(spec.size).pixels
    if pixels.shape[2] < made.pixels.shape[2]:
        pixels = np.concatenate([pixels, np.ones_like(pixels[..., :1])], axis=2)
    return Picture(np.where(where[..., None], pixels, made.pixels), made.info)


def outline(picture: Picture) -> Float[np.ndarray, " dim"]:
    """The picture on white in 16 x 16 pixels, flattened: a distance is the root mean square difference of two."""
    small = picture.on().square(OUTLINE).pixels
    return small.flatten() / np.float32(small.size) ** 0.5


def sheet(
    path: str | os.PathLike[str], items: Sequence[tuple[str, Picture] | None], columns: int = 4, *, side: int = 128
) -> Path:
    """Draws many pictures on one PNG, each whole in a square under its caption; None leaves a place empty.

    Raises PictureError for no items, more than 400, or fewer than one column.
    """
    from PIL import Image, ImageDraw

    if not 1 <= len(items) <= MOST_ITEMS or columns < 1:
        raise PictureError(
            f"{path} was to show {len(items)} pictures in {columns} columns; give 1 to {MOST_ITEMS} in one or more"
        )
    columns = min(columns, len(items))
    gap, label = 12, 16
    rows = -(-len(items) // columns)
    size = (gap + columns * (side + gap), gap + rows * (side + label + gap))
    page = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(page)
    for index, item in enumerate(items):
        if item is None:
            continue
        caption, picture = item
        left, top = gap + index % columns * (side + gap), gap + index // columns * (side + label + gap)
        scale = side / max(picture.height, picture.width)
        small = picture.on().resized(max(1, round(picture.height * scale)), max(1, round(picture.width * scale)))
        text = " ".join(caption.encode("latin-1", "replace").decode("latin-1").split())
        draw.text((left, top), text[: max(4, side // 7)], fill="#1d2733")
        page.paste(
            Image.fromarray(files.as_bytes(small.pixels)),
            (left + (side - small.width) // 2, top + label + (side - small.height) // 2),
        )
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    return files.put(path, buffer.getvalue())


PICTURE = Medium(
    name="picture",
    noun="picture",
    nouns="pictures",
    example="red-house_03.png",
    empty="is blank",
    suffixes=frozenset(files.FORMATS),
    read=Picture.read,
    write=Picture.write,
    examine=examine,
    prepare=prepare,
    restore=restore,
    outline=outline,
    plot=Picture.plot,
    sheet=sheet,
    paste=paste,
    preparation=(2,),
    details={"width": ("widths", ""), "height": ("heights", "")},
    command=("picture", ".png"),
    holds=Picture,
    recipe="text-to-picture",
    written=files.WRITTEN,
)
