"""How fast is a waveform codec, and how good? Against other people's codecs, and against Opus.

    python benchmarks/codecs.py speed --model runs/codec --threads 2
    python benchmarks/codecs.py first --model runs/codec
    python benchmarks/codecs.py quality DATA --model runs/codec --kbps 3

`speed`: ten seconds at 24 kHz, batch 1, float32. The peers are transformers' own classes at their published sizes with
random weights, EnCodec and DAC at 6 kbps, Mimi at 1.1. All take turns in one process, and the medians of the rounds
count; CPU seconds are of all threads together, and hardly depend on what else the machine does. Memory is measured in a
process of its own each, as what the codec's work adds to that process at its peak.

`first`: chunks of sound arrive as a microphone gives them, each when it is full, and go through both directions of a
new stream of a warm codec. What counts is the time from the first sample's arrival until a first sample comes out.

`quality`: held-out clips of every pack, each whole up to ten seconds. Multi-scale mel distance over all clips, and STOI
over those of speech. Opus is what `opusenc` makes, where it is on the path, or else libsndfile at its lowest rate,
decoded at 48 kHz. Bits are counted from packets and from codes; Opus's containers and ours count as nothing.
"""

from __future__ import annotations

import io
import math
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Annotated, Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import soundfile
import torch
import typer
from scoring import table
from torch import Tensor

from cymatic.codecs.waveform import WaveformCodec
from cymatic.data.folder import read_folder
from cymatic.errors import Error
from cymatic.evaluation.reconstruction import has_stoi, stoi
from cymatic.hub.parts import CONFIG, load_part
from cymatic.hub.readers.peer_codecs import PEERS
from cymatic.media.sound import Sound
from cymatic.pipelines.load import starters
from cymatic.signal.distances import multi_scale_mel_distance

RATE = 24_000
SECONDS = 10.0
PACKS = ("digits", "words", "spoken-emoji", "instruments", "samples", "effects")
SPEECH = ("digits", "words", "spoken-emoji")
LAG = 480  # samples at 48 kHz by which a decoder may be late or early
app = typer.Typer(add_completion=False, help=__doc__)


def read_codec(model: str) -> Any:
    """A codec by the name of a starter, by its folder, or by the folder of a run that has it as a stage."""
    folder = Path(starters().get(model, model))
    places = [folder, folder / "codec"]
    place = next((place for place in places if (place / CONFIG).is_file()), None)
    if place is None:
        raise Error(f"{model} holds no codec; give the folder of one, with its {CONFIG}")
    return load_part(place, (WaveformCodec, *PEERS))


# How fast


@dataclass
class Contender:
    """A codec as two functions, and what to say of it."""

    encode: Callable[[Tensor], Any]
    decode: Callable[[Any], Tensor]
    levels: int
    parameters: int
    kbps: float


def encodec() -> Contender:
    from transformers import EncodecConfig, EncodecModel

    model = lively(EncodecModel(EncodecConfig()))
    return Contender(
        lambda wave: model.encode(wave, bandwidth=6.0),
        lambda found: model.decode(found.audio_codes, found.audio_scales).audio_values,
        8, size(model), 6.0,
    )  # fmt: skip


def mimi() -> Contender:
    from transformers import MimiConfig, MimiModel

    model = lively(MimiModel(MimiConfig()))
    return Contender(
        lambda wave: model.encode(wave, num_quantizers=8),
        lambda found: model.decode(found.audio_codes).audio_values,
        8, size(model), 1.1,
    )  # fmt: skip


def dac() -> Contender:
    from transformers import DacConfig, DacModel

    model = lively(DacModel(DacConfig(downsampling_ratios=[2, 4, 5, 8], n_codebooks=32, sampling_rate=RATE)))
    return Contender(
        lambda wave: model.encode(wave, n_quantizers=8),
        lambda found: model.decode(audio_codes=found.audio_codes).audio_values,
        8, size(model), 6.0,
    )  # fmt: skip


def ours(model: str, kbps: float) -> Contender:
    codec = read_codec(model)
    levels = levels_at(codec, kbps)
    return Contender(
        lambda wave: codec.encode(wave, levels=levels),
        codec.decode,
        levels, size(codec), rate_of(codec, levels),
    )  # fmt: skip


THEIRS = {"EnCodec 24 kHz": encodec, "Mimi": mimi, "DAC 24 kHz": dac}


def contender(name: str, kbps: float) -> Contender:
    return THEIRS[name]() if name in THEIRS else ours(name, kbps)


def lively(model: Any) -> Any:
    """The model with codebooks that are not all the same, so that there is something to look for."""
    for name, tensor in model.state_dict().items():
        if name.endswith((".embed", ".embed_sum", "codebook.weight")):
            tensor.normal_(generator=torch.Generator().manual_seed(0))
    return model.eval()


def size(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())


def bits(codec: Any, levels: int) -> float:
    """Of a frame."""
    return sum(math.log2(n) for n in codec.sizes[:levels])


def rate_of(codec: Any, levels: int) -> float:
    """In kbps."""
    return bits(codec, levels) * codec.config.rate / codec.hop / 1000


def levels_at(codec: Any, kbps: float) -> int:
    fitting = [n for n in range(1, codec.levels + 1) if rate_of(codec, n) <= kbps + 1e-6]
    return max(fitting, default=codec.min_levels)


def ten_seconds() -> Tensor:
    return 0.1 * torch.randn(1, 1, int(SECONDS * RATE), generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def peak(name: str, kbps: float, threads: int) -> float:
    """MB that encoding and decoding add to a process that holds the codec."""
    torch.set_num_threads(threads)
    one, wave = contender(name, kbps), ten_seconds()
    before = most_memory()
    one.decode(one.encode(wave))
    return most_memory() - before


def most_memory() -> float:
    """MB that this process held at its peak. What `getrusage` says may be its parent's, from before it was itself."""
    status = Path("/proc/self/status")
    if status.is_file():
        return int(status.read_text(encoding="ascii").split("VmHWM:")[1].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


@app.command()
@torch.inference_mode()
def speed(
    model: Annotated[list[str] | None, typer.Option(help="A starter or a folder; may be given several times.")] = None,
    threads: int = 2,
    runs: Annotated[int, typer.Option(help="Rounds after a warm one.")] = 7,
    kbps: Annotated[float, typer.Option(help="Of our own codecs.")] = 6.0,
    peers: Annotated[bool, typer.Option(help="Measure the peers, too.")] = True,
) -> None:
    """Prints how many seconds of sound are encoded and decoded in one second."""
    torch.set_num_threads(threads)
    names = [*(model or []), *(THEIRS if peers else [])]
    contenders = {name: contender(name, kbps) for name in names}
    wave = ten_seconds()
    times: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(runs + 1):
        for name, one in contenders.items():
            began, worked = time.perf_counter(), time.process_time()
            found = one.encode(wave)
            between = time.perf_counter()
            one.decode(found)
            times[name].append((between - began, time.perf_counter() - between, time.process_time() - worked))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        peaks = [pool.submit(peak, name, kbps, threads).result() for name in names]
    rows, both = [], {}
    for name, used in zip(names, peaks, strict=True):
        rounds = times[name][1:]
        encoding, decoding, working = zip(*rounds, strict=True)
        both[name] = median(map(sum, zip(encoding, decoding, strict=True)))
        cells = [f"{SECONDS / median(column):.1f}" for column in (encoding, decoding)]
        one = contenders[name]
        rows.append(
            [name, f"{one.parameters / 1e6:.1f}", f"{one.levels}", f"{one.kbps:.2f}", *cells,
             f"{SECONDS / both[name]:.1f}", f"{both[name] / both[names[0]]:.1f}",
             f"{median(working):.2f}", f"{used:.0f}"]
        )  # fmt: skip
    header = ["codec", "M parameters", "levels", "kbps", "encode, x real time", "decode", "both", "times the first's",
              "CPU s", "peak MB"]  # fmt: skip
    typer.echo(table(header, rows))
    typer.echo(f"\n{SECONDS:.0f} s at {RATE} Hz, {threads} threads, medians of {runs} rounds after a warm one")


# How soon


@torch.inference_mode()
def first_sample(codec: WaveformCodec, levels: int, chunk: int, seed: int) -> tuple[float, float]:
    """Seconds from the arrival of a new stream's first sample until a first one comes out, and those of computing."""
    noise = 0.1 * torch.randn(codec.config.channels, 100 * chunk, generator=torch.Generator().manual_seed(seed))
    computing, began = 0.0, time.perf_counter()
    with codec.streaming(levels) as stream:
        for number, some in enumerate(noise.split(chunk, dim=1), 1):
            time.sleep(max(0.0, began + number * chunk / codec.config.rate - time.perf_counter()))
            given = time.perf_counter()
            heard = stream.decode(stream.encode(some)).shape[-1]
            computing += time.perf_counter() - given
            if heard:
                return time.perf_counter() - began, computing
    raise Error("no sample came out of 100 chunks; give longer ones")


@app.command()
def first(
    model: Annotated[list[str], typer.Option(help="A starter or a folder; may be given several times.")],
    kbps: float = 6.0,
    chunk: Annotated[float, typer.Option(help="ms of sound that arrive at a time.")] = 20.0,
    runs: Annotated[int, typer.Option(help="Streams, after one that is not counted.")] = 20,
    threads: int = 1,
) -> None:
    """Prints how long it takes until the first sound comes out of a stream."""
    torch.set_num_threads(threads)
    rows = []
    for name in model:
        codec = read_codec(name)
        levels = levels_at(codec, kbps)
        size = max(1, round(chunk / 1000 * codec.config.rate))
        out, computing = zip(*[first_sample(codec, levels, size, run) for run in range(runs + 1)][1:], strict=True)
        times = (codec.latency, median(computing), median(out), max(out))
        rows.append([name, f"{levels}", *(f"{1000 * seconds:.1f}" for seconds in times)])
    typer.echo(table(["codec", "levels", "algorithmic, ms", "computing", "first audio out, median", "worst"], rows))
    typer.echo(f"\n{runs} new streams, chunks of {chunk:g} ms in real time, {threads} threads")


# How good


@dataclass
class Clip:
    pack: str
    wave: np.ndarray  # [samples] at 24 kHz


def held_out(data: Path, most: int) -> Iterator[Clip]:
    """As many clips of each pack as there are of the others, evenly from what was held out."""
    each = most // len(PACKS)
    for pack in PACKS:
        items = read_folder(data / pack).of("valid")
        places = np.linspace(0, len(items) - 1, min(each, len(items))).round().astype(int)
        for place in sorted(set(places.tolist())):
            sound = Sound.read(items[place].path()).mono().resample(RATE)
            yield Clip(pack, sound.cut(0, min(sound.seconds, SECONDS)).samples[0])


@dataclass
class Heard:
    """What came out, at 24 kHz and as long as what went in, and the bits that it took."""

    wave: np.ndarray
    bits: float


def by_codec(codec: Any, levels: int, clip: Clip) -> Heard:
    sound = Sound(clip.wave[None], RATE).resample(codec.config.rate)
    given = torch.from_numpy(sound.samples)[None].expand(1, codec.config.channels, -1)
    latent = codec.encode(given, levels=levels)
    made = codec.decode(latent)[0].numpy()
    back = Sound(made, codec.config.rate).mono().resample(RATE).samples[0]
    return Heard(fitted(back, len(clip.wave)), codec.columns(int(latent.lengths)) * bits(codec, levels))


def by_opus(kbps: float, clip: Clip) -> Heard:
    """Encoded and decoded at 48 kHz, which is what Opus's clock counts in."""
    wave = Sound(clip.wave[None], RATE).resample(48_000).samples[0]
    if program := shutil.which("opusenc"):
        with tempfile.TemporaryDirectory() as scratch:
            came, went = Path(scratch, "in.wav"), Path(scratch, "out.opus")
            soundfile.write(came, wave, 48_000, subtype="FLOAT")
            subprocess.run([program, "--quiet", "--bitrate", f"{kbps:g}", came, went], check=True, capture_output=True)
            data = went.read_bytes()
    else:
        # libsndfile: 6 + 250 (1 - level) kbps a channel.
        buffer = io.BytesIO()
        level = 1 - (kbps - 6) / 250
        soundfile.write(buffer, wave, 48_000, format="OGG", subtype="OPUS", compression_level=min(level, 1.0))
        data = buffer.getvalue()
    made, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == 48_000
    back = Sound(aligned(made, wave)[None], rate).resample(RATE).samples[0]
    return Heard(fitted(back, len(clip.wave)), 8.0 * packet_bytes(data))


def packet_bytes(ogg: bytes) -> int:
    """Bytes of sound in an Ogg stream of one Opus track: all packets but the two of its header."""
    at, packets = 0, [0]
    while at < len(ogg):
        assert ogg[at : at + 4] == b"OggS"
        lacing = ogg[at + 27 : at + 27 + ogg[at + 26]]
        for part in lacing:  # a packet ends where a part has less than 255 bytes
            packets[-1] += part
            if part < 255:
                packets.append(0)
        at += 27 + len(lacing) + sum(lacing)
    return sum(packets[2:])


def aligned(made: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """`made`, shifted by up to 10 ms to where it fits best."""
    n = 1 << (len(made) + len(wanted)).bit_length()
    alike = np.fft.irfft(np.conj(np.fft.rfft(wanted, n)) * np.fft.rfft(made, n), n)
    lags = np.arange(-LAG, LAG + 1)
    late = int(lags[alike[lags].argmax()])
    LAGS.append(late)
    return made[late:] if late >= 0 else np.pad(made, (-late, 0))


LAGS: list[int] = []


def fitted(wave: np.ndarray, length: int) -> np.ndarray:
    return np.pad(wave, (0, max(0, length - len(wave))))[:length]


@dataclass
class Score:
    far: float  # multi-scale mel distance
    clear: float | None  # STOI


def scored(clip: Clip, heard: Heard) -> Score:
    a, b = (torch.from_numpy(np.ascontiguousarray(x))[None, None] for x in (clip.wave, heard.wave))
    clear = stoi(clip.wave, heard.wave, RATE) if clip.pack in SPEECH and has_stoi() else None
    return Score(multi_scale_mel_distance(a, b, RATE).item(), clear)


@app.command()
@torch.inference_mode()
def quality(
    data: Annotated[Path, typer.Argument(help="The folder that holds the packs.")],
    model: Annotated[list[str] | None, typer.Option(help="A starter or a folder; may be given several times.")] = None,
    kbps: Annotated[list[float] | None, typer.Option(help="Of our own codecs, several times; 3 if not given.")] = None,
    opus: Annotated[list[float] | None, typer.Option(help="Of Opus, several times; 6 if not given.")] = None,
    clips: Annotated[int, typer.Option(help="At most, of all packs together.")] = 150,
    threads: int = 2,
) -> None:
    """Prints distances and STOI of our codecs and of Opus, on the same clips, with the bits that each took."""
    torch.set_num_threads(threads)
    some = list(held_out(data, clips))
    seconds = sum(len(clip.wave) for clip in some) / RATE
    tool = "opusenc" if shutil.which("opusenc") else "libsndfile"
    ways: dict[str, Callable[[Clip], Heard]] = {}
    for name in model or []:
        codec = read_codec(name)
        for rate in kbps or [3.0]:
            levels = levels_at(codec, rate)
            ways[f"{name}, {levels} levels"] = lambda clip, codec=codec, levels=levels: by_codec(codec, levels, clip)
    for rate in opus or [6.0]:
        ways[f"Opus at {rate:g} kbps ({tool})"] = lambda clip, rate=rate: by_opus(rate, clip)
    rows = []
    for name, way in ways.items():
        heard = [way(clip) for clip in some]
        scores = [scored(clip, one) for clip, one in zip(some, heard, strict=True)]
        far = {p: mean(s.far for c, s in zip(some, scores, strict=True) if c.pack == p) for p in PACKS}
        clear = [s.clear for s in scores if s.clear is not None]
        per_pack = [
            [s.clear for c, s in zip(some, scores, strict=True) if c.pack == p and s.clear is not None] for p in SPEECH
        ]
        rows.append(
            [name, f"{sum(one.bits for one in heard) / seconds / 1000:.2f}", f"{mean(s.far for s in scores):.3f}",
             *(f"{value:.3f}" for value in far.values()), f"{mean(clear):.3f} ({len(clear)})" if clear else "-",
             *(f"{mean(values):.3f}" if values else "-" for values in per_pack)]
        )  # fmt: skip
    header = ["codec", "kbps", "mel distance", *PACKS, "STOI (clips)", *(f"STOI {pack}" for pack in SPEECH)]
    typer.echo(table(header, rows))
    counts = ", ".join(f"{sum(clip.pack == pack for clip in some)} {pack}" for pack in PACKS)
    typer.echo(f"\n{len(some)} clips of {seconds:.0f} s: {counts}")
    if LAGS:
        typer.echo(f"Opus came {median(LAGS):g} samples late at 48 kHz (from {min(LAGS)} to {max(LAGS)}), set right")
    if not has_stoi():
        typer.echo("STOI needs: pip install pystoi")


if __name__ == "__main__":
    app()
