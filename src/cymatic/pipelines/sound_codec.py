"""A sound -> codes -> a sound, in memory, from file to file, or piece by piece, whichever way with the same result."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cymatic.codecs.stream import Stream
from cymatic.errors import Error, ModelError
from cymatic.files import IS_LFS_POINTER, check_output, is_lfs_pointer, reason, writing
from cymatic.hub.wave_codecs import WaveCodec
from cymatic.media import audio_files as files
from cymatic.media.audio import AUDIO, LOUDNESS
from cymatic.media.audio_streams import Blocks, SoundWriter, fitted, heard
from cymatic.media.bits import widths
from cymatic.media.cym import CymHeader, CymReader, CymWriter
from cymatic.media.medium import Medium
from cymatic.media.pipes import Sink
from cymatic.media.sound import Sound
from cymatic.media.wave_spec import WaveSpec
from cymatic.scalars import Number, number
from cymatic.signal.cancellation import Cancellation
from cymatic.version import __version__

BLOCK = 2**18  # samples of a sound in memory that go through at once
ROUNDING = 1e-6  # of a rate that was typed in


@dataclass(frozen=True, eq=False)
class Encoded:
    """The codes of a sound, int64 `[levels, frames]`, what they are, and how many samples the sound has.

    samples: None where nobody knows, as when the end of a file was lost.
    """

    codes: Int[np.ndarray, "levels frames"]
    header: CymHeader
    samples: int | None

    def write(self, path: str | os.PathLike[str], *, entropy: bool = False) -> Path:
        """Writes a `.cym` file, whole or not at all. Raises Error where it can't be."""
        with writing(path) as file:
            writer = CymWriter(file, self.header, entropy=entropy)
            writer.add(self.codes)
            writer.close(self.samples)
        return Path(path)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Encoded:
        """Reads a `.cym` file, up to where it is cut short if it is. Raises Error as `CymReader` does."""
        with opened(path) as file:
            reader = CymReader(file, str(path))
            blocks = [np.zeros((len(reader.header.sizes), 0), np.int64), *reader]
        return cls(np.concatenate(blocks, axis=1), reader.header, reader.samples)


@dataclass(frozen=True)
class Written:
    """What became of a file: its sound in seconds, its bytes, and its thousand bits a second without headers."""

    seconds: float
    size: int
    kbps: float


class SoundCodec:
    """A codec as a user meets it: any sound goes in, at the rate and channels that the codec works at comes out.

    Built from a codec, or from a folder by `cymatic.load`. kbps: what it spends if it is not told, else all it can.
    `rates` are the thousands of bits a second that one, two or more levels of codes take, `offers` those of them that
    make a sound, `kbps` is what it spends if it is not told.
    """

    def __init__(
        self,
        codec: WaveCodec,
        *,
        kbps: Number | None = None,
        name: str = "unnamed",
        sha256: str = "",
        stamp: dict[str, Any] | None = None,
    ) -> None:
        """stamp: what the info of what it makes says of it (by default its name and hash)."""
        self.codec, self.name, self.sha256 = codec.eval(), name, sha256 or "0" * 64
        self.stamp = {"model": name, "sha256": self.sha256} if stamp is None else stamp
        if not codec.levels:
            raise ModelError(f"{name} gives no codes but latents for a prior; load its codec part to use these")
        self.rates = tuple(bits * self.rate / codec.hop / 1000 for bits in accumulate(widths(codec.sizes)))
        self.kbps = self.rates[-1] if kbps is None else self.rates[self.levels(kbps) - 1]

    @property
    def rate(self) -> int:
        """Samples a second of what it works on."""
        return self.codec.config.rate

    @property
    def rows(self) -> int:
        """How many levels of codes it spends if it is not told."""
        return self.levels(None)

    @property
    def captions(self) -> tuple[str, ...]:
        """None: a codec knows no captions."""
        return ()

    @property
    def spec(self) -> WaveSpec:
        """What the codec reads."""
        return self.codec.config.reads

    @property
    def medium(self) -> Medium[Sound]:
        """What people hear of it."""
        return AUDIO

    def target(self, sound: Sound) -> Float[Tensor, "channels samples"]:
        """The waveform of a sound, at the codec's rate and channels, for evaluation."""
        return AUDIO.prepare(sound.at_loudness(LOUDNESS), self.spec).float()

    def reconstructions(self, sound: Sound) -> dict[str, Sound]:
        """The sound through the codec, at the rate that it spends by default."""
        return {"codec": self.decode(self.encode(sound.at_loudness(LOUDNESS))).mono()}

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.codec.parameters()).device

    @property
    def channels(self) -> int:
        """Channels of what it works on: others are mixed to one, and one is spread to all."""
        return self.codec.config.channels

    @property
    def offers(self) -> tuple[float, ...]:
        """Thousands of bits a second that it can spend."""
        return self.rates[self.codec.min_levels - 1 :]

    def levels(self, kbps: Number | None, held: int | None = None) -> int:
        """How many levels of codes fit into `kbps`, of `held` levels that there are.

        Raises Error where not even the fewest fit.
        """
        rates = self.rates[:held]
        if kbps is None:
            return len(rates) if held is not None else self.levels(self.kbps)
        kbps = number(kbps, "the rate in kbps")
        if not math.isfinite(kbps):
            raise Error(f"{kbps:g} kbps were asked for; give a number, such as {rates[-1]:g}")
        fitting = sum(rate <= kbps * (1 + ROUNDING) for rate in rates)
        if fitting < self.codec.min_levels:
            raise Error(
                f"{kbps:g} kbps were asked for, and {self.name} offers {_listed(self.offers[: len(rates)])}; give at "
                f"least {self.offers[0]:g}"
            )
        return fitting

    def header(self, kbps: Number | None = None) -> CymHeader:
        """What a file of its codes says. Raises Error for a rate that is not offered."""
        sizes = self.codec.sizes[: self.levels(kbps)]
        return CymHeader(self.name, self.sha256, self.rate, self.channels, self.codec.hop, sizes)

    # --- in memory

    def encode(self, sound: Sound, kbps: Number | None = None) -> Encoded:
        """The codes of a sound of any rate and channels.

        Raises Error for a rate that is not offered, ModelError for a codec that was never trained.
        """
        header = self.header(kbps)
        coding = _Coding(self, len(header.sizes))
        codes = list(coding.of(_blocks(sound), heard(_blocks(sound), self.channels)))
        return Encoded(np.concatenate(codes, axis=1), header, coding.samples)

    def decode(self, encoded: Encoded, kbps: Number | None = None) -> Sound:
        """The sound again; with a lower `kbps` than it was encoded at, from the first levels only.

        Raises Error for codes that hold no sound and rates that they don't offer, ModelError for another model's codes.
        """
        self.check(encoded.header)
        sound = _Sounding(self, self.levels(kbps, len(encoded.header.sizes)))
        waves = [*sound.of([encoded.codes]), sound.end(encoded.samples)]
        return Sound(np.concatenate(waves, axis=1), self.rate, self.info(sound.levels))

    def info(self, levels: int) -> dict[str, Any]:
        """What a sound made from so many levels says about itself."""
        kbps = round(self.rates[levels - 1], 3)
        return {**self.stamp, "kbps": kbps, "cymatic": __version__}

    def check(self, header: CymHeader) -> None:
        """Raises ModelError where codes are not this model's."""
        if header.sha256 != self.sha256:
            raise ModelError(
                f"these codes are of the model {header.model or 'unnamed'} ({header.sha256[:8]}), and this is "
                f"{self.name} ({self.sha256[:8]}); give the model that encoded them"
            )
        own = self.codec.sizes[: len(header.sizes)]
        if (header.rate, header.channels, header.hop, header.sizes) != (self.rate, self.channels, self.codec.hop, own):
            raise ModelError(f"these codes claim to be of {self.name}, and do not fit it; encode the sound again")

    # --- from file to file, in constant memory

    def encode_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        kbps: Number | None = None,
        *,
        entropy: bool = False,
    ) -> Written:
        """A sound file -> a `.cym` file, which appears whole or not at all; hours of it need no more memory.

        Raises Error and FileNotFoundError, each in one sentence.
        """
        check_output(target, (".cym",))
        with writing(target) as file:
            return self.encode_stream(source, file, kbps, entropy=entropy)

    def encode_stream(
        self,
        source: str | os.PathLike[str],
        sink: Sink,
        kbps: Number | None = None,
        *,
        entropy: bool = False,
        timed: Callable[[Blocks], Blocks] = lambda blocks: blocks,
    ) -> Written:
        """A sound file -> the bytes of a `.cym` file. One that is to be mixed is read once more, before all else.
        timed: sees the pieces pass, to show how far it is."""
        mix = heard(files.blocks(source, lambda what: None), self.channels)
        blocks = timed(files.blocks(source))
        return self.encode_blocks(blocks, sink, kbps, entropy=entropy, mix=mix, name=str(source))

    def encode_blocks(
        self,
        blocks: Blocks,
        sink: Sink,
        kbps: Number | None = None,
        *,
        entropy: bool = False,
        mix: Cancellation | None = None,
        name: str = "the sound",
    ) -> Written:
        """A sound in pieces, each with its rate, -> the bytes of a `.cym` file, as soon as they are known. mix, name:
        see `media.audio_streams.fitted`."""
        writer = CymWriter(sink, self.header(kbps), entropy=entropy)
        coding = _Coding(self, len(writer.header.sizes))
        for codes in coding.of(blocks, mix, name):
            writer.add(codes)
        writer.close(coding.samples)
        return Written(coding.samples / self.rate, writer.written, writer.header.kbps)

    def decode_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        kbps: Number | None = None,
        *,
        longest: Number | None = None,
    ) -> Written:
        """A `.cym` file -> a sound file as the extension says, which appears whole or not at all.

        Samples beyond -1..1 are clipped. longest: seconds that are accepted, as
        `CymReader` has it. Raises Error and FileNotFoundError, each in one sentence.
        """
        check_output(target, files.FORMATS)
        with opened(source) as stream:
            reader = CymReader(stream, str(source), longest=None if longest is None else number(longest, "the longest"))
            with writing(target) as file:
                return self.decode_blocks(reader, file, Path(target).suffix, kbps)

    def decode_blocks(self, reader: CymReader, file: Any, extension: str, kbps: Number | None = None) -> Written:
        """What a reader gives -> a sound file of the extension's format, into an open file."""
        self.check(reader.header)
        sound = _Sounding(self, self.levels(kbps, len(reader.header.sizes)))
        written = 0
        with SoundWriter(file, extension, self.rate, self.channels, self.info(sound.levels)) as writer:
            for wave in sound.file(reader):
                writer.add(wave)
                written += wave.shape[1]
        return Written(written / self.rate, reader.read, self.rates[sound.levels - 1])

    def decoded(self, reader: CymReader, kbps: Number | None = None) -> Iterator[Float[np.ndarray, "channels _"]]:
        """What a reader gives, as pieces of sound, as soon as they are known. Raises as `decode`."""
        self.check(reader.header)
        return _Sounding(self, self.levels(kbps, len(reader.header.sizes))).file(reader)


class _Coding:
    """One sound on its way to codes."""

    def __init__(self, model: SoundCodec, levels: int) -> None:
        self.model, self.levels = model, levels
        self.samples = 0  # at the codec's rate

    def of(
        self, blocks: Blocks, mix: Cancellation | None, name: str = "the sound"
    ) -> Iterator[Int[np.ndarray, "levels _"]]:
        codec = self.model.codec
        waves = fitted(blocks, self.model.rate, self.model.channels, mix, name=name)
        if not codec.streamable:
            whole = np.concatenate(list(waves), axis=1)
            self.samples = whole.shape[1]
            codes = codec.encode(torch.from_numpy(whole)[None].to(self.model.device), levels=self.levels).codes
            assert codes is not None
            yield codes[0].cpu().numpy()
            return
        stream = codec.streaming(self.levels)
        for wave in waves:
            self.samples += wave.shape[1]
            yield stream.encode(torch.from_numpy(wave)).cpu().numpy()
        yield stream.finish().cpu().numpy()


class _Sounding:
    """One sound on its way from codes.

    The last frame holds more than the sound, and which frame is the last is known only after it: so the last `hop`
    samples wait until there are more.
    """

    def __init__(self, model: SoundCodec, levels: int) -> None:
        self.model, self.levels = model, levels
        self.given = self.frames = 0
        self._waiting = np.zeros((model.channels, 0), np.float32)
        self._stream: Stream | None = model.codec.streaming() if model.codec.streamable else None

    def file(self, reader: CymReader) -> Iterator[Float[np.ndarray, "channels _"]]:
        """All of a file, its end included; as much as there is where it is cut short."""
        yield from self.of(reader)
        yield self.end(reader.samples)

    def of(self, blocks: Iterable[Int[np.ndarray, "levels _"]]) -> Iterator[Float[np.ndarray, "channels _"]]:
        for wave in self._waves(blocks):
            if not np.isfinite(wave).all():
                raise ModelError(f"{self.model.name} made NaN or infinity instead of sound; mend the model")
            wave = np.concatenate([self._waiting, wave], axis=1)
            known = max(0, wave.shape[1] - self.model.codec.hop)
            self._waiting = wave[:, known:]
            self.given += known
            if known:
                yield wave[:, :known]

    def end(self, samples: int | None) -> Float[np.ndarray, "channels _"]:
        """The rest of a sound of `samples` samples, or all there is. Raises Error where that can't be its length."""
        rest = self._waiting.shape[1] if samples is None else samples - self.given
        if self.given + rest < 1:
            raise Error(
                f"{self.frames} frames of codes hold no sound (0 samples); encode a sound of at least one sample"
            )
        if not 0 <= rest <= self._waiting.shape[1]:
            raise Error(
                f"{self.frames} frames of codes claim to be a sound of {samples} samples, which they can't be; encode "
                "the sound again"
            )
        return self._waiting[:, :rest]

    def _waves(self, blocks: Iterable[Int[np.ndarray, "levels _"]]) -> Iterator[Float[np.ndarray, "channels _"]]:
        codec = self.model.codec
        if self._stream is None:
            blocks = [np.concatenate(list(blocks), axis=1)]
        for block in blocks:
            codes = torch.from_numpy(np.ascontiguousarray(block[: self.levels]))
            self.frames += codes.shape[1]
            if self._stream is not None:
                yield self._stream.decode(codes).cpu().numpy()
            elif codes.shape[1]:
                yield codec.decode_codes(codes[None].to(self.model.device))[0].cpu().numpy()


def made_by_a_codec(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one of codes, or a sound that was made of codes."""
    try:
        if Path(path).suffix.lower() == ".cym":
            with open(path, "rb") as file:
                return CymReader(file, str(path)).header is not None
        return {"model", "kbps", "cymatic"} <= files.info_of(path).keys()
    except (Error, OSError):
        return False


def opened(path: str | os.PathLike[str]) -> Any:
    """An open file to read codes from. Raises FileNotFoundError, and Error for what can't be read."""
    try:
        if os.path.isdir(path):
            raise Error(f"{path} is a folder; give a .cym file")
        if os.path.isfile(path) and is_lfs_pointer(path):  # a pipe can be read once
            raise Error(f"{path} {IS_LFS_POINTER}")
        return open(path, "rb")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist; give the path of a .cym file") from None
    except OSError as error:
        raise Error(f"{path} can't be read: {reason(error)}; give a file that you may read") from None
    except ValueError as error:
        if isinstance(error, Error):
            raise
        raise Error(f"{str(path)!r} can't be read: {error}; give the path of a .cym file") from None


def _blocks(sound: Sound) -> Iterator[tuple[Float[np.ndarray, "channels _"], int]]:
    step = max(1, BLOCK // sound.channels)
    for start in range(0, len(sound), step):
        yield sound.samples[:, start : start + step], sound.rate


def _listed(offers: tuple[float, ...]) -> str:
    return ", ".join(f"{offer:g}" for offer in offers)
