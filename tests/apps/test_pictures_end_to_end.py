"""A folder of pictures to a model, a verdict, a report: by the commands alone."""

import json

import pytest
from PIL import Image
from tests.helpers import TINY_PICTURES, shape_folder, tone

from cymatic.media.picture import Picture

SIZES = (
    "codec.picture={size: 16}", "codec.width=8", "codec.multiples=[1,2]", "codec.groups=4", "codec.patch=[1,1]",
    "codec.training.batch=4", "space.parts.picture.picture.size=16", "space.parts.picture.width=32",
    "space.parts.picture.depth=1", "prior.width=24", "prior.depth=1", "prior.heads=2", "prior.training.batch=8",
)  # fmt: skip
TINY = [part for one in SIZES for part in ("--set", one)]


def test_a_finished_run_has_a_verdict_and_a_sheet(tiny_pictures_run):
    assert "A probe, which tells 9 captions apart" in (tiny_pictures_run / "verdict.txt").read_text()
    sheet = Image.open(tiny_pictures_run / "contact.png")
    assert sheet.width == 12 + 4 * 140 and sheet.height > 400, "real and made, two captions a row"


def test_a_folder_of_pictures_is_trained_by_itself(cli, tmp_path):
    shape_folder(tmp_path / "pictures", takes=2)
    tone(300, 0.1).write(tmp_path / "pictures" / "bark.wav")
    ran = cli("train", "pictures", "--steps", 4, *TINY, "--no-verdict")
    assert ran.code == 0, ran.err
    assert "pictures holds 18 pictures and 1 sounds; it is trained on its pictures" in ran.err
    assert "say --recipe text-to-sound for its sounds" in ran.err
    assert ran.out.splitlines()[-1] == 'make one: cymatic picture "..." --model runs/pictures -o out.png'
    assert cli("picture", "red circle", "--model", "runs/pictures", "-o", "a.png").code == 0
    assert Picture.read(tmp_path / "a.png").width == 16
    assert cli("reconstruct", "a.png", "-o", "b.png", "--model", "runs/pictures").code == 0


def test_captions_from_fields_train_a_model_that_knows_them_all(cli, tmp_path):
    shape_folder(tmp_path / "pictures", takes=1)
    german = {"red circle": "roter Kreis", "blue circle": "blauer Kreis"}
    rows = []
    for path in sorted((tmp_path / "pictures").glob("*.png")):
        name = path.stem.removesuffix("_1").replace("-", " ")
        rows.append({"picture": path.name, "name": name, "names": {"de": german.get(name, f"de {name}")}})
    (tmp_path / "pictures/pictures.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tiny.yaml").write_text(TINY_PICTURES.replace("steps: 60", "steps: 4"))
    how = ["--recipe", "tiny.yaml", "--captions", "name,names.de", "--no-verdict", "-o", "run"]
    ran = cli("train", "pictures/pictures.jsonl", *how)
    assert ran.code == 0, ran.err
    known = json.loads((tmp_path / "run/pipeline.json").read_text())["captions"]
    assert "red circle" in known and "roter kreis" in [one.lower() for one in known]
    assert "captions:\n  - name\n  - names.de\n" in (tmp_path / "run/recipe.yaml").read_text()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr("cymatic.evaluation.picture_classifier.FEWEST_STEPS", 40)
    monkeypatch.setattr("cymatic.evaluation.picture_classifier.EPOCHS", 1)


def test_a_model_of_pictures_is_evaluated(cli, quick, tiny_pictures_run, tmp_path):
    more = shape_folder(tmp_path / "more", 8)
    ran = cli("evaluate", tiny_pictures_run, "-o", "report", "-n", 18, "--data", more)
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["model"]["reads"]["medium"] == "picture"
    assert report["reconstruction"]["codec"]["psnr"]["value"] > 5
    assert report["codes"]["codes"]["size"] == 32
    assert set(report["accuracy"]) == {"real", "real through the model", "generated"}
    assert report["classifier"]["origin"].startswith("trained for this report on")
    assert "not Inception: no FID" in report["embedding"]["name"]
    assert report["neighbours"]["outline"]["ratio"]["value"] > 0
    assert report["distances"]["generated"]["frechet"]["value"] >= 0
    page = (tmp_path / "report/report.html").read_text()
    assert "not Inception" in page and 'class="as-it-is"' in page and "PSNR, dB" in page
    assert Image.open(tmp_path / "report/contact.png").width == 12 + 6 * 140
    again = cli(
        "evaluate", tiny_pictures_run, "-o", "again", "-n", 9, "--classifier", "report/classifier", "--data", more
    )
    assert again.code == 0, again.err
    origin = json.loads((tmp_path / "again/report.json").read_text())["classifier"]["origin"]
    assert origin == "given with --classifier"


def test_a_classifier_of_the_other_medium_is_refused(cli, tiny_pictures_run, tmp_path):
    from cymatic.evaluation.classifiers import Classifier, ClassifierConfig, ConvTrunk
    from cymatic.hub.parts import save_part

    save_part(tmp_path / "of-sounds", Classifier(ClassifierConfig(labels={"caption": ("a", "b")}, trunk=ConvTrunk())))
    ran = cli("evaluate", tiny_pictures_run, "-o", "report", "-n", 2, "--classifier", "of-sounds")
    assert ran.code == 2 and "of-sounds is a classifier of sounds, and" in ran.err
    assert "makes pictures; leave it out" in ran.err
