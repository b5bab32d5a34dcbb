"""An evaluation as one page that needs nothing else: pictures and players inside it, no script, no network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from cymatic.evaluation.evaluate import MADE, REAL, THROUGH, Shown
from cymatic.media.audio_files import encoded
from cymatic.media.plot import thumbnail
from cymatic.media.sound import Sound

HEARD = 5.0  # seconds of a clip that can be played and seen
BARS = 256  # of the histogram at most
MISHEARD = 8  # mistakes named for each question

STYLE = """
:root { color-scheme: light dark; --ink: #1d2733; --faint: #66717d; --line: #d5dbe1; --back: #fff; --blue: #2b6ca8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --faint: #97a3af; --line: #36404a; --back: #14191f; --blue: #7fb4e0; }
  img { filter: invert(1) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p, ul { margin: .4rem 0; max-width: 46rem; }
.faint, figcaption, caption { color: var(--faint); font-size: .85rem; }
.note { border-left: 3px solid #d08a1d; padding-left: .7rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0; overflow-wrap: normal; }
caption { text-align: left; caption-side: bottom; padding-top: .3rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } td small { color: var(--faint); white-space: nowrap; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .75rem; }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; height: 6rem; display: block; border: 1px solid var(--line); }
audio { width: 100%; height: 2.2rem; margin-top: .25rem; } svg { width: 100%; height: 8rem; display: block; }
"""

MEASURES = {
    "mel_l1": ("mel L1", "nepers", 3),
    "log_spectral_distance": ("log-spectral distance", "dB", 2),
    "multi_scale_mel_distance": ("multi-scale mel distance", "nepers", 3),
    "stoi": ("STOI", "0 to 1, speech only", 3),
}


def page(report: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """The page of `report` (what report.json holds) with the clips in `shown`."""
    name = report["model"]["name"]
    parts = [
        f"<h1>How good is {escape(name)}?</h1>",
        f'<p class="faint">{_plan(report)}</p>',
        "".join(f"<p>{escape(line)}</p>" for line in report["summary"]),
        "".join(f'<p class="note">{escape(line)}</p>' for line in report["notes"]),
        _clips(shown),
        _accuracy(report),
        _distances(report),
        _memory(report),
        _reconstruction(report),
        _codes(report),
        _particulars(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>How good is {escape(name)}?</title><style>{STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


def _plan(report: Mapping[str, Any]) -> str:
    plan = report["protocol"]
    return (
        f"{plan['n']} clips of {len(plan['captions'])} captions, seeds {plan['seeds'][0]} to {plan['seeds'][1]}, the "
        f"model's own settings, no selection. In parentheses: 95 % intervals."
    )


def _clips(shown: Sequence[Shown]) -> str:
    rows = []
    for one in shown:
        three = ((REAL, one.real), (THROUGH, one.through), (MADE, one.made))
        figures = "".join(_figure(f"{what}: {one.caption}", what, sound) for what, sound in three if sound is not None)
        rows.append(f'<h3>{escape(one.caption)}</h3><div class="row">{figures}</div>')
    return (
        "<h2>Look and listen</h2><p class='faint'>Mel spectrograms, low notes below, 80 dB deep; each fills its field. "
        f"The first take of each caption.</p>{''.join(rows)}"
    )


def _figure(alt: str, what: str, sound: Sound) -> str:
    # Players should be about equally loud, whatever the recording's level was.
    some = sound.cut(0, HEARD).at_loudness(-23)
    picture = f"data:image/png;base64,{b64encode(thumbnail(some)).decode()}"
    player = f"data:audio/mpeg;base64,{b64encode(encoded(some.samples, some.rate, None, 'clip.mp3')).decode()}"
    return (
        f'<figure><img src="{picture}" alt="Mel spectrogram, {escape(alt, quote=True)}">'
        f'<audio controls preload="none" src="{player}"></audio>'
        f"<figcaption>{escape(what)}, {sound.seconds:.2f} s</figcaption></figure>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table whose cells are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    said = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="wide"><table>{said}<tr>{head}</tr>{body}</table></div>'


def cell(found: Mapping[str, Any] | None, digits: int = 2, percent: bool = False) -> str:
    """A number and its interval."""
    if found is None or found["value"] is None:
        return "–"

    def said(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.{digits}f}"

    unit = " %" if percent else ""
    if found["low"] is None:
        return f"{said(found['value'])}{unit}"
    return f"{said(found['value'])}{unit} <small>({said(found['low'])} to {said(found['high'])})</small>"


def _missing(report: Mapping[str, Any], what: str, title: str) -> str:
    why = report["missing"].get(what)
    return f"<h2>{title}</h2><p class='faint'>Not measured: {escape(why)}.</p>" if why else ""


def _accuracy(report: Mapping[str, Any]) -> str:
    judged, judge = report["judged"], report["judge"]
    if not judged:
        return _missing(report, "judged", "Heard as meant")
    questions = list(judged[MADE]) if MADE in judged else list(next(iter(judged.values())))
    rows = [
        [what, *(cell(found[q]["right"], percent=True) if q in found else "–" for q in questions), str(_count(found))]
        for what, found in judged.items()
    ]
    mistakes = []
    for question in questions:
        wrong = judged.get(MADE, {}).get(question, {}).get("misheard", [])[:MISHEARD]
        if wrong:
            listed = "; ".join(f"“{escape(m)}” as “{escape(h)}”{f' ({n})' if n > 1 else ''}" for m, h, n in wrong)
            mistakes.append(f"<p>Generated, {escape(question)}: {listed}.</p>")
    chance = ", ".join(f"{escape(q)} {one['chance']:.1%}" for q, one in next(iter(judged.values())).items())
    said = (
        f"Judge: {escape(judge['name'])}, {escape(judge['origin'])}. The same answer every time would give: {chance}."
    )
    return (
        f"<h2>Heard as meant</h2>{table(['clips', *map(escape, questions), 'n'], rows, said)}{''.join(mistakes)}"
        "<p class='faint'>The first row says how far the judge itself can be believed; the second what is left after "
        "the model's mel (and codec) and vocoder; no generated clip can be expected to do better than that.</p>"
    )


def _count(found: Mapping[str, Any]) -> int:
    return max((one["right"]["n"] for one in found.values()), default=0)


def _distances(report: Mapping[str, Any]) -> str:
    found = report["distances"]
    if not found:
        return _missing(report, "distances", "Like real clips on the whole?")
    questions = list(next(iter(found.values()))["mkl"])
    header = ["clips", "Fréchet", "kernel", *(f"MKL {escape(q)}" for q in questions), "precision", "recall", "n"]
    rows = [
        [
            what,
            cell(one["frechet"]),
            cell(one["kernel"], 3),
            *(cell(one["mkl"][question], 3) for question in questions),
            cell(one["precision"], percent=True),
            cell(one["recall"], percent=True),
            str(one["clips"]),
        ]
        for what, one in found.items()
    ]
    embedding = report["embedding"]
    said = (
        f"From {report['protocol']['reference']} training clips of the same captions, in {escape(embedding['name'])} "
        f"({embedding['sha256'][:12]}). Comparable within this table, and with other models in this same embedding at "
        "this n; with no other published Fréchet distance."
    )
    return (
        f"<h2>Like real clips on the whole?</h2>{table(header, rows, said)}"
        "<p class='faint'>Held-out recordings show what is within reach: the nearer the last row is to them, the "
        "better. Fréchet, kernel and MKL: 0 is alike.</p>"
    )


def _memory(report: Mapping[str, Any]) -> str:
    near, diversity = report["neighbours"], report["diversity"]
    if not near and not diversity:
        return _missing(report, "neighbours", "Copied? Varied?")
    rows = [
        [
            {"mel": "aligned mels", "judge": "the judge's embedding"}[kind],
            cell(near.get(kind, {}).get("ratio")),
            cell(near.get(kind, {}).get("nearer"), percent=True),
            cell(diversity.get(kind)),
        ]
        for kind in {**near, **diversity}
    ]
    header = ["features", "nearest to train / held out’s", "nearer than 1 % of held out", "diversity / real"]
    said = "Nearest training clip of the same caption; held-out clips went through the model first."
    return (
        f"<h2>Copied? Varied?</h2>{table(header, rows, said)}"
        "<p class='faint'>First column: 1 is as far as a new recording, towards 0 are copies. Diversity: 1 is as "
        "varied as recordings of one caption, 0 is one clip again and again.</p>"
    )


def _reconstruction(report: Mapping[str, Any]) -> str:
    found = report["reconstruction"]
    if not found:
        return _missing(report, "reconstruction", "What is lost on the way")
    names = [name for name in MEASURES if any(name in one for one in found.values())]
    header = ["through", *(f"{MEASURES[name][0]}, {MEASURES[name][1]}" for name in names)]
    rows = [[escape(way), *(cell(one.get(name), MEASURES[name][2]) for name in names)] for way, one in found.items()]
    why = report["missing"].get("stoi")
    stoi = f"<p class='faint'>No STOI: {escape(why)}.</p>" if why else ""
    said = f"Means over {report['protocol']['held_out']} held-out recordings."
    return f"<h2>What is lost on the way</h2>{table(header, rows, said)}{stoi}"


def _codes(report: Mapping[str, Any]) -> str:
    codes, nll = report["codes"], report["likelihood"]
    if codes is None and nll is None:
        return ""
    lines = []
    if codes is not None:
        lines.append(
            f"<p>Perplexity {cell(codes['perplexity'], 1)} of {codes['size']} codes "
            f"({codes['perplexity']['value'] / codes['size']:.0%} of it); {codes['unused']} never used by "
            f"{codes['clips']} held-out clips.</p>{histogram(codes['counts'])}"
            "<p class='faint'>How often each code was used, most frequent first.</p>"
        )
    if nll is not None:
        lines.append(
            f"<p>Negative log-likelihood of held-out clips: {cell(nll['nats_a_code'], 3)} nats a code; knowing nothing "
            f"gives {nll['uniform']:.3f}.</p>"
        )
    if (latent := report["latent"]) is not None:
        lines.append(
            f"<p>Latent: {latent['active']} of {latent['dim']} numbers vary over {latent['clips']} held-out clips; it "
            f"shares {latent['mutual_information']:.2f} nats with them, and their posteriors are "
            f"{cell(latent['divergence'], 2)} nats from the prior.</p>"
        )
    return f"<h2>Codes</h2>{''.join(lines)}"


def histogram(counts: Sequence[int]) -> str:
    """Bars of how often each code was used, in the order given; of many codes a bar stands for several."""
    step = -(-len(counts) // BARS)
    heights = [sum(counts[i : i + step]) / len(counts[i : i + step]) for i in range(0, len(counts), step)]
    top = max(heights) or 1.0
    bars = "".join(
        f'<rect x="{i}" y="{100 - 100 * height / top:.2f}" width=".9" height="{100 * height / top:.2f}"/>'
        for i, height in enumerate(heights)
        if height
    )
    said = f"{len(counts)} codes, from {max(counts)} uses to {min(counts)}"
    return (
        f'<svg viewBox="0 0 {len(heights)} 100" preserveAspectRatio="none" role="img" aria-label="{said}" '
        f'fill="var(--blue)">{bars}</svg>'
    )


def _particulars(report: Mapping[str, Any]) -> str:
    model, data, judge, plan = report["model"], report["data"], report["judge"], report["protocol"]
    rows = [
        ["model", f"{escape(model['name'])}, {model['rate']} Hz, {model['sha256']}"],
        [
            "clips",
            f"{escape(', '.join(data['folders']))}: {data['train']} to train on ({data['train_read']} read), "
            f"{data['valid']} held out ({data['valid_read']} read), {data['sha256']}",
        ],
        ["beside", f"{plan['held_out']} held-out and {plan['reference']} training clips of the captions asked for"],
    ]
    if judge is not None:
        labels = "; ".join(f"{escape(q)}: {len(answers)} answers" for q, answers in judge["labels"].items())
        rows.append(["judge", f"{escape(judge['name'])}, {judge['rate']} Hz, {labels}, {judge['sha256']}"])
    commit = f", commit {escape(report['commit'])}" if report["commit"] else ""
    rows.append(["made by", f"cymatic {escape(report['cymatic'])}{commit}, torch {escape(report['torch'])}"])
    captions = ", ".join(f"{escape(caption)} × {takes}" for caption, takes in plan["captions"].items())
    gone = "".join(f"<li>{escape(what)}: {escape(why)}</li>" for what, why in report["missing"].items())
    return f"<h2>Particulars</h2>{table(['what', ''], rows)}<p class='faint'>Captions: {captions}.</p>" + (
        f"<p>Not measured:</p><ul>{gone}</ul>" if gone else ""
    )
