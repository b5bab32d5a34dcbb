"""A codebook as a page that needs nothing else: cells in the colours of their sounds, which they play."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from html import escape

import numpy as np
from jaxtyping import Float, UInt8

from cymatic.apps.report_page import STYLE
from cymatic.media.audio_files import encoded
from cymatic.pipelines.codebook_map import CodebookMap
from cymatic.signal.colours import to_srgb

SIDE = 640  # pixels of the picture's longer side, about
LOUDEST = 0.9  # of the loudest sound on the page

# Nothing but what is in the page itself, and the browser sees to it.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; media-src data:"

MORE_STYLE = """
#map { display: grid; gap: 1px; margin: .7rem 0; max-width: 46rem; }
#map > * { aspect-ratio: 1; min-width: 0; }
#map button { border: 0; padding: 0; border-radius: 12%; cursor: pointer; }
#map button:focus-visible, #map .now { outline: 3px solid var(--ink); outline-offset: 1px; z-index: 1; }
#map .idle { background-image: radial-gradient(circle, #0009 18%, #fff9 20% 26%, transparent 28%); }
#said { min-height: 1.5em; font-variant-numeric: tabular-nums; }
"""

SCRIPT = """
const map = document.getElementById("map"), said = document.getElementById("said");
const hover = document.getElementById("hover"), places = [...map.children];
const columns = Number(map.dataset.columns);
let now = places[0], playing = null;
function play(cell) {
  if (playing) playing.pause();
  now.classList.remove("now");
  now.tabIndex = -1;
  now = cell;
  cell.classList.add("now");
  cell.tabIndex = 0;
  said.textContent = cell.getAttribute("aria-label");
  playing = new Audio("data:audio/mpeg;base64," + SOUNDS[Number(cell.value)]);
  const started = playing.play();
  if (started) started.catch(() => {});
}
map.addEventListener("click", (event) => { if (event.target.value) play(event.target); });
map.addEventListener("pointerover", (event) => {
  if (hover.checked && event.pointerType === "mouse" && event.target.value) play(event.target);
});
map.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
  const here = places.indexOf(event.target);
  if (!step || here < 0) return;
  event.preventDefault();
  if (Math.abs(step) === 1 && Math.floor(here / columns) !== Math.floor((here + step) / columns)) return;
  const next = places[here + step];
  if (next && next.value) { next.focus(); play(next); }
});
"""

TOPOLOGIES = {
    "grid": "a grid on which neighbours were taught alike",
    "line": "a line on which neighbours were taught alike, row by row and back",
    "none": "the order of their codes, for this codec was trained without a map",
}


def page(found: CodebookMap, name: str) -> str:
    """The page of one level of the codec called `name`."""
    title = f"Level {found.level} of {escape(name)}"
    above = ""
    if found.before:
        above = (
            f"<p>Codes of level {found.level} are additions: each is heard on top of "
            f"{', '.join(map(str, found.before))}, the codes before it in the most typical frame.</p>"
        )
    sounds = f"<script>const SOUNDS = {json.dumps(_sounds(found))};{SCRIPT}</script>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}{MORE_STYLE}</style></head><body><h1>{title}</h1>"
        f"{''.join(f'<p>{escape(line)}</p>' for line in summary(found))}{above}"
        '<p class="faint">Click a cell, or go from cell to cell with the arrow keys, to hear its code held. The louder '
        "the lighter; low sounds are red, high ones violet; tones are vivid and noise is grey; a ring marks codes that "
        'no clip used.</p><p><label><input type="checkbox" id="hover" checked> Play under the mouse, too, once a cell '
        f'was clicked</label></p><p id="said" role="status">{found.size} codes</p>{_cells(found)}{sounds}'
        "</body></html>\n"
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


def _cells(found: CodebookMap) -> str:
    colours, heard = _colours(found), found.timbre()
    columns = found.places.shape[1]
    parts = []
    for place, code in enumerate(found.places.flatten().tolist()):
        if code < 0:
            parts.append("<span></span>")
            continue
        red, green, blue = colours[code]
        label = (
            f"code {code}, row {place // columns + 1}, column {place % columns + 1}: {heard.level[code]:.0f} dB, "
            f"around {heard.centre[code]:.0f} Hz, flatness {heard.flatness[code]:.0f} dB, used {found.counts[code]} "
            "times"
        )
        idle = "" if found.counts[code] else ' class="idle"'
        parts.append(
            f'<button value="{code}" tabindex="{-1 if place else 0}" aria-label="{label}"{idle} '
            f'style="background-color:#{red:02x}{green:02x}{blue:02x}"></button>'
        )
    return (
        f'<div id="map" role="group" aria-label="The codes of level {found.level}" data-columns="{columns}" '
        f'style="grid-template-columns:repeat({columns},1fr)">{"".join(parts)}</div>'
    )


def _sounds(found: CodebookMap) -> list[str]:
    """Each code's sound as MP3: what all browsers play, and each for itself, for its encoders move a sound in time."""
    return [b64encode(encoded(sound, found.rate, None, "code.mp3")).decode() for sound in _levelled(found)]


def _levelled(found: CodebookMap) -> Float[np.ndarray, "size 1 samples"]:
    """By one gain for all, so that what is louder stays louder."""
    return found.sounds[:, None] * np.float32(LOUDEST / max(1e-4, float(np.abs(found.sounds).max())))
