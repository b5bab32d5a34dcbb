"""A codebook as a page that needs nothing else: cells in the colours of their sounds, which they play."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from jaxtyping import Float, UInt8

from cymatic.apps.html import rendered
from cymatic.media.audio_files import encoded
from cymatic.pipelines.codebook_map import CodebookMap
from cymatic.signal.colours import to_srgb

SIDE = 640  # pixels of the picture's longer side, about
LOUDEST = 0.9  # of the loudest sound on the page

TOPOLOGIES = {
    "grid": "a grid on which neighbours were taught alike",
    "line": "a line on which neighbours were taught alike, row by row and back",
    "none": "the order of their codes, for this codec was trained without a map",
}


def page(found: CodebookMap, name: str) -> str:
    """The page of one level of the codec called `name`."""
    return rendered(
        "map.html.j2",
        title=f"Level {found.level} of {name}",
        level=found.level,
        before=found.before,
        size=found.size,
        columns=found.places.shape[1],
        summary=summary(found),
        cells=_cells(found),
        sounds=_sounds(found),
    )


def summary(found: CodebookMap) -> list[str]:
    """The numbers, in a few lines."""
    near, far = found.steps()
    lines = [
        f"{found.size} codes of level {found.level} lie in {TOPOLOGIES[found.topology]}.",
        f"{found.clips} clips use {100 * found.used:.1f} % of them, with a perplexity of {found.perplexity:.1f}.",
        f"Neighbours' colours differ by {near:.3f}, those of any two codes by {far:.3f} (OKLab).",
    ]
    if found.error is not None and found.control is not None:
        lines.insert(
            1,
            f"Topographic error {100 * found.error:.1f} %; with the same codes shuffled it would be "
            f"{100 * found.control:.1f} %.",
        )
    return lines


def picture(found: CodebookMap) -> bytes:
    """The cells alone, as a PNG."""
    from PIL import Image

    colours = _colours(found)
    cells = np.where(found.places[..., None] < 0, 255, colours[found.places]).astype(np.uint8)
    side = max(1, SIDE // max(found.places.shape))
    buffer = io.BytesIO()
    Image.fromarray(cells.repeat(side, 0).repeat(side, 1)).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _colours(found: CodebookMap) -> UInt8[np.ndarray, "size 3"]:
    return (to_srgb(found.timbre().colours()) * 255).round().astype(np.uint8)


def _cells(found: CodebookMap) -> list[dict[str, object] | None]:
    """What the page shows of each place, row by row; None where no code lies."""
    colours, timbre = _colours(found), found.timbre()
    columns = found.places.shape[1]
    cells: list[dict[str, object] | None] = []
    for place, code in enumerate(found.places.flatten().tolist()):
        if code < 0:
            cells.append(None)
            continue
        red, green, blue = colours[code]
        label = (
            f"code {code}, row {place // columns + 1}, column {place % columns + 1}: {timbre.level[code]:.0f} dB, "
            f"around {timbre.centre[code]:.0f} Hz, flatness {timbre.flatness[code]:.0f} dB, used {found.counts[code]} "
            "times"
        )
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        tab = -1 if place else 0  # one stop for the tab key; arrows go on from it
        cells.append({"code": code, "tab": tab, "label": label, "idle": not found.counts[code], "colour": colour})
    return cells


def _sounds(found: CodebookMap) -> list[str]:
    """Each code's sound as MP3: what all browsers play, and each for itself, for its encoders move a sound in time."""
    return [b64encode(encoded(sound, found.rate, None, "code.mp3")).decode() for sound in _levelled(found)]


def _levelled(found: CodebookMap) -> Float[np.ndarray, "size 1 samples"]:
    """By one gain for all, so that what is louder stays louder."""
    return found.sounds[:, None] * np.float32(LOUDEST / max(1e-4, float(np.abs(found.sounds).max())))
