"""Items -> log mels in memory -> batches whose order is a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.data.folder import Item
from cymatic.encoders.text import token_ids
from cymatic.errors import Error, PromptError
from cymatic.seeds import mixed
from cymatic.signal.mel import MelSpec, log_mel
from cymatic.signal.sound import Sound

LOUDNESS = -23.0  # LUFS, EBU R 128: every clip is brought there, so that level says nothing about a caption


@dataclass(frozen=True)
class Clip:
    """A caption and its log mel `[mels, frames]`."""

    caption: str
    mel: Float[Tensor, "mels frames"]


@dataclass(frozen=True)
class Batch:
    """Clips side by side: `mel [batch, mels, frames]`, zero beyond each item's length in `frames`."""

    captions: list[str]
    mel: Float[Tensor, "batch mels frames"]
    frames: Int[Tensor, " batch"]


def prepare(sound: Sound, spec: MelSpec) -> Sound:
    """A recording as models meet it: one channel at the mel's rate, at a loudness of -23 LUFS."""
    return sound.mono().resample(spec.rate).at_loudness(LOUDNESS)


def mel_of(sound: Sound, spec: MelSpec) -> Float[Tensor, "mels frames"]:
    """The log mel of a prepared sound."""
    return log_mel(torch.from_numpy(sound.samples)[None], spec)[0]


def load_clips(
    items: Sequence[Item], spec: MelSpec, *, longest: float, on_clip: Callable[[], None] = lambda: None
) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Reads, levels and analyses `items`; gives the clips in their order and what was skipped, with the reason.

    Clips longer than `longest` seconds are skipped: cutting one would teach that its caption ends in the middle. So
    are clips whose caption no prompt could be.
    """

    def load(item: Item) -> Clip | str:
        try:
            token_ids(item.caption)
            sound = Sound.read(item.audio)
            if sound.seconds > longest:
                return f"is {sound.seconds:.1f} s long, more than the recipe's {longest:g} s"
            prepared = prepare(sound, spec)
            if not prepared.samples.any():
                return "is silent"
            return Clip(item.caption, mel_of(prepared, spec))
        except PromptError as error:
            return f"has a caption that can't be a prompt: {error}"
        except (Error, OSError) as error:
            return str(error).removeprefix(f"{item.audio} ")
        finally:
            on_clip()

    with ThreadPoolExecutor() as pool:
        loaded = list(pool.map(load, items))
    clips = [clip for clip in loaded if isinstance(clip, Clip)]
    skipped = [(str(item.audio), why) for item, why in zip(items, loaded, strict=True) if isinstance(why, str)]
    return clips, skipped


def usual_rate(items: Sequence[Item], *, looked_at: int = 20) -> int:
    """The middle rate in Hz of the first sounds that can be read; 24 kHz where none can."""
    rates = []
    for item in items:
        try:
            rates.append(Sound.read(item.audio).rate)
        except (Error, OSError):
            continue
        if len(rates) == looked_at:
            break
    return sorted(rates)[len(rates) // 2] if rates else 24_000


def collate(clips: Sequence[Clip]) -> Batch:
    frames = torch.tensor([clip.mel.shape[1] for clip in clips])
    mel = torch.zeros(len(clips), clips[0].mel.shape[0], int(frames.max()))
    for row, clip in zip(mel, clips, strict=True):
        row[:, : clip.mel.shape[1]] = clip.mel
    return Batch([clip.caption for clip in clips], mel, frames)


class Batches:
    """Batches of clips of similar length, in an order that depends on the seed and the step only.

    Any step's batch can be asked for at once, so a resumed run needs no data position beyond its step.
    """

    def __init__(self, clips: Sequence[Clip], batch: int, seed: int) -> None:
        self.clips = clips
        self.batch = min(batch, len(clips))
        self.seed = seed
        self._epoch: tuple[int, list[list[int]]] = (-1, [])

    @property
    def per_epoch(self) -> int:
        return len(self.clips) // self.batch

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._plan(epoch))
        return collate([self.clips[i] for i in self._epoch[1][position]])

    def _plan(self, epoch: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(mixed(self.seed, epoch))
        order = torch.randperm(len(self.clips), generator=generator).tolist()[: self.per_epoch * self.batch]
        # Sorting within eight batches' worth saves half of the padding and leaves the mix of lengths nearly random.
        batches: list[list[int]] = []
        for start in range(0, len(order), 8 * self.batch):
            pool = sorted(order[start : start + 8 * self.batch], key=lambda i: self.clips[i].mel.shape[1])
            batches += [pool[i : i + self.batch] for i in range(0, len(pool), self.batch)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def in_order(clips: Sequence[Clip], batch: int) -> Iterable[Batch]:
    """All clips once, shortest first: for measuring."""
    ordered = sorted(clips, key=lambda clip: clip.mel.shape[1])
    return (collate(ordered[i : i + batch]) for i in range(0, len(ordered), batch))
