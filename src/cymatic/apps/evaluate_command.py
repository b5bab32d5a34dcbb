"""`cymatic evaluate`: a model's numbers as JSON, as a page, and on one screen."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from cymatic.apps.clips import clips_of
from cymatic.apps.report_page import page
from cymatic.apps.terminal import printable
from cymatic.data.facts import usual_rate
from cymatic.errors import Error, ModelError
from cymatic.evaluation.classifiers import Classifier
from cymatic.evaluation.evaluable import Evaluable
from cymatic.evaluation.evaluate import (
    MADE,
    REAL,
    THROUGH,
    Evaluation,
    check_corpus,
    check_count,
    check_judge,
    evaluate,
)
from cymatic.evaluation.folder_classifier import judge_rate, train_on
from cymatic.evaluation.recordings import Corpus, as_json, plain, read_corpus
from cymatic.files import reason, write_atomically
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.pipelines.load import load_maker
from cymatic.pipelines.wave_codes_to_sound import WaveCodesToSound
from cymatic.version import __version__

REPORT, PAGE, JUDGE = "report.json", "report.html", "judge"
OWN_SECONDS = 75.0  # to train a judge where none is given
FORMAT = 1


def evaluate_command(run: str, data: Path | None, judge: Path | None, n: int, seed: int, output: Path) -> None:
    """Writes report.json and report.html into `output`. Raises Error for what the user can mend."""
    began = time.monotonic()
    check_count(n)
    if seed < 0:
        raise Error(f"the seed is {seed}; give a whole number from 0")
    check_folder(output)
    console = Console(stderr=True)

    def say(line: str) -> None:
        console.out(printable(line), highlight=False)

    made = load_maker(run)
    if isinstance(made, WaveCodesToSound):
        raise ModelError(f"{run} makes sounds without a mel, which evaluate compares by; give another kind of model")
    model = cast(Evaluable, made)
    given = load_part(judge, (Classifier,)) if judge is not None else None
    sources, longest, long = clips_of(run, data)
    corpus = read_corpus(sources, model.rate, longest=longest, long=long)
    check_corpus(model, corpus)
    if given is not None and judge is not None:
        check_judge(given, judge.name, model, corpus)
    say(f"{len(corpus.train)} clips trained on and {len(corpus.valid)} held out, of {', '.join(corpus.names)}")
    no_judge = None
    origin = "given with --judge"
    if given is None:
        rate = judge_rate(usual_rate(sources.of("train")), model.rate)
        say(f"training a judge on {len(corpus.train)} clips (about {OWN_SECONDS:.0f} s; --judge gives one)")
        try:
            given, steps = train_on(corpus.train, rate=rate, seconds=OWN_SECONDS)
            origin = f"trained for this report on {len(corpus.train)} training clips, {steps} steps"
        except Error as error:
            no_judge = str(error)
    output.mkdir(parents=True, exist_ok=True)
    place = judge
    if given is not None and judge is None:
        place = output / JUDGE
        save_part(place, given)
    name = place.name if judge is not None and place is not None else f"{model.name}'s own judge"
    found = evaluate(model, corpus, given, n=n, seed=seed, name=name, say=say)
    if no_judge is not None:
        found.missing["judged"] = found.missing["distances"] = f"there is no judge, for {no_judge}"
    report = report_of(model, corpus, found, n)
    if given is not None and place is not None:
        sha256 = fingerprint([place])
        report["judge"] = {
            "name": name, "origin": origin, "sha256": sha256, "rate": given.rate, "labels": given.config.labels,
        }  # fmt: skip
        report["embedding"] = {
            "name": f"the features of the judge {name}", "sha256": sha256, "dim": given.config.trunk.dim,
        }  # fmt: skip
    report["summary"] = summary(report)
    report["seconds"] = round(time.monotonic() - began, 1)
    report = plain(report)
    write_atomically(output / REPORT, as_json(report))
    write_atomically(output / PAGE, page(report, found.shown).encode())
    for line in [*report["summary"], *(f"note: {note}" for note in report["notes"])]:
        print(printable(line))
    print(printable(f"{output / PAGE}  and  {output / REPORT}"))


def check_folder(output: Path) -> None:
    """Raises Error where no folder `output` can be written."""
    try:
        if output.exists() and not output.is_dir():
            raise Error(f"{output} is a file, and the report is a folder; give another name with -o")
        above = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:  # a name too long, a NUL
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise Error(f"{str(output)!r:.200} can't be written: {why}; give another name with -o") from None
    if not above.is_dir():
        raise Error(f"{output} can't be written: {above} is not a folder; give another name with -o")
    if not os.access(above, os.W_OK):
        raise Error(f"{output} can't be written: permission denied; give a folder that you may write to")


def report_of(model: Evaluable, corpus: Corpus, found: Evaluation, n: int) -> dict[str, Any]:
    """What report.json holds, before the judge is named."""
    values = asdict(replace(found, shown=[]))
    spec = model.mel.model_dump(mode="json")
    return {
        "format": FORMAT,
        "cymatic": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "model": {"name": model.name, "sha256": model.sha256, "rate": model.rate, "mel": spec},
        "data": {
            "folders": corpus.names,
            "sha256": corpus.sha256,
            "train": corpus.there[0],
            "valid": corpus.there[1],
            "train_read": len(corpus.train),
            "valid_read": len(corpus.valid),
            "skipped": len(corpus.skipped),
        },
        "judge": None,
        "embedding": None,
        "protocol": {
            "n": n,
            "captions": found.asked,
            "seeds": found.seeds,
            "held_out": found.held_out,
            "reference": found.reference,
        },
        **{
            name: values[name]
            for name in (
                "reconstruction", "codes", "likelihood", "latent", "judged", "distances", "neighbours", "diversity",
                "missing", "notes",
            )
        },
    }  # fmt: skip


def commit() -> str | None:
    """The commit of the checkout that this code runs from; None where it is installed, or git is not there."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # An environment inside some other project's checkout is none of that project's commits.
        return git("describe", "--always", "--dirty", "--abbrev=40") if git("ls-files", Path(__file__).name) else None
    except (OSError, subprocess.SubprocessError):
        return None


def summary(report: Mapping[str, Any]) -> list[str]:
    """One screen of it."""
    lines = []
    judged = report["judged"]
    for question in judged.get(MADE, {}):
        parts = [
            f"{what} {_said(judged[what][question]['right'], percent=True)} of {judged[what][question]['right']['n']}"
            for what in (REAL, THROUGH, MADE)
            if question in judged.get(what, {})
        ]
        lines.append(f'Heard as meant, "{question}": {"; ".join(parts)}.')
    distances = report["distances"]
    for measure, title in (("frechet", "Fréchet distance"), ("kernel", "Kernel distance")):
        if MADE in distances:
            parts = [
                f"{what} {_said(one[measure], 2 if measure == 'frechet' else 3)}" for what, one in distances.items()
            ]
            lines.append(f"{title} from training clips, by the judge's features: {'; '.join(parts)}.")
    for question in distances.get(MADE, {}).get("mkl", {}):
        parts = [f"{what} {_said(one['mkl'][question], 3)}" for what, one in distances.items()]
        lines.append(f'MKL, "{question}": {"; ".join(parts)}.')
    for kind, one in report["neighbours"].items():
        by = "mels" if kind == "mel" else "the judge's features"
        varied = report["diversity"].get(kind)
        more = f"; takes of one caption differ {_said(varied)} times as much as real ones" if varied else ""
        lines.append(
            f"By {by}: {_said(one['ratio'])} times as far from the nearest training clip as held-out clips{more}."
        )
    for way, losses in report["reconstruction"].items():
        names = {"mel_l1": ("mel L1", 3), "log_spectral_distance": ("log-spectral distance", 2), "stoi": ("STOI", 3)}
        parts = [f"{title} {_said(losses[name], digits)}" for name, (title, digits) in names.items() if name in losses]
        lines.append(f"Through the {way}: {', '.join(parts)}.")
    if (codes := report["codes"]) is not None:
        lines.append(
            f"Codes: perplexity {_said(codes['perplexity'], 1)} of {codes['size']}, {codes['unused']} never used."
        )
    if (nll := report["likelihood"]) is not None:
        lines.append(f"Held out: {_said(nll['nats_a_code'], 3)} nats a code (knowing nothing: {nll['uniform']:.3f}).")
    if (latent := report["latent"]) is not None:
        lines.append(
            f"Latent: {latent['active']} of {latent['dim']} numbers active, {latent['mutual_information']:.2f} nats of "
            f"mutual information, divergence {_said(latent['divergence'])} nats."
        )
    return lines


def _said(found: Mapping[str, Any], digits: int = 2, percent: bool = False) -> str:
    def one(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.{digits}f}"

    unit = " %" if percent else ""
    if found["low"] is None or found["low"] != found["low"]:
        return f"{one(found['value'])}{unit}"
    return f"{one(found['value'])}{unit} ({one(found['low'])} to {one(found['high'])})"
