"""Makes everything in this folder but the recipes, with cymatic as it was at commit cd135ae.

    git worktree add /tmp/old cd135ae
    PYTHONPATH=/tmp/old/src OMP_NUM_THREADS=1 python make.py            # all of it, in some minutes of one core
    PYTHONPATH=/tmp/old/src OMP_NUM_THREADS=1 python make.py expected   # expected.npz and expected.json alone

Later code can't run this, and has no need to: what it gave is saved here, and README.md says what is what. A second
run on one machine gives the same bytes, but for times of day, seconds taken and the verdicts, which depend on them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", CYMATIC_CACHE=tempfile.mkdtemp(prefix="cymatic-cache-"))

import numpy as np
import torch

import cymatic
from cymatic.apps import cli
from cymatic.codecs.fast import FastShape
from cymatic.codecs.waveform import WaveformCodec, WaveformCodecConfig
from cymatic.cond import Cond
from cymatic.data.mels import mel_of, prepare
from cymatic.encoders.text import TextEncoder
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.hub.pipeline_file import CodecFile, write_pipeline
from cymatic.metrics.judge_training import train_judge
from cymatic.metrics.judges import ConvTrunk, Judge, JudgeConfig, RecurrentTrunk
from cymatic.pipelines import folder_judge
from cymatic.pipelines.sound_codec import Encoded
from cymatic.quantizers.residual import ResidualQuantizerConfig
from cymatic.signal.mel import PRESETS, MelSpec
from cymatic.signal.sound import Sound
from cymatic.training.loop import Report
from cymatic.training.recipe import make_recipe, shipped
from cymatic.training.train import train
from cymatic.vocoders import VOCODERS

HERE = Path(__file__).resolve().parent
RATE = 24_000
MOST = 1024  # numbers kept of an array of samples

# What each run is trained on, in their order: later ones take over parts of earlier ones.
RUNS = {
    "vocos": ".", "melgan": "data", "flow": "data", "flow-vocos": ".", "flow-melgan": "data",
    "melspec-gpt-small": "data", "melspec-gpt": "data", "specvqgan": "vas", "gpt-vae-first": "data",
    "gpt-vae": "data", "codec-starter": "data", "codec-latents": "data", "codec-lumen": "data", "codec-finite": "data",
    "codec-lookup-free": "data", "codec-factorised": "data", "codec-gpt": "data", "codec-gpt-shards": "shards",
}  # fmt: skip
WITH_VERDICT = ("flow", "melspec-gpt-small")
UNFINISHED = {"flow": 23, "codec-starter": 20}  # steps after which a copy of the run was stopped
TEXT = {"generate": ("low tone", "high tone"), "flow": ("flow", "flow-vocos", "flow-melgan")}
CODECS = tuple(f"runs/codec-{name}" for name in ("starter", "lumen", "finite", "lookup-free", "factorised"))
STEREO = "models/codec-stereo"
CLIPS = ("data/low_1.flac", "data/noise_2.flac")


# --- what goes in


def make_data() -> None:
    """Nine clips in data/, eight mels with features in vas/, and a sound of two channels."""
    chance = np.random.default_rng(0)
    rows = []
    for name, caption, kind in (
        ("low", "low tone", "tone"),
        ("high", "high tone", "tone"),
        ("noise", "noise", "noise"),
    ):
        for take, seconds in ((1, 0.33), (2, 0.5), (3, 0.41)):  # the last is held out
            time = np.arange(int(seconds * RATE)) / RATE
            if kind == "tone":
                hz = (220 if name == "low" else 880) * (1 + 0.02 * take)
                wave = 0.3 * np.sin(2 * np.pi * hz * time) + 0.1 * np.sin(4 * np.pi * hz * time)
                wave += 0.001 * chance.normal(size=len(time))
            else:
                wave = 0.03 * take * chance.normal(size=len(time))
            wave *= np.minimum(1, time / 0.01) * np.exp(-2 * time)
            Sound(wave, RATE).write(_place(f"data/{name}_{take}.flac"))
            split = "valid" if take == 3 else "train"
            rows.append(
                {"audio": f"{name}_{take}.flac", "caption": caption, "kind": kind, "take": take, "split": split}
            )
    _write("data/manifest.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    time = np.arange(int(0.3 * RATE)) / RATE
    both = np.stack([0.3 * np.sin(2 * np.pi * 330 * time), 0.2 * np.sin(2 * np.pi * 550 * time)])
    Sound(both, RATE).write(_place("sounds/stereo.flac"))
    for split, takes in (("train", range(3)), ("valid", range(3, 4))):
        names = [f"{label}/video_{take:05d}" for label in ("bird", "drum") for take in takes]
        _write(f"vas/vas_{split}.txt", "".join(f"{name}\n" for name in names))
        for name in names:
            label, video = name.split("/")
            level = 0.3 if label == "bird" else 0.7
            mel = np.clip(chance.normal(level, 0.05, (80, 1)) + chance.normal(0, 0.05, (1, 48)), 0, 1)
            np.save(_place(f"vas/features/{label}/melspec_10s_22050hz/{video}_mel.npy"), mel.astype(np.float16))
            for kind, width in (("rgb", 4), ("flow", 3)):
                features = chance.normal(level, 0.1, (8, width)).astype(np.float32)
                np.save(_place(f"vas/features/{label}/feature_{kind}_dim{width}_21.5fps/{video}.npy"), features)


def copy_recipes() -> None:
    """The recipes in the package, byte for byte."""
    for name, path in shipped().items():
        _place(f"recipes/shipped/{name}.yaml").write_bytes(path.read_bytes())


# --- what is trained


def make_runs() -> None:
    """A finished run for each recipe, as `cymatic train` leaves it, but for states, logs and its own shards."""
    for name, folder in RUNS.items():
        if name == "codec-gpt-shards":
            _cymatic(
                "encode", "data", "-o", "shards", "--model", "runs/codec-lumen", "--engine", "local", "--workers", 1
            )
        verdict = [] if name in WITH_VERDICT else ["--no-verdict"]
        _cymatic("train", folder, "--recipe", f"recipes/{name}.yaml", "-o", f"runs/{name}", *verdict)
        for place in ("logs", "codes", *(f"{part}/state" for part in ("prior", "codec", "vocoder"))):
            shutil.rmtree(HERE / "runs" / name / place, ignore_errors=True)


def make_unfinished() -> None:
    """The same runs stopped on the way with their states, and what comes of them: the finished runs, bit for bit."""
    for name, step in UNFINISHED.items():

        def stop(at: Report, last: int = step) -> None:
            if at.step == last:
                signal.raise_signal(signal.SIGINT)

        run = Path(f"runs/unfinished-{name}")
        recipe = make_recipe(f"recipes/{name}.yaml", ["data.folder=data"])
        assert not train(recipe, run, say=lambda line: None, on_report=stop).finished
        shutil.rmtree(run / "logs")
        with tempfile.TemporaryDirectory() as folder:
            again = Path(shutil.copytree(run, Path(folder) / name))
            _cymatic("train", "--resume", "--out", again, "--no-verdict")
            for part in again.glob("*/model.safetensors"):
                assert part.read_bytes() == (HERE / "runs" / name / part.relative_to(again)).read_bytes(), part


def make_stereo() -> None:
    """A codec of two channels, as a user could build one: `cymatic train` can't, for it reads sounds as one channel."""
    torch.manual_seed(0)
    network = FastShape(hop=80, width=8, encoder=(0, 1), decoder=(1, 0))
    quantizer = ResidualQuantizerConfig(levels=3, size=16, dim=8)
    config = WaveformCodecConfig(rate=8000, channels=2, network=network, quantizer=quantizer, tile=8)
    codec = WaveformCodec(config)
    for p in codec.network.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    codec.train()(0.3 * torch.randn(4, 2, 4800), torch.Generator().manual_seed(0))  # its codebooks come of this
    codec.steps_trained.fill_(1)
    save_part(HERE / STEREO / "codec", codec)
    write_pipeline(HERE / STEREO, CodecFile(parts={"codec": "codec"}, kbps=0.8))


def make_classifiers() -> None:
    """One by `cymatic judge train` with two questions, smaller than it usually is, and one of the other design."""
    small = partial(ConvTrunk, widths=(4, 6, 8, 12), dim=16, dropout=0.1)
    with mock.patch.object(folder_judge, "ConvTrunk", lambda mel, **usual: small(mel=mel)):
        _cymatic(
            "judge", "train", "data", "-o", "classifier", "--question", "caption", "--question", "kind", "--minutes", 1
        )  # fmt: skip
    sounds = [Sound.read(HERE / "data" / row["audio"]) for row in _rows() if row["split"] == "train"]
    answers = {"kind": [row["kind"] for row in _rows() if row["split"] == "train"]}
    trunk = RecurrentTrunk(cepstra=8, width=8, layers=1, dim=12, dropout=0.0)
    config = JudgeConfig(labels={"kind": ("noise", "tone")}, trunk=trunk)
    save_part(HERE / "classifier-recurrent", train_judge(sounds, answers, config, steps=20, batch=6))


def make_cym() -> None:
    """Files of codes, by the shipped codec and by each of ours."""
    (HERE / "cym").mkdir()
    for name, options in {
        "starter-low": [], "starter-low-1.5": ["--kbps", 1.5], "starter-low-entropy": ["--entropy"],
        "starter-low-6-entropy": ["--kbps", 6, "--entropy"],
    }.items():  # fmt: skip
        _cymatic("encode", "data/low_2.flac", "-o", f"cym/{name}.cym", *options)
    _cymatic("encode", "sounds/stereo.flac", "-o", "cym/starter-stereo.cym")  # mixed to one channel
    for codec in (*CODECS, STEREO):
        source = "sounds/stereo.flac" if codec == STEREO else "data/low_1.flac"
        for ending, options in (("", []), ("-entropy", ["--entropy"])):
            _cymatic("encode", source, "-o", f"cym/{Path(codec).name}{ending}.cym", "--model", codec, *options)
    _cymatic("encode", "data/low_1.flac", "-o", "cym/codec-stereo-from-mono.cym", "--model", STEREO)


# --- what comes out


class Expected:
    """Arrays by key, and for each key what was done to get it."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.items: dict[str, dict[str, Any]] = {}

    def keep(self, key: str, array: Any, do: str, **about: Any) -> None:
        """Whole numbers as they are; of others every `stride`-th along the last axis, so that few are kept."""
        array = np.asarray(array.detach() if isinstance(array, torch.Tensor) else array)
        assert key not in self.items and np.isfinite(array).all(), key
        item: dict[str, Any] = {"do": do, **about, "shape": list(array.shape)}
        if array.dtype.kind == "f":
            item["std"] = float(f"{array.std():.3g}")
            item["stride"] = 1 if do == "given" else max(1, -(-array.size // MOST))
            array = array[..., :: item["stride"]].astype(np.float32)
        else:
            least, most = int(array.min()), int(array.max())
            array = array.astype(
                next(t for t in (np.uint8, np.uint16, np.int64) if least >= 0 and most <= np.iinfo(t).max)
            )
        self.arrays[key], self.items[key] = array, item

    def sound(self, key: str, sound: Sound, do: str, **about: Any) -> None:
        self.keep(key, sound.samples, do, rate=sound.rate, **about)


def make_expected() -> None:
    expected, models = Expected(), {}
    for name in ("starter-sound", "starter-codec", STEREO, *(f"runs/{name}" for name in RUNS)):
        if name not in ("runs/vocos", "runs/melgan", "runs/codec-latents"):
            models[name] = {"sha256": cymatic.load(name).sha256, "rate": cymatic.load(name).rate}
    _generated(expected)
    _over_codes(expected)
    _coded(expected)
    _parts(expected)
    np.savez_compressed(HERE / "expected.npz", **expected.arrays)
    values = {
        "commit": "cd135ae", "torch": torch.__version__.partition("+")[0], "numpy": np.__version__, "models": models,
        "parts": {name: fingerprint([HERE / name]) for name in ("classifier", "classifier-recurrent")},
        "items": expected.items,
    }  # fmt: skip
    _write("expected.json", json.dumps(values, indent=1) + "\n")


def _generated(expected: Expected) -> None:
    """Sounds from words, classes and features: of a length that is asked for, and of one that the model draws."""
    for run in ("flow", "flow-vocos", "flow-melgan", "melspec-gpt-small", "gpt-vae", "gpt-vae-first", "codec-gpt",
                "codec-gpt-shards", "melspec-gpt"):  # fmt: skip
        flow = run.startswith("flow")
        asks: list[tuple[str, str, dict[str, Any]]] = [
            ("usual", "low tone", {"seed": 0, "seconds": 0.3}), ("drawn-length", "noise", {"seed": 3}),
        ]  # fmt: skip
        if run == "flow":
            asks.append(("set", "high tone", {"seed": 5, "seconds": 0.25, "guidance": 3.0, "steps": 3}))
            asks.append(("unknown", "a dog", {"seed": 6, "seconds": 0.2, "guidance": 1.0}))
        elif not flow:
            more = {"guidance": 2.0, "temperature": 0.8, "top_k": 4, "top_p": 0.9}
            asks.append(("set", "high tone", {"seed": 5, "seconds": 0.25, **more}))
            asks.append(("greedy", "high tone", {"seed": 5, "seconds": 0.25, "greedy": True}))
        model = cymatic.load(f"runs/{run}")
        for what, prompt, how in asks:
            about = {"model": f"runs/{run}", "prompt": prompt, **how}
            expected.sound(f"generate/{run}/{what}", model(prompt, **how), "generate", **about)
    seen = np.concatenate(
        [
            np.load(HERE / f"vas/features/drum/feature_{kind}_21.5fps/video_00003.npy")
            for kind in ("rgb_dim4", "flow_dim3")
        ],
        axis=1,
    )
    expected.keep("features/drum", seen, "given")
    how = {"seed": 1, "seconds": 0.4}
    about = {"model": "runs/specvqgan", "features": "features/drum", **how}
    expected.sound("generate/specvqgan/usual", cymatic.load("runs/specvqgan")(seen, **how), "generate", **about)
    model = cymatic.load("starter-sound")
    for seed, prompt in enumerate(("george says seven", "rain falling")):
        about = {"model": "starter-sound", "prompt": prompt, "seed": seed, "seconds": 0.5}
        expected.sound(f"generate/starter-sound/{seed}", model(prompt, seed=seed, seconds=0.5), "generate", **about)


def _over_codes(expected: Expected) -> None:
    """What a model over codes does with a sound."""
    clip = Sound.read(HERE / CLIPS[0])
    other = Sound.read(HERE / CLIPS[1])
    for run in ("melspec-gpt-small", "melspec-gpt", "gpt-vae"):
        model, about = cymatic.load(f"runs/{run}"), {"model": f"runs/{run}", "file": CLIPS[0]}
        for file, sound in zip(CLIPS, (clip, other), strict=True):
            key = f"codes/{run}/{Path(file).stem}"
            expected.keep(key, model.codes_of(sound)[0], "codes_of", model=about["model"], file=file)
        expected.sound(f"revocode/{run}", model.revocode(clip), "revocode", **about)
        nats, count = model.nll(clip, "low tone")
        expected.keep(f"nll/{run}", np.array([nats, count]), "nll", prompt="low tone", **about)
        (made,) = model.extend(clip, prompt="low tone", seed=2, seconds=0.3)
        expected.sound(f"extend/{run}", made, "extend", prompt="low tone", seed=2, seconds=0.3, **about)
    model = cymatic.load("runs/gpt-vae")
    (made,) = model.vary(clip, n=1, amount=0.3, seed=4)
    expected.sound("vary/gpt-vae", made, "vary", **about, amount=0.3, seed=4)
    made = model.blend(clip, other, steps=3)[1]
    expected.sound("blend/gpt-vae", made, "blend", **about, other=CLIPS[1], steps=3, which=1)
    for run in TEXT["flow"]:
        about = {"model": f"runs/{run}", "file": CLIPS[0]}
        expected.sound(f"revocode/{run}", cymatic.load(f"runs/{run}").revocode(clip), "revocode", **about)


def _coded(expected: Expected) -> None:
    """Codes of sounds, and sounds of codes, in memory and from the files in cym/."""
    sounds = {file: Sound.read(HERE / file) for file in (*CLIPS, "sounds/stereo.flac")}
    for name in ("starter-codec", *CODECS, STEREO):
        model, short = cymatic.load(name), Path(name).name
        for file, sound in sounds.items():
            encoded, stem = model.encode(sound), Path(file).stem
            about = {"model": name, "file": file, "kbps": None}
            expected.keep(f"encode/{short}/{stem}", encoded.codes, "encode", **about, samples=encoded.samples)
            expected.sound(f"decode/{short}/{stem}", model.decode(encoded), "decode", **about)
            if file != CLIPS[0]:
                continue
            for kbps in (model.offers[0], model.offers[-1]):
                about["kbps"] = kbps
                some = model.encode(sound, kbps)
                if kbps != model.kbps:
                    key = f"encode/{short}/{stem}/{kbps:g}"
                    expected.keep(key, some.codes, "encode", **about, samples=some.samples)
                if kbps < model.kbps:  # from the first levels of what was encoded at the usual rate
                    expected.sound(f"decode/{short}/{stem}/{kbps:g}", model.decode(encoded, kbps), "decode", **about)
                elif kbps > model.kbps:
                    about["encoded_kbps"] = kbps
                    expected.sound(f"decode/{short}/{stem}/{kbps:g}", model.decode(some), "decode", **about)
    for path in sorted((HERE / "cym").glob("*.cym")):
        starter = path.stem.startswith("starter")
        known = (one for one in (*CODECS, STEREO) if path.stem.startswith(Path(one).name))
        name = "starter-codec" if starter else next(known)
        encoded = Encoded.read(path)
        about = {"model": name, "file": f"cym/{path.name}"}
        expected.keep(f"cym-codes/{path.stem}", encoded.codes, "cym-codes", **about, samples=encoded.samples,
                      name=encoded.header.model, sha256=encoded.header.sha256)  # fmt: skip
        expected.sound(f"cym/{path.stem}", cymatic.load(name).decode(encoded), "decode-cym", **about)


def _parts(expected: Expected) -> None:
    """What has no pipeline of its own: vocoders, a codec of latents, classifiers; and mels and conditions."""
    for run, spec in (("vocos", "sound-24k"), ("melgan", "specvqgan-22k")):
        mel = _mel(CLIPS[0], PRESETS[spec])[:, :24]
        expected.keep(f"mel/{run}", mel, "given")
        with torch.inference_mode():
            made = load_part(HERE / "runs" / run / "vocoder", VOCODERS)(mel[None])[0]
        expected.keep(f"vocode/{run}", made, "vocode", part=f"runs/{run}/vocoder", mel=f"mel/{run}")
    codec = load_part(HERE / "runs/codec-latents/codec", (WaveformCodec,))
    wave = Sound.read(HERE / CLIPS[0]).resample(8000).samples
    with torch.inference_mode():
        latent = codec.encode(torch.from_numpy(wave)[None])
        made = codec.decode(latent, wave.shape[1])[0]
    about = {"part": "runs/codec-latents/codec", "file": CLIPS[0], "rate": 8000}
    expected.keep("latents/codec-latents", latent.z[0], "latents", **about)
    expected.keep("decode/codec-latents", made, "decode-latents", **about)
    sounds = [Sound.read(HERE / "data" / row["audio"]) for row in _rows()]
    files = [f"data/{row['audio']}" for row in _rows()]
    for name in ("classifier", "classifier-recurrent"):
        judge = load_part(HERE / name, (Judge,))
        for question, chances in judge.chances(sounds).items():
            answers = list(judge.config.labels[question])
            about = {"part": name, "files": files, "question": question, "answers": answers}
            expected.keep(f"classify/{name}/{question}", chances, "classify", **about)
        expected.keep(f"embed/{name}", judge.embed(sounds), "embed", part=name, files=files)
    for name, spec in PRESETS.items():
        expected.keep(f"mel/{name}", _mel(CLIPS[1], spec), "mel", mel=name, file=CLIPS[1])
    text = load_part(HERE / "runs/flow/text", (TextEncoder,))
    with torch.inference_mode():
        cond: Cond = text(["low tone"])
    about = {"part": "runs/flow/text", "prompt": "low tone"}
    expected.keep("text/tokens", cond.tokens[0], "condition", **about, of="tokens")
    expected.keep("text/vector", cond.vector[0], "condition", **about, of="vector")


def _mel(file: str, spec: MelSpec) -> torch.Tensor:
    return mel_of(prepare(Sound.read(HERE / file), spec), spec)


# --- how


def _rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (HERE / "data/manifest.jsonl").read_text().splitlines()]


def _place(name: str) -> Path:
    path = HERE / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(name: str, text: str) -> None:
    _place(name).write_bytes(text.encode())


def _cymatic(*words: Any) -> None:
    """One command, in this process, from this folder."""
    code = cli.run([str(word) for word in words])
    assert code == 0, f"cymatic {' '.join(map(str, words))} ended with {code}"


def without_places() -> None:
    """Takes this folder's place out of what was written, so that all paths count from here."""
    for path in HERE.rglob("*"):
        if path.is_file() and path.suffix in (".yaml", ".json", ".txt"):
            text = path.read_bytes()
            clean = text.replace(f"{HERE}/".encode(), b"").replace(str(HERE).encode(), b".")
            if clean != text:
                path.write_bytes(clean)
    for path in HERE.rglob("*"):
        assert not path.is_file() or str(HERE).encode() not in path.read_bytes(), path


def main(what: str = "all") -> None:
    commit = subprocess.run(
        ["git", "-C", Path(cymatic.__file__).parent, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout
    assert commit.startswith("cd135ae"), f"this is cymatic at {commit.strip()}; it takes cd135ae"
    os.chdir(HERE)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    steps: list[Callable[[], None]] = [make_expected]
    if what == "all":
        for name in ("data", "sounds", "vas", "shards", "runs", "models", "classifier", "classifier-recurrent", "cym"):
            shutil.rmtree(HERE / name, ignore_errors=True)
        steps = [
            make_data, copy_recipes, make_runs, without_places, make_unfinished, make_stereo, make_classifiers,
            make_cym, make_expected, without_places,
        ]  # fmt: skip
    for step in steps:
        print(f"--- {step.__name__}", flush=True)
        step()
    shutil.rmtree(os.environ["CYMATIC_CACHE"])


if __name__ == "__main__":
    main(*sys.argv[1:])
