"""`cymatic evaluate` and `cymatic classifier train`, as a user runs them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from tests.helpers import tone, tone_folder

from cymatic.apps.report_page import Cell, cell, histogram, page
from cymatic.media.audio import AUDIO

KEYS = {
    "format", "cymatic", "commit", "torch", "model", "data", "classifier", "embedding", "protocol", "reconstruction",
    "codes", "likelihood", "latent", "caption_sensitivity", "accuracy", "tried_on", "distances", "neighbours",
    "diversity", "missing", "notes", "summary", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Tones enough to hold some out."""
    return tone_folder(tmp_path_factory.mktemp("many") / "tones", takes=20)


@pytest.fixture(scope="module")
def trained(many, tmp_path_factory):
    """A classifier of `many`, and what its training said."""
    import contextlib
    import io

    from cymatic.apps.cli import run

    place, said = tmp_path_factory.mktemp("classifiers") / "mine", io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(said):
        patched.setattr("cymatic.evaluation.folder_classifier.FEWEST_STEPS", 60)  # as many on any machine
        patched.setattr("cymatic.evaluation.folder_classifier.EPOCHS", 1)
        assert run(["classifier", "train", str(many), "-o", str(place), "--minutes", "1000"]) == 0
    return place, said.getvalue()


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


class Tags(HTMLParser):
    """What a page is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def check_page(text: str) -> Tags:
    """Nothing outside the page is named, and nothing in it runs."""
    tags = Tags()
    tags.feed(text)
    assert not re.search(r"https?://|//[a-z]|@import|url\(", re.sub(r"data:[a-z/]+;base64,[A-Za-z0-9+/=]+", "", text))
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in tags.found}
    for tag, attributes in tags.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith("data:")
        if tag == "img":
            assert attributes["alt"]
    return tags


def test_a_classifier_says_first_how_good_it_is(trained):
    place, said = trained
    assert re.match(r'"caption": 100.0 % of \d held-out clips are right \(.* guessing gives \d+.\d %\)', said)
    assert re.search(r"trained \d+ steps on \d+ clips at 8000 Hz; .*mine holds the classifier [0-9a-f]{12}", said)
    assert "--classifier" in said.splitlines()[-1]
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "model.safetensors"]
    assert json.loads((place / "config.json").read_text())["kind"] == "classifier"


def test_a_report(cli, tiny_run, many, trained):
    ran = cli(
        "evaluate", tiny_run, "--data", many, "--classifier", trained[0], "--n", 8, "--seed", 3, "-o", "deep/report"
    )
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[0].startswith('As it was meant, "caption": real 100.0 %') and len(lines) <= 20
    assert lines[-1] == "deep/report/report.html  and  deep/report/report.json"
    report = json.loads(read("deep/report/report.json"))
    assert set(report) == KEYS and report["format"] == 2
    assert report["protocol"]["captions"] == {"high tone": 4, "low tone": 4} and report["protocol"]["seeds"] == [3, 6]
    assert report["classifier"]["origin"] == "given with --classifier" and len(report["classifier"]["sha256"]) == 64
    assert report["embedding"]["sha256"] == report["classifier"]["sha256"] and report["embedding"]["dim"] == 96
    assert len(report["model"]["sha256"]) == 64 and report["data"]["folders"] == [str(many)]
    assert list(report["accuracy"]) == ["real", "real through the model", "generated"]
    for one in report["distances"].values():
        assert {"frechet", "kernel", "mkl", "precision", "recall", "clips"} == set(one)
        assert set(one["frechet"]) == {"value", "low", "high", "n"}
    assert set(report["reconstruction"]) == {"vocoder"} and report["caption_sensitivity"]["clips"] > 0
    text = read("deep/report/report.html")
    tags = check_page(text)
    assert len(text) < 3_000_000
    players = [attributes for tag, attributes in tags.found if tag == "audio"]
    assert len(players) == len([tag for tag, _ in tags.found if tag == "img"]) >= 4
    assert all(player["src"].startswith("data:audio/mpeg;base64,") for player in players)
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text


def test_a_run_knows_its_folder_and_a_classifier_is_trained_where_none_is_given(cli, tiny_run, monkeypatch):
    monkeypatch.setattr("cymatic.apps.evaluate_command.OWN_SECONDS", 0.5)
    ran = cli("evaluate", tiny_run, "--n", 2, "-o", "report")
    assert ran.code == 0 and "training a classifier on" in ran.err, ran
    report = json.loads(read("report/report.json"))
    assert re.fullmatch(r"trained for this report on 7 training clips, \d+ steps", report["classifier"]["origin"])
    assert any("too weak" in note for note in report["notes"]), "one clip held out tries no classifier"
    check_page(read("report/report.html"))
    ran = cli("evaluate", tiny_run, "--n", 2, "--classifier", "report/classifier", "-o", "again")
    assert ran.code == 0 and "note" not in ran.err
    again = json.loads(read("again/report.json"))
    assert again["classifier"]["sha256"] == report["classifier"]["sha256"]
    assert again["distances"] == report["distances"]


def test_the_names_of_earlier_versions_still_work_and_say_so(cli, refuses, tiny_run, many, trained):
    ran = cli("evaluate", tiny_run, "--data", many, "--judge", trained[0], "--n", 2, "-o", "report")
    assert ran.code == 0 and ran.err.splitlines()[0] == "cymatic: note: --judge is called --classifier by now"
    assert json.loads(read("report/report.json"))["classifier"]["name"] == "mine"
    both = refuses("evaluate", tiny_run, "--judge", trained[0], "--classifier", trained[0], "-o", "r")
    assert "--classifier and --judge are one option" in both
    ran = cli("judge", "train", "nope", "-o", "mine")
    first, second = ran.err.splitlines()
    assert ran.code == 2 and first == "cymatic: note: cymatic judge is called cymatic classifier by now"
    assert "nope does not exist" in second
    assert "judge" not in cli("--help").out and "judge" not in cli("evaluate", "--help").out


def test_a_codec_alone_is_measured_on_what_it_loses(cli, codec_folder, many, monkeypatch):
    monkeypatch.setattr("cymatic.evaluation.folder_classifier.FEWEST_STEPS", 20)
    monkeypatch.setattr("cymatic.evaluation.folder_classifier.EPOCHS", 1)
    monkeypatch.setattr("cymatic.apps.evaluate_command.OWN_SECONDS", 0.5)
    ran = cli("evaluate", codec_folder, "--data", many, "-o", "report")
    assert ran.code == 0, ran
    report = json.loads(read("report/report.json"))
    assert set(report) == KEYS and report["protocol"]["n"] == 0 and report["missing"]["generated"]
    assert {"mel_l1", "distance"} < set(report["reconstruction"]["codec"])
    assert {name: codes["size"] for name, codes in report["codes"].items()} == {"level 1": 16, "level 2": 16}
    assert any(line.startswith("Level 1: perplexity") for line in report["summary"])
    assert any(line.startswith("Through the codec: mel L1") for line in report["summary"])
    tags = check_page(read("report/report.html"))
    assert len([tag for tag, _ in tags.found if tag == "audio"]) == 4, "two captions, as they are and through the codec"


def test_a_folder_whose_captions_no_classifier_could_learn(cli, tiny_run, tmp_path):
    (tmp_path / "one").mkdir()
    for take in range(9):
        tone(220 + take, 0.3, seed=take).write(tmp_path / "one" / f"low-tone_{take}.wav")
    ran = cli("evaluate", tiny_run, "--data", "one", "--n", 2, "-o", "report")
    assert ran.code == 0
    report = json.loads(read("report/report.json"))
    assert report["classifier"] is None and "there is no classifier, for the 8 clips" in report["missing"]["accuracy"]
    assert set(report["diversity"]) == {"mel"}
    assert "Not measured: there is no classifier" in read("report/report.html")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope", "-o", "r"], 'there is no model "nope"'),
        (["empty", "-o", "r"], "empty is no model, for it holds no pipeline.json"),
        (["starter-sound", "-o", "r"], "starter-sound doesn't say what it was trained on.*--data"),
        (["RUN", "--n", "0", "-o", "r"], "0 clips were asked for; give a number from 1 to 10000"),
        (["RUN", "--n", "10001", "-o", "r"], "10001 clips were asked for"),
        (["RUN", "--seed", "-1", "-o", "r"], "the seed is -1"),
        (["RUN", "-o", "file"], "file is a file, and the report is a folder"),
        (["RUN", "-o", "file/r"], "file/r can't be written: .*file is not a folder"),
        (["RUN", "-o", "r" * 300], "file name too long"),
        (["RUN", "-o", "a\0b"], "null byte"),
        (["RUN"], "Missing option '--output'"),
        (["RUN", "--data", "nope", "-o", "r"], "nope does not exist; give a folder of sounds"),
        (["RUN", "--data", "strange", "-o", "r"], 'tiny knows none of the 1 captions of .*strange .such as "dog bark"'),
        (["RUN", "--classifier", "nope", "-o", "r"], "nope/config.json is missing"),
        (
            ["RUN", "--classifier", "RUN/prior", "-o", "r"],
            """kind "flow" where one of .'classifier', 'picture-classifier'. is needed""",
        ),
        (
            ["RUN", "--classifier", "high", "-o", "r"],
            "classifier high reads sounds of 24000 Hz and tiny makes .* of 8000 Hz",
        ),
        (
            ["RUN", "--classifier", "other", "-o", "r"],
            "classifier other knows other labels .*animal.* cymatic classifier train",
        ),
    ],
)
def test_bad_evaluations(refuses, tiny_run, tmp_path, arguments, said):
    from cymatic.evaluation.audio import FRONT_ENDS
    from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
    from cymatic.hub.parts import save_part

    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange").mkdir()
    tone(220).write(tmp_path / "strange/dog-bark_1.wav")
    for name, rate, answers in (("high", 24_000, ("low tone", "high tone")), ("other", 8000, ("cat", "dog"))):
        trunk = ConvTrunk(mel=FRONT_ENDS[rate], widths=(4, 8), dim=8)
        save_part(tmp_path / name, Classifier(ClassifierConfig(labels={"animal": answers}, trunk=trunk)))
    given = [argument.replace("RUN", str(tiny_run)) for argument in arguments]
    assert re.search(said, refuses("evaluate", *given))


def test_a_run_whose_folder_is_gone(refuses, tiny_run, tmp_path):
    import shutil

    run = shutil.copytree(tiny_run, tmp_path / "run", ignore=shutil.ignore_patterns("state", "logs"))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    recipe["data"]["folder"] = str(tmp_path / "gone")
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert re.search("gone, which run was trained on, is not there.*--data", refuses("evaluate", "run", "-o", "r"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope", "-o", "j"], "nope does not exist"),
        (["tones", "-o", "j", "--minutes", "0"], "--minutes is 0; give a number above 0"),
        (["tones", "-o", "j", "--seed", "-1"], "the seed is -1"),
        (["tones", "-o", "file"], "file is a file"),
        (["tones", "-o", "there"], "there already holds a part"),
        (["tones", "-o", "j", "--question", "speaker"], 'the clips have no field "speaker" to ask for; known: caption'),
        (["one", "-o", "j"], 'have 1 different answers to "caption"'),
        (["tones"], "Missing option '--output'"),
    ],
)
def test_bad_classifiers(refuses, tones, tmp_path, arguments, said):
    (tmp_path / "file").write_text("x")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/config.json").write_text("{}")
    (tmp_path / "one").mkdir()
    tone(220).write(tmp_path / "one/dog-bark_1.wav")
    given = [str(tones) if argument == "tones" else argument for argument in arguments]
    assert re.search(said, refuses("classifier", "train", *given))


def test_a_classifier_that_is_too_weak_is_warned_of(cli, tmp_path):
    """Answers that nothing in the sound tells."""
    rows = []
    for take in range(60):
        path = tone(440, 0.1, seed=take).write(tmp_path / f"{take}.wav")
        split = "valid" if take % 3 == 0 else "train"
        rows.append({"audio": path.name, "caption": "a tone", "side": "left" if take % 2 else "right", "split": split})
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ran = cli("classifier", "train", tmp_path, "--question", "side", "--minutes", "0.01", "-o", "mine")
    assert ran.code == 0 and 'warning: that is too weak to measure a model by "side"' in ran.out, ran


def test_classifier_alone_shows_what_it_can_do(cli):
    ran = cli("classifier")
    assert ran.code == 0 and "train" in ran.out


def test_codes_are_drawn_and_hostile_names_stay_text():
    found = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
    report = {
        "model": {"name": "<script>alert(1)</script>", "sha256": "0" * 64, "rate": 8000},
        "summary": ["<b>"], "notes": ["<i>"], "missing": {"accuracy": "<u>"}, "accuracy": {}, "distances": {},
        "classifier": None, "neighbours": {}, "diversity": {}, "reconstruction": {}, "commit": None,
        "cymatic": "0", "torch": "0",
        "codes": {"codes": {"perplexity": found, "size": 4, "unused": 1, "clips": 2, "counts": [5, 3, 1, 0]}},
        "likelihood": {"nats_a_code": found, "uniform": 1.386},
        "latent": {"dim": 8, "clips": 9, "divergence": found, "mutual_information": 1.5, "active": 3},
        "data": {"folders": ["<a>"], "train": 1, "train_read": 1, "valid": 1, "valid_read": 1, "sha256": "1"},
        "protocol": {"n": 1, "captions": {"<q>": 1}, "seeds": [0, 0], "held_out": 1, "reference": 1},
    }  # fmt: skip
    text = page(report, [], AUDIO)
    tags = {tag for tag, _ in check_page(text).found}
    assert not tags & {"b", "i", "u", "a", "q", "script"} and "svg" in tags
    assert "1 never used by 2 held-out clips" in text and "nats a code" in text


def test_cells_and_histograms():
    assert cell({"value": 0.5, "low": 0.25, "high": 0.75}, percent=True) == Cell("50.0 %", "25.0 to 75.0")
    assert cell({"value": 1.0, "low": None, "high": None}) == Cell("1.00") and cell(None) == Cell("–")
    assert histogram([4, 2, 0]) == [100, 50, 0]
    assert len(histogram(list(range(1000, 0, -1)))) == 250


def test_a_model_over_codes_shows_its_codec_and_its_likelihood(tiny_codes_run, many, trained, tmp_path, capsys):
    from cymatic.apps.cli import run

    place, _ = trained
    out = tmp_path / "report"
    given = [
        "evaluate",
        str(tiny_codes_run),
        "--data",
        str(many),
        "--classifier",
        str(place),
        "-n",
        "4",
        "-o",
        str(out),
    ]
    assert run(given) == 0, capsys.readouterr().err
    report = json.loads((out / "report.json").read_text())
    assert report.keys() >= KEYS
    assert report["codes"]["codes"]["size"] == 32 and sum(report["codes"]["codes"]["counts"]) > 0
    assert 0 < report["likelihood"]["nats_a_code"]["value"] < 2 * report["likelihood"]["uniform"]
    assert set(report["reconstruction"]) == {"vocoder", "codec", "codec and vocoder"}
    text = (out / "report.html").read_text()
    check_page(text)
    assert '<rect x="0" y="0.00" width=".9" height="100.00"/>' in text and "nats a code" in text
