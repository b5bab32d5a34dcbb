"""The emoji pack: what `starter-picture` must never see, and how far what it draws is right.

    python benchmarks/emoji.py split PACK FOLDER              a folder to train on, without what is held out
    python benchmarks/emoji.py judge MODEL PACK               what is asked for against what is drawn
    python benchmarks/emoji.py codec MODEL PACK               what a codec loses of pictures that it never saw
    python benchmarks/emoji.py recall MODEL PACK              words that find pictures, and the other way round
    python benchmarks/emoji.py sheet MODEL PNG                prompts x seeds

Which of several draws is best is decided by one encoder and judged by another: `split ... --half 0` and `--half 1` make
folders that share no base, an encoder of another seed and size is trained on each, and `judge --keep 16 --ranker ONE
--by OTHER` says what the draws that were kept are by pixels and to the encoder that did not choose.

PACK is the folder with the pack's manifest. Held out are 150 pairs of a base and a tone and, with them, all of the
pack's own `valid`; a tenth of the English aliases and keywords; and 60 further pairs, by which a run chooses its
weights. Which they are is decided by a hash, so nobody has chosen them.

A picture counts as right where the nearest of all pictures of the pack is the one asked for: by their pixels, on grey,
two pixels of shift allowed. Pictures that are the same count as one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from jaxtyping import Float, Int

import cymatic
from cymatic.apps.progress import ProgressBar
from cymatic.data.captions import caption_key
from cymatic.encoders.align import chance, recall, same
from cymatic.errors import Error
from cymatic.evaluation.intervals import Estimate, share
from cymatic.files import write_atomically
from cymatic.media.picture import PICTURE, Picture, PictureSpec, sheet
from cymatic.pipelines.embed import Embedder
from cymatic.pipelines.generate import Generator
from cymatic.pipelines.load import load_embedder, load_generator

PAIRS, CHOOSING = 150, 60
GREY = (0.5, 0.5, 0.5)
SIDE = 64
SHIFT = 2  # pixels
AT_ONCE = 16
ASKED = 150  # captions of each kind that were trained on
LANGUAGES = ("fr", "de", "es", "it", "pt", "ru", "ja", "zh")
FIRST = 5  # pictures among which one has to carry a word

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
Row = dict[str, Any]


def hashed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def words_of(row: Row) -> set[str]:
    """The English aliases and keywords of an emoji."""
    return {caption_key(word) for word in (*row["aliases"], *row["keywords"])}


class Pack:
    """The pack's rows and pictures, and what of them is held out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = [json.loads(line) for line in (folder / "manifest.jsonl").open(encoding="utf-8")]
        pairs = [row for row in self.rows if row["split"] == "train" and len(row.get("skin_tone") or ()) == 1]
        pairs.sort(key=lambda row: hashed(f"pair {row['id']}"))
        self.held_out = {row["id"] for row in pairs[:PAIRS]}
        self.choosing = {row["id"] for row in pairs[PAIRS : PAIRS + CHOOSING]}
        names = {caption_key(row["name"]) for row in self.rows}
        words = {word for row in self.rows for word in words_of(row)} - names
        self.words = sorted(word for word in words if hashed(f"word {word}") % 10 == 0)
        self.unseen = {row["id"] for row in self.rows if row["split"] == "valid"} | self.held_out
        self.trained = [row for row in self.rows if row["id"] not in self.unseen | self.choosing]

    def picture(self, row: Row) -> Picture:
        return Picture.read(self.folder / row["picture"])

    @cached_property
    def on_grey(self) -> Float[np.ndarray, "pictures side side 3"]:
        """Every picture that is not the same as an earlier one."""
        return self._distinct[0]

    @cached_property
    def number(self) -> list[int]:
        """The picture of each row, by its place in `on_grey`."""
        return self._distinct[1]

    @cached_property
    def _distinct(self) -> tuple[np.ndarray, list[int]]:
        pixels = [self.picture(row).on(GREY).square(SIDE).pixels for row in self.rows]
        known: dict[bytes, int] = {}
        number = [known.setdefault((one * 255).round().astype(np.uint8).tobytes(), len(known)) for one in pixels]
        firsts = dict(zip(reversed(number), reversed(range(len(number))), strict=True))
        return np.stack([pixels[firsts[i]] for i in range(len(known))]), number

    def nearest(self, pictures: Sequence[Picture], count: int = 1) -> Int[np.ndarray, "pictures count"]:
        """The `count` nearest of `on_grey` to each picture, nearest first."""
        return np.argsort(self.distances(pictures), axis=1, kind="stable")[:, :count]

    def distances(self, pictures: Sequence[Picture]) -> Float[np.ndarray, "pictures distinct"]:
        """Root mean square differences, each at the best of the shifts."""
        inside = slice(SHIFT, SIDE - SHIFT)
        known = torch.from_numpy(self.on_grey[:, inside, inside].reshape(len(self.on_grey), -1))
        squares = known.square().sum(1)
        found = []
        for picture in pictures:
            pixels = picture.on(GREY).square(SIDE).pixels
            moved = [
                pixels[down : down + SIDE - 2 * SHIFT, across : across + SIDE - 2 * SHIFT].flatten()
                for down, across in product(range(2 * SHIFT + 1), repeat=2)
            ]
            asked = torch.from_numpy(np.stack(moved))
            away = asked.square().sum(1)[:, None] - 2 * asked @ known.T + squares
            found.append((away.min(0).values.clamp_min(0) / known.shape[1]).sqrt().numpy())
        return np.stack(found)


@app.command()
def split(
    pack: Path,
    folder: Path,
    half: Annotated[int | None, typer.Option(min=0, max=1, help="Only one half of the bases.")] = None,
) -> None:
    """Copies what may be trained on into FOLDER, with a manifest; `valid` are the pairs that choose the weights."""
    held = Pack(pack)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    hidden, lines = set(held.words), []
    for row in held.rows:
        if row["id"] in held.unseen or (half is not None and hashed(f"half {row.get('base', row['id'])}") % 2 != half):
            continue
        shutil.copyfile(pack / row["picture"], folder / row["picture"])
        kept = {key: [word for word in row[key] if caption_key(word) not in hidden] for key in ("aliases", "keywords")}
        lines.append({**row, **kept, "split": "valid" if row["id"] in held.choosing else "train"})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(folder / "manifest.jsonl", text.encode())
    valid = sum(line["split"] == "valid" for line in lines)
    said = f"{len(lines)} pictures, {valid} of them valid; {len(held.unseen)} pictures and "
    typer.echo(f"{folder}: {said}{len(held.words)} words are held out")


def drawn(model: Generator, prompts: Sequence[str], seed: int = 0, **how: Any) -> list[Picture]:
    """A picture for each prompt, as the model draws where nothing is said; each prompt has a seed of its own."""
    made: list[Picture] = []
    with ProgressBar("drawing") as bar:
        for begin in range(0, len(prompts), AT_ONCE):
            some = prompts[begin : begin + AT_ONCE]
            seeds = range(seed + begin, seed + begin + len(some))
            made += [PICTURE.restore(one, model.spec, {}) for one in model.draw(some, list(seeds), **how)]
            bar(begin + len(some), len(prompts))
    return made


def best_of(model: Generator, prompts: Sequence[str], count: int, ranker: Embedder | None) -> list[Picture]:
    """The best of `count` for each prompt."""
    with ProgressBar("drawing") as bar:
        made = []
        for i, prompt in enumerate(prompts):
            made += model(prompt, seed=1000 * i, n=count, keep=1, ranker=ranker)
            bar(i + 1, len(prompts))
    return made


class Asked:
    """Prompts of one kind, and which pictures are right for each."""

    def __init__(self, name: str, prompts: Sequence[str], right: Sequence[set[int]], first: int = 1) -> None:
        self.name, self.prompts, self.right, self.first = name, list(prompts), list(right), first

    def score(self, pack: Pack, pictures: Sequence[Picture]) -> tuple[Estimate, list[bool]]:
        found = pack.nearest(pictures, self.first)
        hits = [bool(right & set(row.tolist())) for right, row in zip(self.right, found, strict=True)]
        return share(sum(hits), len(hits)), hits


class Reader:
    """What an encoder reads a picture as: how far in front the right names are among the English names of the pack."""

    def __init__(self, pack: Pack, embedder: Embedder) -> None:
        self.numbers = torch.tensor(pack.number)
        self.embedder, self.role = embedder, embedder.role_of("picture")
        self.names = embedder.embed([row["name"] for row in pack.rows], embedder.role_of(None))

    def score(self, asked: Asked, pictures: Sequence[Picture], first: int) -> Estimate:
        """The share of pictures with a right name among the first."""
        alike = self.embedder.embed(pictures, self.role) @ self.names.T
        found = self.numbers[alike.topk(first).indices]
        hits = [bool(right & set(row.tolist())) for right, row in zip(asked.right, found, strict=True)]
        return share(sum(hits), len(hits))


def kinds(pack: Pack, seed: int = 0) -> list[Asked]:
    """All that a model is asked for."""
    generator = np.random.default_rng(seed)
    number = dict(zip((row["id"] for row in pack.rows), pack.number, strict=True))

    def some(rows: Sequence[Row]) -> list[Row]:
        return [rows[i] for i in generator.permutation(len(rows))[:ASKED]]

    def named(name: str, rows: Iterable[Row], language: str | None = None) -> Asked:
        rows = list(rows)
        prompts = [row["name"] if language is None else row["names"][language] for row in rows]
        return Asked(name, prompts, [{number[row["id"]]} for row in rows])

    toned = [row for row in pack.trained if row.get("base")]
    untoned = [row for row in pack.trained if not row.get("base")]
    pairs = [row for row in pack.rows if row["id"] in pack.unseen and row.get("base")]
    carried = {word: {number[row["id"]] for row in pack.rows if word in words_of(row)} for word in pack.words}
    asked = [
        named("trained, toned", some(toned)),
        named("trained, untoned", some(untoned)),
        named("held-out pairs", pairs),
        Asked("held-out words, first 5", pack.words, [carried[word] for word in pack.words], FIRST),
    ]
    for language in LANGUAGES:
        rows = [row for row in untoned if language in row["names"]]
        asked.append(named(f"trained, untoned, {language}", some(rows)[: ASKED // 2], language))
    return asked


def parts_right(pack: Pack, pictures: Sequence[Picture], rows: Sequence[Row]) -> tuple[Estimate, Estimate]:
    """How often the nearest picture has the right base, and how often the right tone."""
    of = {}
    for row, number in zip(pack.rows, pack.number, strict=True):
        of.setdefault(number, row)
    found = [of[int(i)] for i in pack.nearest(pictures)[:, 0]]
    bases = sum(one.get("base", one["id"]) == row["base"] for one, row in zip(found, rows, strict=True))
    tones = sum(one.get("skin_tone") == row["skin_tone"] for one, row in zip(found, rows, strict=True))
    return share(bases, len(rows)), share(tones, len(rows))


@app.command()
def judge(
    model: str,
    pack: Path,
    keep: Annotated[int, typer.Option(help="Draw so many and keep the best; 1: a single draw.")] = 1,
    ranker: str | None = None,
    by: Annotated[str | None, typer.Option(help="Encoders that name what was drawn, beside the pixels.")] = None,
    only: Annotated[str, typer.Option(help="Kinds whose name begins so.")] = "",
    most: Annotated[int, typer.Option(help="Prompts of each kind.")] = 10_000,
    guidance: float | None = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures to this JSON file.")] = None,
) -> None:
    """What is asked for against what is drawn, each kind with its interval."""
    held, made_by = Pack(pack), load_generator(model)
    chooses = None if ranker is None else load_embedder(ranker)
    reader = None if by is None else Reader(held, load_embedder(by))
    figures: dict[str, Any] = {}
    everything: list[tuple[Picture, str]] = []
    for asked in kinds(held):
        if not asked.name.startswith(only):
            continue
        asked = Asked(asked.name, asked.prompts[:most], asked.right[:most], asked.first)
        if keep == 1:
            pictures = drawn(made_by, asked.prompts, guidance=guidance)
        else:
            pictures = best_of(made_by, asked.prompts, keep, chooses)
        estimate, hits = asked.score(held, pictures)
        line = f"{asked.name:28} {estimate.value:6.1%}  {estimate.low:.1%} to {estimate.high:.1%} of {len(hits)}"
        figures[asked.name] = {"right": estimate.value, "low": estimate.low, "high": estimate.high, "of": len(hits)}
        if asked.name == "held-out pairs":
            rows = [row for row in held.rows if row["id"] in held.unseen and row.get("base")][:most]
            base, tone = parts_right(held, pictures, rows)
            line += f"; base {base.value:.1%}, tone {tone.value:.1%}"
            figures[asked.name] |= {"base": base.value, "tone": tone.value}
        if reader is not None:
            read = {f"read as, first {k}": reader.score(asked, pictures, k).value for k in (1, FIRST)}
            line += "".join(f"; {name} {value:.1%}" for name, value in read.items())
            figures[asked.name] |= read
        typer.echo(line)
        everything += [(picture, asked.name) for picture in pictures]
    if everything:
        figures["distance"] = distance(held, everything)
        typer.echo("distance to the nearest picture trained on, median: " + str(figures["distance"]))
    if out is not None:
        write_atomically(out, json.dumps(figures, indent=2).encode())


def distance(pack: Pack, made: Sequence[tuple[Picture, str]]) -> dict[str, float]:
    """Median root mean square difference to the nearest picture trained on, of each kind, and beside it that of the
    pack's own held-out pictures."""
    trained = sorted({pack.number[i] for i, row in enumerate(pack.rows) if row in pack.trained})
    kinds = list(dict.fromkeys(kind for _, kind in made))
    found = {
        kind: float(np.median(pack.distances([one for one, its in made if its == kind])[:, trained].min(1)))
        for kind in kinds
    }
    own = [pack.picture(row) for row in pack.rows if row["id"] in pack.unseen]
    return {**found, "real, held out": float(np.median(pack.distances(own)[:, trained].min(1)))}


@app.command()
def codec(model: str, pack: Path) -> None:
    """PSNR inside the alpha mask of the untoned pictures of `valid`, and the codes in use over what was trained on."""
    held, network = Pack(pack), cymatic.load(model).codec  # type: ignore[union-attr]
    spec: PictureSpec = network.config.gives
    rows = [row for row in held.rows if row["split"] == "valid" and not row.get("base")]

    def encoded(row: Row) -> tuple[torch.Tensor, Any]:
        wanted = PICTURE.prepare(held.picture(row), spec)[None].float()
        return wanted[0, :3], network.encode(wanted)

    found = []
    with torch.inference_mode():
        for row in rows:
            wanted, latent = encoded(row)
            inside = torch.from_numpy(held.picture(row).square(spec.size).pixels[..., 3] > 0)
            error = (network.decode(latent)[0, :3] - wanted).square()[:, inside].mean()
            found.append(float(-10 * torch.log10(error.clamp_min(1e-10))))
        middle = f"{np.mean(found):.2f} dB, median {np.median(found):.2f}"
        typer.echo(f"PSNR inside the mask of {len(rows)} pictures: {middle}")
        if network.sizes:
            used = {code for row in held.trained for code in encoded(row)[1].codes.flatten().tolist()}
            size = network.sizes[0]
            typer.echo(
                f"in use over {len(held.trained)} pictures: {len(used)} of {size} codes ({len(used) / size:.1%})"
            )


@app.command("recall")
def recalls(model: str, pack: Path) -> None:
    """Recall in the first 1, 5 and 10 both ways: of held-out pairs, and of the untoned pictures of `valid`."""
    held, embedder = Pack(pack), load_embedder(model)
    picture, words = embedder.role_of("picture"), embedder.role_of(None)
    toned = [row for row in held.rows if row["id"] in held.unseen and row.get("base")]
    untoned = [row for row in held.rows if row["split"] == "valid" and not row.get("base")]
    for name, rows in (("toned", toned), ("untoned", untoned)):
        pictures = embedder.embed([held.picture(row) for row in rows], picture)
        texts = embedder.embed([row["name"] for row in rows], words)
        number = dict(zip((row["id"] for row in held.rows), held.number, strict=True))
        alike = same([(row["name"], str(number[row["id"]])) for row in rows])
        for k in (1, 5, 10):
            to, back = recall(texts @ pictures.T, alike, k), recall(pictures @ texts.T, alike, k)
            typer.echo(
                f"{name:8} @{k:<2} words to pictures {to:6.1%}, pictures to words {back:6.1%}, by chance "
                f"{chance(alike, k):.1%} of {len(rows)}"
            )


@app.command("sheet")
def draw_sheet(
    model: str,
    png: Path,
    prompt: Annotated[list[str], typer.Option(help="One of the prompts; again for the next.")],
    seeds: int = 6,
) -> None:
    """Prompts x seeds on one picture."""
    made_by = load_generator(model)
    items: list[tuple[str, Picture] | None] = []
    for one in prompt:
        items += [(one if i == 0 else "", picture) for i, picture in enumerate(made_by(one, n=seeds))]
    sheet(png, items, seeds, side=64)


if __name__ == "__main__":
    try:
        app()
    except Error as error:
        raise SystemExit(f"emoji: {error}") from None
