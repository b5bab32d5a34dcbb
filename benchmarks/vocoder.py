"""How good and how fast is a vocoder? Against 60 rounds of Griffin-Lim, on held-out clips of every pack.

    python benchmarks/vocoder.py DATA --model starter-sound

Speed: ten seconds of mel, batch 1, float32, two threads, the median of 20 warm runs. Log-mel L1: what comes out,
analysed again, against what went in (natural log), the mean over packs. PESQ (wideband) and STOI on held-out speech,
where the packages `pesq` and `pystoi` are installed: `pip install pesq pystoi`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Annotated

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import typer
from scoring import table
from torch import Tensor

import cymatic
from cymatic.data.folder import read_folder
from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec, log_mel
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

PACKS = ("digits", "words", "spoken-emoji", "instruments", "samples", "effects")
SPEECH = ("words", "spoken-emoji")
CLIPS = 20  # of each pack
LONGEST = 4.0  # seconds of each clip
Vocoder = Callable[[Tensor], Tensor]


@torch.inference_mode()
def main(data: Path, model: Annotated[str, typer.Option(help="A starter or a folder.")] = "starter-sound") -> None:
    """Prints two tables: distances and speed, and speech."""
    torch.set_num_threads(2)
    trained = cymatic.load(model).vocoder
    spec = trained.config.mel
    vocoders: dict[str, Vocoder] = {
        model: trained,
        "Griffin-Lim, 60 rounds": GriffinLimVocoder(GriffinLimConfig(mel=spec, rounds=60)),
    }
    clips = {pack: held_out(data / pack, spec) for pack in PACKS}
    rows = []
    for name, vocoder in vocoders.items():
        far = {pack: mean(distance(clip, vocoder, spec) for clip in some) for pack, some in clips.items()}
        cells = [f"{value:.3f}" for value in (mean(far.values()), *far.values())]
        rows.append([name, f"{speed(vocoder, spec):.0f}", *cells])
    typer.echo(table(["vocoder", "x real time", "log-mel L1", *PACKS], rows))
    try:
        import pesq
        import pystoi
    except ImportError:
        typer.echo("PESQ and STOI need: pip install pesq pystoi")
        return
    rows = []
    for name, vocoder in vocoders.items():
        for pack in SPEECH:
            heard = [spoken(clip, vocoder, spec) for clip in clips[pack]]
            quality = mean(pesq.pesq(16_000, real, made, "wb") for real, made in heard)
            clear = mean(pystoi.stoi(real, made, 16_000) for real, made in heard)
            rows.append([name, pack, f"{quality:.2f}", f"{clear:.3f}"])
    typer.echo("\n" + table(["vocoder", "speech", "PESQ", "STOI"], rows))


def held_out(folder: Path, spec: MelSpec) -> list[Sound]:
    items = read_folder(folder).of("valid")
    some = items[:: max(1, len(items) // CLIPS)][:CLIPS]
    sounds = (Sound.read(item.path()).mono().resample(spec.rate) for item in some)
    return [sound.cut(0, min(sound.seconds, LONGEST)) for sound in sounds]


def distance(clip: Sound, vocoder: Vocoder, spec: MelSpec) -> float:
    mel = log_mel(torch.from_numpy(clip.samples)[None], spec)
    return (log_mel(vocoder(mel), spec) - mel).abs().mean().item()


def spoken(clip: Sound, vocoder: Vocoder, spec: MelSpec) -> tuple[object, object]:
    """The recording and what the vocoder makes of its mel, at 16 kHz."""
    made = vocoder(log_mel(torch.from_numpy(clip.samples)[None], spec))[0, :, : len(clip)].numpy()
    return clip.resample(16_000).samples[0], Sound(made, spec.rate).resample(16_000).samples[0]


def speed(vocoder: Vocoder, spec: MelSpec, seconds: float = 10.0, runs: int = 20) -> float:
    """Seconds of sound a second."""
    noise = 0.1 * torch.randn(1, 1, int(seconds * spec.rate), generator=torch.Generator().manual_seed(0))
    mel = log_mel(noise, spec)
    times = []
    for _ in range(runs + 3):
        began = time.perf_counter()
        vocoder(mel)
        times.append(time.perf_counter() - began)
    return seconds / median(times[3:])


if __name__ == "__main__":
    typer.run(main)
