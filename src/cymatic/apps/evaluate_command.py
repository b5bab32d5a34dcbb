"""`cymatic evaluate`: a model's numbers as JSON, as a page, and on one screen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cymatic.apps.clips import clips_of
from cymatic.apps.outputs import check_not_source
from cymatic.apps.progress import Phases
from cymatic.apps.recall_report import recall_report
from cymatic.apps.report_page import page
from cymatic.apps.terminal import printable
from cymatic.data.facts import usual_rate
from cymatic.errors import Error
from cymatic.evaluation.audio import FRONT_ENDS, check_rate, classifier_rate, read_sounds, sounds_by
from cymatic.evaluation.classifiers import Classifier
from cymatic.evaluation.contact import CONTACTS, MOST_SHOWN, contact_sheet
from cymatic.evaluation.corpus import Corpus
from cymatic.evaluation.evaluable import Generates
from cymatic.evaluation.evaluate import MADE, REAL, SHOWN, Evaluation, check_labels, evaluate
from cymatic.evaluation.folder_classifier import train_on
from cymatic.evaluation.generation import check_corpus, check_count
from cymatic.evaluation.picture_classifier import PictureClassifier, shared_captions, train_on_pictures
from cymatic.evaluation.pictures import pictures_by
from cymatic.evaluation.plain import as_json, plain
from cymatic.evaluation.probe import Probe
from cymatic.evaluation.values import read_values, values_of
from cymatic.files import reason, write_atomically
from cymatic.folder_lock import only_writer
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.hub.pipeline_file import read_pipeline
from cymatic.media.audio import AUDIO
from cymatic.media.picture import PICTURE
from cymatic.pipelines.load import find_model, load, load_embedder
from cymatic.version import __version__

REPORT, PAGE, CLASSIFIER = "report.json", "report.html", "classifier"
OWN_SECONDS = 75.0  # to train a classifier where none is given
NOT_INCEPTION = " (a small net of cymatic's own, not Inception: no FID)"
FORMAT = 2

# What of an evaluation stands in the report as it is.
MEASURED = (
    "reconstruction", "codes", "likelihood", "latent", "caption_sensitivity", "accuracy", "tried_on", "distances",
    "neighbours", "diversity", "missing", "notes",
)  # fmt: skip


def evaluate_command(
    run: str, data: Path | None, classifier: Path | None, n: int, seed: int, output: Path, captions: str | None = None
) -> None:
    """Writes report.json and report.html into `output`. Raises Error for what the user can mend."""
    began = time.monotonic()
    check_count(n)
    if seed < 0:
        raise Error(f"the seed is {seed}; give a whole number from 0")
    check_folder(output)
    with only_writer(output), Phases("clips") as show:
        _evaluate(run, data, classifier, n, seed, output, captions, began, show)


def _evaluate(
    run: str, data: Path | None, classifier: Path | None, n: int, seed: int, output: Path, captions: str | None,
    began: float, show: Phases,
) -> None:  # fmt: skip
    def say(line: str) -> None:
        show.end()
        print(printable(line), file=sys.stderr)

    def reading(done: int, total: int) -> None:
        show("reading", done, total)

    if read_pipeline(find_model(run)).is_space:
        return recall_report(load_embedder(run), run, data, output, captions, say, show)
    model: Any = load(run)
    given: Any = load_part(classifier, (Classifier, PictureClassifier)) if classifier is not None else None
    sources, longest, long = clips_of(run, data, model.medium, captions=captions, say=say)
    check_not_source(output, *(source.folder.root for source in sources.packs), hint="give another folder with -o")
    sounds, pictures, rate = model.medium is AUDIO, model.medium is PICTURE, 0
    if sounds:
        rate = classifier_rate(usual_rate(sources.of("train")), model.rate)
        corpus = read_sounds(sources, model.rate, longest=longest, long=long, on_clip=reading)
        domain = sounds_by(model.spec if model.spec.vocoded else FRONT_ENDS[rate])
    else:
        corpus = read_values(sources, model.medium, on_clip=reading)
        domain = pictures_by(model.spec) if pictures else values_of(model.medium)
    if isinstance(model, Generates):
        check_corpus(model, corpus)  # type: ignore[arg-type]
    if given is not None and classifier is not None:
        read = AUDIO if isinstance(given, Classifier) else PICTURE
        if read is not model.medium:
            raise Error(
                f"{classifier} is a classifier of {read.nouns}, and {run} makes {model.medium.nouns}; leave it out"
            )
        if sounds:
            check_rate(given.rate, classifier.name, model)
        check_labels(given, classifier.name, corpus)
    say(f"{len(corpus.train)} {domain.nouns} trained on and {len(corpus.valid)} held out, of {', '.join(corpus.names)}")
    why = None
    origin = "given with --classifier"
    recogniser: Any = given
    try:
        if given is None and sounds:
            say(
                f"training a classifier on {len(corpus.train)} clips (about {OWN_SECONDS:.0f} s; "
                "--classifier gives one)"
            )
            given, steps = train_on(
                corpus.train, rate=rate, seconds=OWN_SECONDS,
                progress=lambda step, steps: show("training a classifier", step, steps, f"step {step} of {steps}"),
            )  # fmt: skip
            recogniser = given
            origin = f"trained for this report on {len(corpus.train)} training clips, {steps} steps"
        elif given is None and pictures and shared_captions(corpus.train):
            say(
                f"training a classifier on {len(corpus.train)} pictures (about {OWN_SECONDS:.0f} s; "
                "--classifier gives one)"
            )
            given, steps = train_on_pictures(
                corpus.train, model.spec, seconds=OWN_SECONDS,
                progress=lambda step, steps: show("training a classifier", step, steps, f"step {step} of {steps}"),
            )  # fmt: skip
            recogniser = given
            origin = f"trained for this report on {len(corpus.train)} training pictures, {steps} steps"
        elif given is None:
            recogniser = Probe(corpus.train, domain, corpus.valid.captions)
            origin = f"a probe of {domain.name}s, from {len(corpus.train)} training {domain.nouns}"
    except Error as error:
        why = str(error)
    output.mkdir(parents=True, exist_ok=True)
    place = classifier
    if given is not None and classifier is None:
        place = output / CLASSIFIER
        save_part(place, given)
    name = classifier.name if classifier is not None else f"{model.name}'s own classifier"
    found = evaluate(
        model, corpus, recogniser, domain, n=n, seed=seed, name=name, most_shown=MOST_SHOWN, say=say, on_clip=show
    )
    show.end()
    if why is not None:
        found.missing["accuracy"] = found.missing["distances"] = f"there is no classifier, for {why}"
    report = report_of(model, corpus, found, n)
    if recogniser is not None:
        # A probe is learned anew from the clips each time, so it has no hash.
        sha256 = None if given is None or place is None else fingerprint([place])
        report["classifier"] = {
            "name": name, "origin": origin, "sha256": sha256, "rate": getattr(given, "rate", None),
            "labels": recogniser.labels,
        }  # fmt: skip
        report["embedding"] = {
            "name": f"the features of the classifier {name}{NOT_INCEPTION if pictures else ''}", "sha256": sha256,
            "dim": recogniser.embedding(corpus.train.values[:1]).shape[1],
        }  # fmt: skip
    report["summary"] = summary(report)
    report["seconds"] = round(time.monotonic() - began, 1)
    report = plain(report)
    write_atomically(output / REPORT, as_json(report))
    sheet = contact_sheet(output / CONTACTS, found.shown, domain, model.medium)
    some = found.shown[:: max(1, len(found.shown) // SHOWN)][:SHOWN]
    write_atomically(output / PAGE, page(report, some, model.medium, sheet).encode())
    for line in [*report["summary"], *(f"note: {note}" for note in report["notes"])]:
        print(printable(line))
    places = [output / PAGE, output / REPORT, *([sheet] if sheet is not None else [])]
    print(printable("  and  ".join(map(str, places))))


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


def report_of(model: Any, corpus: Corpus, found: Evaluation, n: int) -> dict[str, Any]:
    """What report.json holds, before the classifier is named."""
    values = asdict(replace(found, shown=[]))
    reads = {"medium": model.medium.name, "spec": model.spec.model_dump(mode="json")}
    return {
        "format": FORMAT,
        "cymatic": __version__,
        "commit": commit(),
        "torch": torch.__version__,
        "model": {"name": model.name, "sha256": model.sha256, "reads": reads},
        "data": {
            "folders": corpus.names,
            "sha256": corpus.sha256,
            "train": corpus.there[0],
            "valid": corpus.there[1],
            "train_read": len(corpus.train),
            "valid_read": len(corpus.valid),
            "skipped": len(corpus.skipped),
        },
        "classifier": None,
        "embedding": None,
        "protocol": {
            "n": n if found.asked else 0,
            "captions": found.asked,
            "seeds": found.seeds,
            "held_out": found.held_out,
            "reference": found.reference,
        },
        **{name: values[name] for name in MEASURED},
    }


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
    accuracy = report["accuracy"]
    for question in accuracy.get(MADE, accuracy.get(REAL, {})):
        rights = {what: accuracy[what][question]["right"] for what in accuracy if question in accuracy[what]}
        parts = [f"{what} {_text(right, percent=True)} of {right['n']}" for what, right in rights.items()]
        lines.append(f'As it was meant, "{question}": {"; ".join(parts)}.')
    distances = report["distances"]
    for measure, title in (("frechet", "Fréchet distance"), ("kernel", "Kernel distance")):
        if MADE in distances:
            parts = [
                f"{what} {_text(one[measure], 2 if measure == 'frechet' else 3)}" for what, one in distances.items()
            ]
            lines.append(f"{title} from training clips, by the classifier's features: {'; '.join(parts)}.")
    for question in distances.get(MADE, {}).get("mkl", {}):
        parts = [f"{what} {_text(one['mkl'][question], 3)}" for what, one in distances.items()]
        lines.append(f'MKL, "{question}": {"; ".join(parts)}.')
    for kind, one in report["neighbours"].items():
        by = "the classifier's features" if kind == "classifier" else f"{kind}s"
        varied = report["diversity"].get(kind)
        more = f"; takes of one caption differ {_text(varied)} times as much as real ones" if varied else ""
        lines.append(
            f"By {by}: {_text(one['ratio'])} times as far from the nearest training clip as {one['of']}{more}."
        )
    for way, losses in report["reconstruction"].items():
        names = {
            "mel_l1": ("mel L1", 3),
            "log_spectral_distance": ("log-spectral distance", 2),
            "stoi": ("STOI", 3),
            "psnr": ("PSNR in dB", 1),
            "distance": ("distance", 3),
        }
        parts = [f"{title} {_text(losses[name], digits)}" for name, (title, digits) in names.items() if name in losses]
        lines.append(f"Through the {way}: {', '.join(parts)}.")
    for name, codes in report["codes"].items():
        used = f"perplexity {_text(codes['perplexity'], 1)} of {codes['size']}, {codes['unused']} never used"
        lines.append(f"{name.capitalize()}: {used}.")
    if (nll := report["likelihood"]) is not None:
        lines.append(f"Held out: {_text(nll['nats_a_code'], 3)} nats a code (knowing nothing: {nll['uniform']:.3f}).")
    if (latent := report["latent"]) is not None:
        lines.append(
            f"Latent: {latent['active']} of {latent['dim']} numbers active, {latent['mutual_information']:.2f} nats of "
            f"mutual information, divergence {_text(latent['divergence'])} nats."
        )
    if (sensed := report["caption_sensitivity"]) is not None:
        rise = sensed["wrong"] / sensed["right"] - 1
        lines.append(f"With wrong captions the loss is {100 * rise:.1f} % of it higher ({sensed['clips']} clips).")
    return lines


def _text(found: Mapping[str, Any], digits: int = 2, percent: bool = False) -> str:
    def one(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.{digits}f}"

    unit = " %" if percent else ""
    if found["low"] is None or found["low"] != found["low"]:
        return f"{one(found['value'])}{unit}"
    return f"{one(found['value'])}{unit} ({one(found['low'])} to {one(found['high'])})"
