"""What a small codec is measured by, on sounds that it never heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

from cymatic.codecs.waveform import WaveformCodec
from cymatic.data.augment_waves import WaveAugmentation
from cymatic.data.folder import Item, read_folder
from cymatic.evaluation.code_use import perplexity
from cymatic.evaluation.frechet import frechet_distance
from cymatic.evaluation.pitch import note_pitch
from cymatic.evaluation.reconstruction import has_stoi, stoi
from cymatic.evaluation.topography import topographic_error
from cymatic.media.sound import Sound
from cymatic.quantizers.maps import grid
from cymatic.quantizers.residual import ResidualQuantizer
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.mel import MelSpec, log_mel

RATE = 8_000
SECONDS = 1.5  # of a clip at most
EACH = 24  # clips of a pack
PACKS = ("digits", "words", "instruments", "effects")
SPEECH = ("digits", "words")
CENTS = 50
BATCH = 16
COUNTED = 4096  # codes of a level at most, of which it can be told from so few frames whether all are used
FRAMES = MelSpec(rate=RATE, n_fft=256, hop=128, mels=32, fmax=RATE / 2)
SHAKEN = WaveAugmentation(gain=6, polarity=0.5, filter=6, noise=0.5, overtones=0.5, mix=0.5)
FREE = ("CC-BY-SA", "public domain")  # of `words`


@dataclass(frozen=True)
class Clip:
    """A held-out sound `[samples]` in -1..1, and the note that it plays, if it is one."""

    pack: str
    wave: Tensor
    note: float | None = None


def chosen(data: Path, pack: str, split: str, most: int) -> list[Item]:
    """At most so many of a pack, evenly from all over it."""
    items = [
        item for item in read_folder(data / pack).of(split) if pack != "words" or item.fields.get("licence") in FREE
    ]
    places = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    return [items[place] for place in places]


def held_out(data: Path) -> list[Clip]:
    """As many clips of each pack; of notes those that are surely heard as what they are before they are coded."""
    clips = []
    for pack in PACKS:
        for item in chosen(data, pack, "valid", EACH):
            sound = Sound.read(item.path()).mono().resample(RATE)
            sound = sound.cut(0, min(SECONDS, sound.seconds))
            note, played = item.fields.get("pitch"), None
            if note is not None:
                played = note_pitch(sound)
                played = None if played is None or abs(played - float(note)) > CENTS / 100 else played
            clips.append(Clip(pack, torch.from_numpy(sound.samples[0].copy()), played))
    return clips


@torch.no_grad()
def coded(codec: WaveformCodec, waves: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """The waves as they come out at all levels, at half of them (none where there are no codes), and their codes."""
    full, half, codes = [], [], []
    for at in range(0, len(waves), BATCH):
        some = waves[at : at + BATCH]
        lengths = torch.tensor([len(wave) for wave in some])
        padded = nn.utils.rnn.pad_sequence(list(some), batch_first=True)[:, None]
        latent = codec.encode(padded, lengths)
        made = codec.decode(latent)
        full += [one[0, :n] for one, n in zip(made, lengths, strict=True)]
        if latent.codes is not None:
            fewer = codec.decode_codes(latent.codes[:, : max(1, codec.levels // 2)], latent.lengths)
            half += [one[0, :n] for one, n in zip(fewer, lengths, strict=True)]
            codes += [one[:, : codec.columns(n)] for one, n in zip(latent.codes, lengths.tolist(), strict=True)]
    return full, half, codes


def scores(codec: WaveformCodec, clips: Sequence[Clip], *, judged: bool) -> dict[str, float | None]:
    """All numbers of a row. `judged`: also how well a fresh classifier tells what was decoded."""
    real = [clip.wave for clip in clips]
    full, half, codes = coded(codec, real)
    shaken = shaken_pieces(real)
    far = coded(codec, list(shaken))[0]
    speech = [i for i, clip in enumerate(clips) if clip.pack in SPEECH]
    notes = [i for i, clip in enumerate(clips) if clip.note is not None]
    clear = [stoi(real[i].numpy(), full[i].numpy(), RATE) for i in speech] if has_stoi() else []
    return {
        "mel": distance(real, full),
        "half": distance(real, half) if half else None,
        "stoi": mean(found) if (found := [value for value in clear if value is not None]) else None,
        "notes": mean(in_tune(full[i], clips[i].note) for i in notes) if notes else None,
        "use": least_use(codec, codes),
        "frechet": frechet_distance(standard(full, real), standard(real, real)),
        "snr": mean(snr(a, b) for a, b in zip(real, full, strict=True)),
        "shaken": distance(list(shaken), far),
        "topography": topography(codec, real),
        "told": told(real, full) if judged else None,
    }


def distance(real: Sequence[Tensor], made: Sequence[Tensor]) -> float:
    return mean(
        multi_scale_mel_distance(b[None, None], a[None, None], RATE).item() for a, b in zip(real, made, strict=True)
    )


def in_tune(made: Tensor, note: float | None) -> float:
    heard = note_pitch(Sound(made.numpy()[None], RATE))
    return float(heard is not None and note is not None and abs(heard - note) <= CENTS / 100)


def snr(real: Tensor, made: Tensor) -> float:
    """Decibels of the part of `made` that is along `real` over what is not, at least -30."""
    along = (made @ real) / (real @ real).clamp_min(1e-9) * real
    ratio = along.square().sum() / (made - along).square().sum().clamp_min(1e-9)
    return max(-30.0, 10 * float(ratio.clamp_min(1e-9).log10()))


def least_use(codec: WaveformCodec, codes: Sequence[Tensor]) -> float | None:
    """The perplexity of the level that is used least, as a share of its codes."""
    if not codes or max(codec.sizes) > COUNTED:
        return None
    together = torch.cat(list(codes), 1)
    return min(perplexity(torch.bincount(row, minlength=n)) / n for row, n in zip(together, codec.sizes, strict=True))


def standard(waves: Sequence[Tensor], real: Sequence[Tensor]) -> np.ndarray:
    """A row for each frame: its log mels and their change to the next one, each with the spread of the real ones."""
    return (rows(waves) - rows(real).mean(0)) / rows(real).std(0)


def rows(waves: Sequence[Tensor]) -> np.ndarray:
    mels = [log_mel(wave[None, None], FRAMES)[0].clamp_min(-8.0).T for wave in waves]
    return torch.cat([torch.cat([mel[1:], mel.diff(dim=0)], 1) for mel in mels]).double().numpy()


def shaken_pieces(waves: Sequence[Tensor]) -> Tensor:
    """The first second of each, changed in all ways that there are, the same for every codec."""
    pieces = torch.stack([nn.functional.pad(wave[:RATE], (0, max(0, RATE - len(wave)))) for wave in waves])
    return SHAKEN(pieces[:, None], RATE, torch.Generator().manual_seed(0))[:, 0]


@torch.no_grad()
def topography(codec: WaveformCodec, waves: Sequence[Tensor]) -> float | None:
    """Of the first level, on its map, or on a grid where it has none."""
    quantizer = codec.quantizer
    if not isinstance(quantizer, ResidualQuantizer):
        return None
    frames = [codec.latent(wave[None, None, : len(wave) // codec.hop * codec.hop])[0].T for wave in waves]
    seen, book = quantizer.compared(torch.cat(frames).T[None], 0)
    size = codec.sizes[0]
    return topographic_error(seen, book, quantizer.config.map.shape(size) if quantizer.config.map else grid(size))


def told(real: Sequence[Tensor], made: Sequence[Tensor], *, steps: int = 60, seeds: int = 3) -> float:
    """The share of held-out pieces that small classifiers, trained on the other clips, sort into real and decoded.

    Every second clip is trained on, then the others are. 0.5 is a coin. As few steps as here leave room below 1.
    """
    right = []
    for seed in range(seeds):
        for fold in (0, 1):
            torch.manual_seed(seed)
            net = Classifier()
            optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
            for step in range(steps):
                x, y = pieces(real[fold::2], made[fold::2], mixed_seed=1000 * seed + step)
                loss = nn.functional.binary_cross_entropy_with_logits(net(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            with torch.no_grad():
                x, y = pieces(real[1 - fold :: 2], made[1 - fold :: 2], mixed_seed=-1 - seed, count=256)
                right.append(((net(x) > 0) == (y > 0.5)).float().mean().item())
    return mean(right)


class Classifier(nn.Module):
    """Log spectra `[count, 65, frames]` -> a logit each, by three convolutions over time."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(65, 24, 3), nn.GELU(), nn.Conv1d(24, 24, 3, stride=2), nn.GELU(), nn.Conv1d(24, 24, 3), nn.ReLU()
        )
        self.last = nn.Linear(24, 1)

    def forward(self, spectra: Tensor) -> Tensor:
        return self.last(self.net(spectra).mean(-1))[:, 0]


def pieces(
    real: Sequence[Tensor], made: Sequence[Tensor], *, mixed_seed: int, count: int = 32
) -> tuple[Tensor, Tensor]:
    """Log spectra `[count, bins, frames]` of quarters of a second, half of them real, which are 1."""
    generator = torch.Generator().manual_seed(mixed_seed % 2**31)
    cut = []
    for i in range(count):
        waves = real if i % 2 else made
        wave = waves[int(torch.randint(len(waves), (), generator=generator))]
        wave = nn.functional.pad(wave, (0, max(0, RATE // 4 - len(wave))))
        at = int(torch.randint(len(wave) - RATE // 4 + 1, (), generator=generator))
        cut.append(wave[at : at + RATE // 4])
    spectra = torch.stft(torch.stack(cut), 128, 64, window=torch.hann_window(128), return_complex=True)
    return spectra.abs().add(1e-3).log(), (torch.arange(count) % 2).float()
