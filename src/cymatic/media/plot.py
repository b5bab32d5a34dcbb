"""Pictures of sounds: waveform above mel spectrogram, and sheets of many small mels.

Drawn with matplotlib's objects, never pyplot: less to import, no windows, no global state. The same sound gives the
same bytes.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error, SoundError
from cymatic.files import write_atomically
from cymatic.quiet import quiet
from cymatic.signal.mel import MelSpec, filterbank, hz_to_mel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, BLUE = "#1d2733", "#8a94a0", "#2b5d8a"
# White paper to dark ink by way of blue: louder is darker.
SHADES = ["#ffffff", "#dcebf3", "#9cc5de", "#4f8fbe", "#27568c", "#152a56", "#0a1029"]
RANGE_DB = 80  # below the loudest point, what is drawn white
DPI = 100
COLUMNS = 1000  # about one a pixel
MELS = 96
FRAMES_PER_COLUMN = 4  # of a long sound: more is slower and looks the same
MOST_ITEMS = 400  # on one sheet: about 13,000 pixels high


@runtime_checkable
class Waveform(Protocol):
    """What can be drawn: samples `[channels, samples]` at a rate in Hz, such as a `Sound`."""

    @property
    def samples(self) -> Float[np.ndarray, "channels samples"]: ...

    @property
    def rate(self) -> int: ...


def plot(sound: Waveform, path: str | os.PathLike[str], title: str = "") -> Path:
    """Draws a sound of any length into a PNG of 1000 x 560 pixels and returns the path.

    Above, the waveform (the range of all channels in each pixel); below, the mel spectrogram of the mix, 80 dB deep,
    over seconds and Hz, under `title`. Raises SoundError where it can't write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.6), dpi=DPI, facecolor="white")
    figure.text(0.075, 0.945, _one_line(title, 90), size=13, color=INK, parse_math=False)
    facts = f"{_seconds(sound):.3g} s   {_hz(sound.rate)}Hz   {_channels(len(sound.samples))}"
    figure.text(0.975, 0.945, facts, size=9, color=FAINT, ha="right")
    _draw_waveform(figure.add_axes((0.075, 0.69, 0.9, 0.215)), sound)
    _draw_spectrogram(figure.add_axes((0.075, 0.1, 0.9, 0.56)), sound)
    return _save(figure, path)


def contact_sheet(path: str | os.PathLike[str], items: Sequence[tuple[str, Waveform] | None], columns: int = 4) -> Path:
    """Draws many sounds on one PNG: each a small mel spectrogram under its caption, `columns` in a row.

    None leaves a field empty. Each sound fills its field, so the fields share no time scale; the caption ends with the
    length in seconds. Raises SoundError for no items, more than 400, or fewer than one column.
    """
    from matplotlib.figure import Figure

    if not 1 <= len(items) <= MOST_ITEMS:
        raise SoundError(f"{path} was to show {len(items)} sounds; give between 1 and {MOST_ITEMS}")
    if columns < 1:
        raise SoundError(f"{path} was to have {columns} columns; give at least 1")
    columns = min(columns, len(items))
    rows = -(-len(items) // columns)
    cell, gap, label, edge = (2.3, 0.95), 0.14, 0.26, 0.2  # inches
    size = (
        2 * edge + columns * (cell[0] + gap) - gap,
        2 * edge + rows * (cell[1] + gap + label) - gap,
    )
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    for index, item in enumerate(items):
        if item is None:
            continue
        caption, sound = item
        left = edge + index % columns * (cell[0] + gap)
        bottom = size[1] - edge - (index // columns + 1) * (cell[1] + label) - index // columns * gap
        axes = figure.add_axes((left / size[0], bottom / size[1], cell[0] / size[0], cell[1] / size[1]))
        _show(axes, _decibels(sound, round(cell[0] * DPI)), extent=None)
        axes.set(xticks=[], yticks=[])
        _outline(axes)
        above = (bottom + cell[1] + 0.07) / size[1]
        figure.text(left / size[0], above, _one_line(caption, 30), size=8, color=INK, parse_math=False)
        right = (left + cell[0]) / size[0]
        figure.text(right, above, f"{_seconds(sound):.3g} s", size=7, color=FAINT, ha="right")
    return _save(figure, path)


def attention_sheet(
    path: str | os.PathLike[str], maps: Sequence[Float[np.ndarray, "heads n n"]], *, most: int = 64
) -> Path:
    """Draws maps of attention on one PNG: a row a block, a column a head; a place looks along its row.

    Shades are those of the share beyond an even one among the places that a place can see, so that what is looked at
    stands out at any distance. Raises Error for no maps or more than `most` of them.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    shades = LinearSegmentedColormap.from_list("ink", SHADES)
    heads = max((len(one) for one in maps), default=0)
    if not 1 <= len(maps) * heads <= most:
        raise Error(f"{len(maps) * heads} maps of attention were given; give 1 to {most} of them")
    figure = Figure(figsize=(1.6 * heads + 0.3, 1.75 * len(maps) + 0.3), dpi=DPI, facecolor="white")
    grid = figure.subplots(len(maps), heads, squeeze=False)
    for row, (block, axes) in enumerate(zip(maps, grid, strict=True)):
        even = 1 / np.arange(1, block.shape[1] + 1)
        for head, (weights, place) in enumerate(zip(block, axes, strict=False)):
            beyond = np.tril(np.clip(weights - even[:, None], 0, None))
            place.imshow(beyond**0.5, cmap=shades, vmin=0, vmax=1, interpolation="nearest")
            place.set_title(f"block {row + 1}, head {head + 1}", color=INK, fontsize=6)
        for place in axes:
            place.set_axis_off()
    return _save(figure, path)


def thumbnail(sound: Waveform, columns: int = 200) -> bytes:
    """A small mel spectrogram as a PNG of `columns` x 96 pixels (fewer for a tiny sound), 80 dB deep, without axes."""
    from PIL import Image

    levels = 1 + _decibels(sound, columns)[::-1] / RANGE_DB  # 0 to 1, low notes at the bottom
    picture = Image.fromarray(np.clip(levels * 63, 0, 63).round().astype(np.uint8))
    anchors = np.array([[int(shade[i : i + 2], 16) for i in (1, 3, 5)] for shade in SHADES])
    places = np.linspace(0, len(SHADES) - 1, 64)
    palette = np.stack([np.interp(places, np.arange(len(SHADES)), anchors[:, k]) for k in range(3)], axis=1)
    picture.putpalette(palette.round().astype(np.uint8).flatten().tolist())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _draw_waveform(axes: Axes, sound: Waveform) -> None:
    low, high = _envelope(sound.samples)
    width = _seconds(sound) / len(low)
    middles = (np.arange(len(low)) + 0.5) * width
    if len(low) == sound.samples.shape[1]:  # every sample has a place of its own
        for channel in sound.samples:
            axes.plot(
                middles,
                channel,
                color=BLUE,
                linewidth=0.9,
                marker="." if sound.samples.shape[1] < 100 else "",
                alpha=0.8,
            )
    else:
        axes.fill_between(middles, low, high, color=BLUE, linewidth=0.5)
    limit = max(float(np.abs(sound.samples).max()), 1e-3) * 1.08
    axes.set(xlim=(0, _seconds(sound)), ylim=(-limit, limit), xticks=[], ylabel="level")
    axes.axhline(0, color=FAINT, linewidth=0.4)
    axes.locator_params(axis="y", nbins=4)
    _outline(axes)


def _draw_spectrogram(axes: Axes, sound: Waveform) -> None:
    top = float(hz_to_mel(sound.rate / 2))
    _show(axes, _decibels(sound, COLUMNS), extent=(0.0, _seconds(sound), 0.0, top))
    ticks = (0, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000)
    # Those that leave room for the one below.
    heights = {hz: float(hz_to_mel(float(hz))) for hz in ticks}
    shown = [hz for hz, height in heights.items() if hz == 0 or top / 20 < height <= top]
    axes.set_yticks([heights[hz] for hz in shown], labels=[_hz(hz).replace(" ", "") for hz in shown])
    axes.set(xlabel="seconds", ylabel="Hz")
    _outline(axes)


def _envelope(samples: Float[np.ndarray, "channels samples"]) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest sample of any channel in each of up to 1000 columns."""
    starts = np.linspace(0, samples.shape[1], min(COLUMNS, samples.shape[1]), endpoint=False).astype(np.int64)
    low = np.minimum.reduceat(samples, starts, axis=1).min(axis=0)
    return low, np.maximum.reduceat(samples, starts, axis=1).max(axis=0)


def _decibels(sound: Waveform, columns: int) -> Float[np.ndarray, "mels columns"]:
    """Mel spectrogram of the mix in dB below its loudest point, with at most `columns` columns, whatever the length.

    A column of a long sound shows the loudest of a few frames in it, so that the work stays bounded.
    """
    n_fft = 2 ** max(6, math.ceil(math.log2(sound.rate / 25)))  # windows of 40 to 80 ms
    spec = MelSpec(rate=sound.rate, n_fft=n_fft, hop=1, mels=MELS, fmax=sound.rate / 2)
    columns = min(columns, sound.samples.shape[1])
    per_column = min(FRAMES_PER_COLUMN, max(1, round(2 * sound.samples.shape[1] / columns / n_fft)))
    middles = (np.arange(columns * per_column) + 0.5) * (sound.samples.shape[1] / (columns * per_column))
    window = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    filters = filterbank(spec)
    mel = np.empty((MELS, len(middles)), dtype=np.float32)
    step = max(1, 2**20 // n_fft)
    for first in range(0, len(middles), step):
        frames = _frames(sound, middles[first : first + step].astype(np.int64) - n_fft // 2, n_fft)
        mel[:, first : first + step] = filters @ np.abs(np.fft.rfft(frames * window, axis=1)).T.astype(np.float32)
    mel = mel.reshape(MELS, columns, per_column).max(axis=2)
    loudest = float(mel.max())
    if loudest < 1e-7:  # silence, and what rounding makes of it
        return np.full_like(mel, -RANGE_DB)
    return 20 * np.log10(np.maximum(mel / loudest, 10 ** (-RANGE_DB / 20)))


def _frames(sound: Waveform, starts: np.ndarray, length: int) -> Float[np.ndarray, "frames length"]:
    """The mix from each of `starts`, with silence beyond both ends; gathers only what is asked for."""
    index = starts[:, None] + np.arange(length)
    inside = (index >= 0) & (index < sound.samples.shape[1])
    index = np.clip(index, 0, sound.samples.shape[1] - 1)
    mixed = np.zeros(index.shape, dtype=np.float32)
    for channel in sound.samples:
        mixed += channel[index]
    return mixed * inside / len(sound.samples)


def _show(
    axes: Axes, image: Float[np.ndarray, "mels columns"], extent: tuple[float, float, float, float] | None
) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("ink", SHADES)
    axes.imshow(image, cmap=shades, vmin=-RANGE_DB, vmax=0, aspect="auto", origin="lower", extent=extent)


def _outline(axes: Axes) -> None:
    axes.tick_params(colors=INK, labelsize=8, length=3, width=0.6)
    axes.xaxis.label.set(color=INK, size=9)
    axes.yaxis.label.set(color=INK, size=9)
    axes.yaxis.set_label_coords(-0.052, 0.5)
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.6)


def _one_line(text: str, most: int) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _hz(hz: int) -> str:
    return f"{hz / 1000:g} k" if hz >= 1000 else f"{hz} "


def _seconds(sound: Waveform) -> float:
    return sound.samples.shape[1] / sound.rate


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _save(figure: Figure, path: str | os.PathLike[str]) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with quiet():  # the font lacks some script: boxes are drawn
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    try:
        return write_atomically(path, buffer.getvalue())
    except Error as error:
        raise SoundError(str(error)) from error
