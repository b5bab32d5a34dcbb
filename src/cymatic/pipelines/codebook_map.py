"""What each code of a codec's level sounds like, and whether codes that are neighbours sound alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from cymatic.codecs.waveform import WaveformCodec
from cymatic.errors import Error, ModelError
from cymatic.evaluation.code_use import perplexity
from cymatic.evaluation.topography import shuffled, topographic_error
from cymatic.pipelines.asked import check_positive
from cymatic.quantizers.maps import grid
from cymatic.signal.colours import difference
from cymatic.signal.timbre import Timbre, timbre

HELD, LONGEST = 0.25, 10.0  # seconds that a code is held, and can be
FADE = 0.01  # seconds of it at the end
MOST_CODES = 4096  # of a level: as many sounds as a page can hold
AT_ONCE = 64  # codes that are decoded together


@dataclass(frozen=True, eq=False)
class CodebookMap:
    """One level of a codec. Codes are numbered from 0, and `places` says which code lies where.

    places: rows and columns of the picture, -1 for none; sounds: of each code, at `rate`; before: the codes of the
    levels before it that sound with it; counts: how often real sounds chose each code; error: topographic, of the codes
    where they lie, and control: with the same codes shuffled; both are None for codes that are compared otherwise than
    by their vectors. topology: `none` for a codec that was trained without a map.
    """

    level: int
    topology: str
    places: Int[np.ndarray, "rows columns"]
    sounds: Float[np.ndarray, "size samples"]
    rate: int
    before: tuple[int, ...]
    counts: Int[np.ndarray, " size"]
    clips: int
    error: float | None
    control: float | None

    @property
    def size(self) -> int:
        """How many codes there are."""
        return len(self.sounds)

    @property
    def used(self) -> float:
        """The share of the codes that were chosen at all."""
        return float((self.counts > 0).mean())

    @property
    def perplexity(self) -> float:
        """How many codes, used evenly, would be as surprising."""
        return perplexity(torch.from_numpy(self.counts))

    def timbre(self) -> Timbre:
        """What the codes sound like."""
        return timbre(self.sounds, self.rate)

    def steps(self) -> tuple[float, float]:
        """How different the colours of two neighbours look, and of any two codes, means in OKLab."""
        colours = self.timbre().colours()
        near = []
        for a, b in ((self.places[:, 1:], self.places[:, :-1]), (self.places[1:], self.places[:-1])):
            both = (a >= 0) & (b >= 0)
            near.append(difference(colours[a[both]], colours[b[both]]))
        far = np.random.default_rng(0).permutation(self.size)
        return float(np.concatenate(near).mean()), float(difference(colours, colours[far]).mean())


def codebook_map(
    codec: WaveformCodec, sounds: Sequence[Float[np.ndarray, " samples"]], level: int = 1, *, seconds: float = HELD,
    on_sound: Callable[[int, int], None] = lambda done, total: None,
) -> CodebookMap:  # fmt: skip
    """The map of level number `level` (from 1), measured on `sounds` of one channel at the codec's rate.

    A code sounds as the codec decodes it, held for `seconds` from silence on. A code of a deeper level is an addition,
    so it is heard on top of what is typical before it: the codes of the frame of `sounds` that is nearest to their
    mean. Topographic error and use are those of the frames of `sounds`. on_sound: told how many of them are encoded.

    Raises Error for a level that the codec has not, too many codes, or no sounds; ModelError for a codec without codes.
    """
    check_level(codec, level)
    check_positive("the length of a code's sound", seconds, LONGEST)
    quantizer: Any = codec.quantizer
    rate, size = codec.config.rate, codec.sizes[level - 1]
    if not sounds:
        raise Error("there are no sounds to measure the map on; give some")
    latents: list[Tensor] = []
    for sound in sounds:
        on_sound(len(latents), len(sounds))
        latents.append(_latent(codec, sound))
    z = torch.cat(latents, -1)
    own = level - codec.side_codes  # the quantizer's levels come after the side codes
    z, side = codec.split_side(z)
    codes = quantizer.encode(z, own)[0]
    typical = int((z - z.mean(-1, keepdim=True)).square().sum(1).argmin())
    before = codes[: own - 1, typical]
    if side is not None and codec.pitch is not None:
        before = torch.cat([codec.pitch.encode(side[..., typical : typical + 1])[0, :, 0], before])
    around = quantizer.config.map if quantizer.compares_vectors else None
    topology = "none" if around is None else around.topology
    places = places_of(size, topology)
    error = control = None
    if quantizer.compares_vectors:
        shape = places.shape if around is None else around.shape(size)
        rows, book = quantizer.compared(z, own - 1)
        error = topographic_error(rows, book, shape)
        control = topographic_error(rows, shuffled(book, torch.Generator().manual_seed(0)), shape)
    return CodebookMap(
        level,
        topology,
        places,
        _held(codec, before, size, max(1, round(seconds * rate))),
        rate,
        tuple(before.tolist()),
        torch.bincount(codes[-1], minlength=size).cpu().numpy(),
        len(sounds),
        error,
        control,
    )


def check_level(codec: WaveformCodec, level: int) -> None:
    """Raises as `codebook_map`, before any sound is read."""
    if not codec.levels:
        raise ModelError("this codec has no codes but continuous latents, so there is no map of them; give another")
    if not codec.min_levels <= level <= codec.levels:
        raise Error(f"level {level} was asked for; this codec has maps of levels {codec.min_levels} to {codec.levels}")
    if (size := codec.sizes[level - 1]) > MOST_CODES:
        raise Error(f"level {level} has {size} codes, and a page holds the sounds of {MOST_CODES}; give another codec")


@torch.no_grad()
def _latent(codec: WaveformCodec, sound: Float[np.ndarray, " samples"]) -> Float[Tensor, "1 dim frames"]:
    frames = codec.columns(len(sound))
    device = codec.steps_trained.device
    wave = torch.from_numpy(sound.astype(np.float32)).to(device).expand(1, codec.config.channels, -1)
    return codec.latent(pad(wave, (0, max(0, frames * codec.hop - len(sound))))[..., : frames * codec.hop])


def _held(
    codec: WaveformCodec, before: Int[Tensor, " levels"], size: int, samples: int
) -> Float[np.ndarray, "size samples"]:
    """Each code after `before`, held. Raises ModelError where the codec makes NaN or infinity of one."""
    made = []
    for some in torch.arange(size, device=before.device).split(AT_ONCE):
        codes = torch.cat([before.expand(len(some), -1), some[:, None]], 1)
        held = codes[..., None].expand(-1, -1, codec.columns(samples))
        lengths = torch.full((len(some),), samples, device=before.device)
        made.append(codec.decode_codes(held, lengths).mean(1).cpu())
    sounds = torch.cat(made).numpy()
    if not np.isfinite(sounds).all():
        raise ModelError("this codec made NaN or infinity instead of sound; mend the model")
    fade = min(samples, round(FADE * codec.config.rate))
    sounds[:, samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return sounds


def places_of(size: int, topology: str) -> Int[np.ndarray, "rows columns"]:
    """A grid as it is; others row by row in a square, a line turning back at the end of each row."""
    columns = grid(size)[1] if topology == "grid" else math.isqrt(size - 1) + 1
    places = np.full((-(-size // columns), columns), -1)
    places.flat[:size] = np.arange(size)
    if topology == "line":
        places[1::2] = places[1::2, ::-1].copy()
    return places
