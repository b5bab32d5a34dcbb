"""Reading and writing picture files.

Pillow reads them, by content and not by name, and no header is trusted: a file that claims more pixels than a
photograph has is refused before it is decoded.
"""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, UInt8

from cymatic.errors import Error, PictureError
from cymatic.files import IS_LFS_POINTER, is_lfs_pointer, reason, write_atomically
from cymatic.quiet import quiet
from cymatic.scalars import python_values

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 2**27  # 134 megapixels: 1.6 GB as float32 RGB
MOST_SIDE = 2**16
MOST_BYTES = 2**30  # of a file
# suffix -> pillow's name of the format
FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP", ".gif": "GIF"}
WRITTEN = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
WITH_ALPHA = (".png", ".webp")
INFO = "cymatic"  # the PNG text under which `info` lies

Pixels = Float[np.ndarray, "height width channels"]


def read(path: str | os.PathLike[str]) -> tuple[Pixels, dict[str, Any]]:
    """The pixels of a file in 0..1, RGB or RGBA, turned as its EXIF says, and the info that `write` put there.

    Raises FileNotFoundError, and PictureError as `Picture.read`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        status = os.stat(path)  # before opening, since opening a pipe would wait for ever
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
            raise PictureError(f"{path} is {what}; give a picture file")
        if status.st_size == 0:
            raise PictureError(f"{path} is empty (0 bytes); give a picture file")
        if is_lfs_pointer(path):
            raise PictureError(f"{path} {IS_LFS_POINTER}")
        if status.st_size > MOST_BYTES:
            raise PictureError(f"{path} is larger than {MOST_BYTES >> 30} GB; give a smaller picture")
        with open(path, "rb") as file:
            with quiet():  # pillow's bomb warning: the limit is our own
                image = Image.open(file, formats=sorted(set(FORMATS.values())))
            with image:
                width, height = image.size
                if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
                    raise PictureError(
                        f"{path} claims {width} x {height} pixels, more than {MOST_PIXELS // 10**6} megapixels; give a "
                        "smaller picture"
                    )
                info = _info(image)
                image.load()
                return _pixels(ImageOps.exif_transpose(image)), info
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} does not exist; give the path of a picture file") from None
    except UnidentifiedImageError:
        raise PictureError(f"{path} is not a picture that can be read; give a PNG, JPEG, WebP, BMP or GIF") from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"{path} claims more than {MOST_PIXELS // 10**6} megapixels; give a smaller picture"
        ) from None
    except Error:
        raise
    except OSError as error:
        if error.errno is not None:
            raise PictureError(f"{path} can't be read: {reason(error)}; give a picture that you may read") from None
        raise PictureError(f"{path} is damaged or cut short ({_said(error)}); give a whole file") from None
    except (ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError) as error:
        # What pillow's decoders raise for damage; a NUL in the name is a ValueError, too.
        raise PictureError(f"{str(path)!r} is damaged or no picture ({_said(error)}); give a whole file") from None


def _said(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")[:120]


def _pixels(image: Image.Image) -> Pixels:
    """Any of pillow's modes as RGB or RGBA in 0..1."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):  # 16 bits of grey
        grey = np.asarray(image, dtype=np.float64) / 65_535
        return np.repeat(grey.astype(np.float32)[..., None], 3, axis=2)
    clear = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    return np.asarray(image.convert("RGBA" if clear else "RGB"), dtype=np.float32) / np.float32(255)


def _info(image: Image.Image) -> dict[str, Any]:
    try:
        info = json.loads(image.info.get(INFO, "{}"))
    except (ValueError, TypeError, RecursionError):  # somebody else's text
        return {}
    return info if isinstance(info, dict) else {}


def write(path: str | os.PathLike[str], pixels: Pixels, info: Mapping[str, Any]) -> Path:
    """Writes pixels in 0..1 with 8 bits a channel, as the extension says. Raises PictureError as `Picture.write`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    suffix = check_suffix(path)
    try:
        text = json.dumps(python_values(dict(info)), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PictureError(f"info can't be written as JSON ({error}); give strings, numbers and lists") from None
    more: dict[str, Any] = {}
    if suffix == ".png" and info:
        more["pnginfo"] = PngInfo()
        more["pnginfo"].add_text(INFO, text)
    elif suffix == ".webp":
        more["lossless"] = True
    elif suffix in (".jpg", ".jpeg"):
        more["quality"] = 95
    buffer = io.BytesIO()
    try:
        Image.fromarray(as_bytes(pixels)).save(buffer, FORMATS[suffix], **more)
    except (OSError, ValueError) as error:
        raise PictureError(f"{path} can't be written ({_said(error)}); try a .png") from None
    return put(path, buffer.getvalue())


def check_suffix(path: str | os.PathLike[str]) -> str:
    """The extension, in lower case. Raises PictureError for one that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITTEN:
        named = f'extension "{Path(path).suffix}"' if suffix else "name without an extension"
        raise PictureError(f"{path} has an unknown {named}; use one of {', '.join(WRITTEN)}")
    return suffix


def put(path: str | os.PathLike[str], data: bytes) -> Path:
    """Writes a file whole or not at all. Raises PictureError."""
    try:
        return write_atomically(path, data)
    except Error as error:
        raise PictureError(str(error)) from error


def as_bytes(pixels: Pixels) -> UInt8[np.ndarray, "height width channels"]:
    return (pixels * 255).round().astype(np.uint8)
