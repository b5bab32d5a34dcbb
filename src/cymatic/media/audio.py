"""AUDIO: sounds and their files, what parts read of them, and how a made sound is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from cymatic.errors import Error, ModelError
from cymatic.media.audio_facts import beginning, listen, read_windows, windows
from cymatic.media.audio_files import FORMATS
from cymatic.media.medium import Medium, Windows
from cymatic.media.plot import contact_sheet
from cymatic.media.sound import Sound
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.mel import MelSpec, log_mel, to_log

if TYPE_CHECKING:
    from torch import Tensor

# Which files of a folder are sounds, for every command.
_BY_LIBSNDFILE = """
wav wave bwf bw64 rf64 w64 flac ogg oga opus mp3 mpga mp2 mpa aif aiff aifc au snd caf voc sph nist iff svx 8svx 16svx
sf ircam paf pvf avr sds xi wve"""
_BY_FFMPEG = """
m4a m4b m4r aac adts wma mp4 m4v mov 3gp 3g2 webm weba mka mkv avi flv asf amr ac3 eac3 dts wv ape tta tak mpc dsf dff
spx ra oma"""
AUDIO_SUFFIXES = frozenset(f".{name}" for name in (_BY_LIBSNDFILE + _BY_FFMPEG).split())
LOUDNESS = -23.0  # LUFS, EBU R 128: every clip is brought there, so that level says nothing about a caption
FADE = 0.005  # seconds at both ends of what was made, against clicks
# Raise it when `prepare` gives other numbers, or facts are measured in another way.
PREPARATION = 3
OUTLINE = MelSpec(rate=16_000, n_fft=1024, hop=256, mels=48, fmax=8_000)
OUTLINE_FRAMES = 32
OUTLINE_RANGE = 60 / 20 * np.log(10)  # nepers below the loudest point that count as silence


def levelled(sound: Sound, spec: MelSpec) -> Sound:
    """A recording as models of mels meet it: one channel at the mel's rate, at a loudness of -23 LUFS."""
    return sound.mono().resample(spec.rate).at_loudness(LOUDNESS)


def mel_of(sound: Sound, spec: MelSpec) -> Float[Tensor, "mels frames"]:
    """The log mel of a levelled sound."""
    import torch

    return log_mel(torch.from_numpy(sound.samples)[None], spec)[0]


def prepare(sound: Sound, spec: MelSpec | WaveSpec) -> Float[Tensor, "rows _"]:
    """What a part reads of a sound, with no step where a mel would be of silence.

    A mel is that of the levelled sound, rounded to float16, so that it is the same whether it comes from a cache or
    not. A waveform is float16 `[channels, samples]` at the level that it was recorded with: one channel is the mean of
    all (see `Sound.mono`); where more are wanted and the numbers differ, that mean is repeated.
    """
    import torch

    if isinstance(spec, MelSpec):
        prepared = levelled(sound, spec)
        mel = mel_of(prepared, spec).half().float()
        return mel if prepared.samples.any() else mel[:, :0]
    if sound.channels != spec.channels:
        sound = sound.mono()
    samples = sound.resample(spec.rate).samples.astype(np.float16)
    return torch.from_numpy(np.repeat(samples, spec.channels // len(samples), axis=0))


def restore(made: Float[Tensor, "channels samples"], spec: WaveSpec, info: Mapping[str, Any]) -> Sound:
    """A made waveform as a sound with `info`.

    Raises ModelError for NaN or infinity, and Error for what is no waveform: a mel needs a vocoder first.
    """
    if not isinstance(spec, WaveSpec):
        raise Error(f"{type(spec).__name__} describes no waveform; a mel becomes a sound through a vocoder")
    if not made.isfinite().all():
        raise ModelError("the model made NaN or infinity instead of sound; lower the guidance or mend the model")
    return Sound(made.detach().float().cpu().numpy(), spec.rate, info=dict(info))


def finish(sound: Sound) -> Sound:
    """A made sound without clicks (5 ms fades) and clipping (true peaks below -1 dBTP)."""
    return Sound(sound.fade(FADE, FADE).peak_limited().samples, sound.rate, info=sound.info)


def outline(sound: Sound) -> Float[np.ndarray, " dim"]:
    """The levelled log mel, 60 dB deep, fitted to 32 frames and flattened: a distance between two such vectors is the
    root mean square difference of two sounds in nepers, and neither level nor length counts."""
    import torch

    samples = sound.mono().resample(OUTLINE.rate).samples
    samples = samples * np.float32(0.1 / max(float(np.sqrt(np.mean(samples**2))), 1e-8))
    mel = to_log(log_mel(torch.from_numpy(samples)[None], OUTLINE)[0], OUTLINE)
    mel = mel.clamp_min(float(mel.max()) - OUTLINE_RANGE)
    fitted = torch.nn.functional.interpolate(
        mel[None, None], size=(len(mel), OUTLINE_FRAMES), mode="bilinear", antialias=True, align_corners=False
    )
    return fitted.flatten().numpy() / np.float32(mel.shape[0] * OUTLINE_FRAMES) ** 0.5


AUDIO = Medium(
    name="audio",
    noun="sound",
    nouns="sounds",
    example="dog-bark_03.wav",
    empty="is silent",
    suffixes=AUDIO_SUFFIXES,
    read=Sound.read,
    write=Sound.write,
    examine=listen,
    prepare=prepare,
    restore=restore,
    finish=finish,
    outline=outline,
    plot=Sound.plot,
    sheet=contact_sheet,
    windows=Windows(windows, read_windows, beginning),
    preparation=(PREPARATION, LOUDNESS),
    details={"rate": ("rates", " Hz"), "channels": ("channels", "")},
    command=("sound", ".wav"),
    holds=Sound,
    recipe="text-to-sound",
    written=tuple(FORMATS),
)
