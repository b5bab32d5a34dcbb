"""Five priors over pictures side by side: a flow over latents, one over pixels, a GPT, a seq2seq and a masked one.

    python benchmarks/picture_priors.py train FOLDER RUNS --minutes 15
    python benchmarks/picture_priors.py judge PACK RUNS

FOLDER is what `emoji.py split` made of PACK. Each has 3.1 M parameters, an encoder of words of the same size, the same
captions and the same minutes; iGPT stands beside them, over 32 x 32 pixels of 512 colours. An autoencoder and a VQ-GAN
of 64 codes are trained first, as long as a prior is, and each serves all that need it. What is there already is left
alone, so that the command goes on where it was stopped. `judge` asks what `emoji.py judge` asks, times a picture, and
has the nats of a code, or the bits of a dimension, of pictures that no prior saw.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
import yaml

from cymatic.errors import Error
from cymatic.files import write_atomically
from cymatic.pipelines.load import load_generator

if __package__:
    from benchmarks import emoji
else:
    import emoji

DATA = {"captions": ["name", "name", "names", "aliases", "keywords"], "balance": "base"}
PICTURE = {"size": 64, "background": [0.5, 0.5, 0.5], "alpha": True}
ENCODER = {"kind": "text", "dim": 192, "depth": 1}
GRID = {"kind": "grid-flow", "width": 192, "depth": 6, "heads": 6}
FOLDED = {"kind": "picture", "picture": PICTURE, "width": 56, "multiples": [1, 2], "blocks": 1, "patch": [4, 4]}
CODES = {
    "kind": "vector",
    "size": 1024,
    "dim": 64,
    "lookup_dim": 8,
    "metric": "cosine",
    "restart": "encoder",
    "decay": 0.95,
}
LEARNING = {"batch": 64, "learning_rate": 1e-3, "decay": 0.5}
OF_CODES = {**LEARNING, "betas": [0.9, 0.95]}
FLOWING = {"guidance": 2.0, "steps": 12}
NUCLEUS = {"guidance": 3.0, "temperature": 0.9, "top_p": 0.95}
EXAMPLES = 40  # pictures whose likelihood is measured
ROUNDS = 5  # of which the time of a picture is the median

CODECS: dict[str, dict[str, Any]] = {
    "latents": {
        "part": {**FOLDED, "latent": 16, "quantizer": None},
        "objective": {"l1": 1.0, "perceptual": 1.0, "white": 0.01},
        "training": {"batch": 16, "betas": [0.9, 0.99], "decay": 0.5},
    },
    "codes": {
        "part": {**FOLDED, "latent": 64, "quantizer": CODES},
        "objective": {"l1": 1.0, "perceptual": 1.0},
        "training": {"batch": 16, "betas": [0.5, 0.9], "decay": 0.5},
    },
    "palette": {
        "part": {"kind": "palette", "picture": {"size": 32, "background": [0.5, 0.5, 0.5]}, "colours": 512},
        "training": {"steps": 1, "batch": 8},
    },
}
PRIORS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "flow": (
        "latents",
        {"part": {**GRID, "patch": 2}, "training": LEARNING, "sampling": {"guidance": 2.0, "steps": 12}},
    ),
    "pixels": (
        None,
        {
            "part": {**GRID, "picture": PICTURE, "patch": 8, "centre": -0.8},
            "training": LEARNING,
            "sampling": FLOWING,
        },
    ),
    "gpt": (
        "codes",
        {
            "part": {"kind": "gpt", "width": 192, "depth": 6, "heads": 4, "order": "row-major", "end": False},
            "training": OF_CODES,
            "sampling": NUCLEUS,
        },
    ),
    "seq2seq": (
        "codes",
        {"part": {"kind": "seq2seq", "width": 176, "depth": 3, "heads": 4}, "training": OF_CODES, "sampling": NUCLEUS},
    ),
    "masked": (
        "codes",
        {
            "part": {"kind": "masked", "width": 192, "depth": 6, "heads": 4},
            "training": OF_CODES,
            "sampling": {"guidance": 3.0, "steps": 12},
        },
    ),
    "igpt": (
        "palette",
        {
            "part": {"kind": "gpt", "width": 192, "depth": 6, "heads": 4, "order": "row-major", "end": False},
            "training": {**OF_CODES, "batch": 8},
            "sampling": {"guidance": 2.0, "top_p": 0.98},
        },
    ),
}

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Only = Annotated[list[str] | None, typer.Option(help="One of the priors; again for more. All where none is given.")]


def chosen(only: list[str] | None) -> list[str]:
    """Raises Error for a prior that is not among them."""
    if unknown := set(only or ()) - set(PRIORS):
        raise Error(f"there is no prior {', '.join(sorted(unknown))}; give one of {', '.join(PRIORS)}")
    return only or list(PRIORS)


@app.command()
def train(folder: Path, runs: Path, minutes: float = 15.0, only: Only = None) -> None:
    """Trains the codecs that are needed, then the priors, one after the other."""
    for name in chosen(only):
        over, stage = PRIORS[name]
        codec = {} if over is None else {"codec": str((runs / over).resolve())}
        if over is not None:
            _train(folder, runs, over, {"codec": {"task": "autoencoder", **CODECS[over]}}, minutes)
        _train(folder, runs, name, {"prior": {"task": "prior", **codec, "encoder": ENCODER, **stage}}, minutes)


def _train(folder: Path, runs: Path, name: str, stages: dict[str, Any], minutes: float) -> None:
    """Trains by a recipe of its own; goes on with a run that was stopped, and leaves one that is whole alone."""
    out, recipe = runs / name, runs / f"{name}.yaml"
    if (out / "done").exists():
        return
    runs.mkdir(parents=True, exist_ok=True)
    recipe.write_text(yaml.safe_dump({"data": DATA, "stages": stages}), encoding="utf-8")
    timed = () if "steps" in next(iter(stages.values()))["training"] else ("--minutes", minutes)
    how = ("--resume",) if out.exists() else ("--recipe", recipe, *timed)
    words = ["-m", "cymatic", "train", folder, *how, "--no-verdict", "--out", out]
    print("$", *words, flush=True)
    subprocess.run([sys.executable, *map(str, words)], check=True)
    (out / "done").touch()


@app.command()
def judge(
    pack: Path,
    runs: Path,
    only: Only = None,
    most: Annotated[int, typer.Option(help="Prompts of each kind.")] = 150,
) -> None:
    """What each draws, how long a picture takes, and how likely it finds pictures that it never saw."""
    held, table = emoji.Pack(pack), {}
    for name in chosen(only):
        model = load_generator(str(runs / name))
        figures: dict[str, Any] = {"parameters": sum(one.numel() for one in model.prior.parameters())}
        for asked in emoji.kinds(held)[:4]:
            asked = emoji.Asked(asked.name, asked.prompts[:most], asked.right[:most], asked.first)
            estimate, _ = asked.score(held, emoji.drawn(model, asked.prompts))
            figures[asked.name] = [estimate.value, estimate.low, estimate.high]
        figures["seconds a picture"] = _seconds(model)
        figures["nats a code"] = _nats(model, held)
        typer.echo(f"{name}: {json.dumps(figures)}")
        table[name] = figures
    write_atomically(runs / "judged.json", json.dumps(table, indent=2).encode())


def _seconds(model: Any) -> float:
    """The median time of one picture by itself, once the model is warm."""
    model("a red apple")
    times = []
    for seed in range(ROUNDS):
        begin = time.perf_counter()
        model("a red apple", seed=seed)
        times.append(time.perf_counter() - begin)
    return sorted(times)[ROUNDS // 2]


def _nats(model: Any, pack: emoji.Pack) -> float | None:
    """The mean negative log-likelihood of a code of held-out pairs; None where a prior has none."""
    if model.rows is None:
        return None
    rows = [row for row in pack.rows if row["id"] in pack.held_out][:EXAMPLES]
    found = [model.nll(pack.picture(row), row["name"]) for row in rows]
    nats = sum(nats for nats, _ in found) / sum(codes for _, codes in found)
    assert math.isfinite(nats)
    return float(nats)


if __name__ == "__main__":
    torch.set_num_threads(2)
    try:
        app()
    except Error as error:
        raise SystemExit(f"picture_priors: {error}") from None
