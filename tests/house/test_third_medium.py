"""The house is open: a third medium comes in by four new files and one line a union, and everything works with it.

Curves, read from .csv, get a medium, a codec, an encoder and a preset in a copy of the package. The four files lie in
`tests/house/curves`; docs/how-to-medium.md explains them. What trains, makes, measures and saves is not touched.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from difflib import ndiff
from pathlib import Path

import numpy as np
import pytest
import yaml
from tests.house.test_imports import PACKAGE, REPOSITORY, circles, graph, violations

from cymatic.media.sound import Sound

HERE = Path(__file__).parent / "curves"
# Where the four files belong.
NEW = {
    "media_curve.py": "media/curve.py",
    "codec_curve.py": "codecs/curve.py",
    "encoder_curve.py": "encoders/curve.py",
    "curves.yaml": "recipes/curves.yaml",
}
# Of each union the line that names its members, what it becomes, and what has to be imported for that.
UNIONS = {
    "media/__init__.py": (
        "for medium in (AUDIO, PICTURE, FEATURES)",
        "for medium in (AUDIO, PICTURE, FEATURES, CURVE)",
        "from cymatic.media.curve import CURVE",
    ),
    "codecs/__init__.py": (
        "Codec = SpectrogramCodec | WaveformCodec | PictureCodec | PaletteCodec",
        "Codec = SpectrogramCodec | WaveformCodec | PictureCodec | PaletteCodec | CurveCodec",
        "from cymatic.codecs.curve import CurveCodec",
    ),
    "encoders/__init__.py": (
        "Encoder = TextEncoder | ClassEncoder | FeatureEncoder | SoundEncoder | PictureEncoder | BPEEncoder",
        "Encoder = TextEncoder | ClassEncoder | FeatureEncoder | SoundEncoder | PictureEncoder | BPEEncoder"
        " | CurveEncoder",
        "from cymatic.encoders.curve import CurveEncoder",
    ),
}
CLOSED = ("training", "pipelines", "apps")
CAPTIONS = ("rising", "falling", "wave")
TAKES = 8
RATE = 8000
MEL = {"rate": RATE, "n_fft": 256, "hop": 128, "mels": 16, "fmax": 4000}
SOUND = {"kind": "sound", "mel": MEL, "width": 16, "depth": 1, "heads": 2, "dim": 16}
CURVES = {"kind": "curve", "points": 64, "stride": 8, "dim": 16}
QUICK = {"batch": 8, "learning_rate": 3e-3, "warmup": 5}  # a run this short is over before the usual warm-up is


@dataclass(frozen=True)
class House:
    """A copy of the package with curves in it, and a folder of curves, sounds and captions."""

    package: Path
    folder: Path
    room: Path  # where runs go

    def python(self, *arguments: str) -> str:
        """What a new interpreter prints that knows this copy of the package alone."""
        environment = {**os.environ, "PYTHONPATH": str(self.package.parent)}
        command = [sys.executable, *arguments]
        done = subprocess.run(command, cwd=self.room, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def cymatic(self, *arguments: object) -> str:
        """What the command line prints."""
        return self.python("-m", "cymatic", *map(str, arguments))

    def recipe(self, name: str, stages: dict[str, object]) -> Path:
        path = self.room / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
        return path


def moved_in(package: Path) -> None:
    """The third medium moves into `package`."""
    for name, place in NEW.items():
        shutil.copyfile(HERE / name, package / place)
    for place, (line, longer, needed) in UNIONS.items():
        text = (package / place).read_text(encoding="utf-8")
        assert text.count(line) == 1, f"{place} names its members in another way"
        first = next(one for one in text.splitlines() if one.startswith("from cymatic."))
        text = text.replace(line, longer).replace(first, f"{needed}\n{first}", 1)
        (package / place).write_text(text, encoding="utf-8")


def curve(caption: str, take: int) -> np.ndarray:
    """A curve of its own length, slope, level and noise, that is what its caption says."""
    chance = np.random.default_rng(100 * CAPTIONS.index(caption) + take)
    along = np.linspace(0, 1, int(chance.integers(60, 90)))
    shape = {"rising": along, "falling": 1 - along, "wave": 0.5 + 0.5 * np.sin(12 * along + chance.uniform(0, 6))}
    return chance.uniform(0.7, 1.0) * shape[caption] + chance.normal(0, 0.02, len(along))


def curve_folder(root: Path) -> Path:
    """Curves with their captions, and beside each the sound whose pitch follows it; two takes are held out."""
    root.mkdir()
    rows = []
    for caption in CAPTIONS:
        for take in range(TAKES):
            name, values = f"{caption}_{take}", curve(caption, take)
            (root / f"{name}.csv").write_text("".join(f"{value:.5f}\n" for value in values))
            pitch = np.interp(np.linspace(0, len(values), RATE // 4), np.arange(len(values)), 300 + 1200 * values)
            Sound(0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / RATE), RATE).write(root / f"{name}.wav")
            split = "valid" if take < 2 else "train"
            rows.append({"curve": f"{name}.csv", "audio": f"{name}.wav", "caption": caption, "split": split})
    (root / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    room = tmp_path_factory.mktemp("house")
    package = room / "site" / "cymatic"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    moved_in(package)
    return House(package, curve_folder(room / "curves"), room)


def contents(package: Path) -> dict[str, bytes]:
    paths = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in paths}


def test_four_new_files_and_one_line_a_union_are_all_that_it_takes(house: House) -> None:
    before, after = contents(PACKAGE), contents(house.package)
    assert after.keys() - before.keys() == set(NEW.values()) and before.keys() <= after.keys()
    assert {name for name in before if before[name] != after[name]} == UNIONS.keys()
    for room in CLOSED:
        assert not [name for name in UNIONS if name.startswith(f"{room}/")], f"{room}/ is as it was"
    for name, (line, longer, needed) in UNIONS.items():
        lines = (version.decode().splitlines() for version in (before[name], after[name]))
        changed = [one for one in ndiff(*lines) if one[0] in "+-"]
        gone, come = ([one[2:] for one in changed if one[0] == sign] for sign in "-+")
        assert len(gone) == 1 and line in gone[0]
        assert come == [needed, gone[0].replace(line, longer)], "one line of the union, and an import"


def test_what_is_new_keeps_the_order_of_the_rooms(house: House) -> None:
    assert set(violations(house.package)) == set(violations(PACKAGE))
    assert circles(graph(house.package)) == circles(graph(PACKAGE))


def test_the_document_shows_what_is_here() -> None:
    text = (REPOSITORY / "docs" / "how-to-medium.md").read_text(encoding="utf-8")
    sources = [(HERE / name).read_text(encoding="utf-8") for name in NEW]
    sources += ["".join(longer for _, longer, _ in UNIONS.values()), USE]
    blocks = re.findall(r"^```(?:py|yaml)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 5
    for block in blocks:
        assert any(block.strip() in source for source in sources), f"the document shows other code:\n{block}"


STOP = """
import os, signal, sys
from pathlib import Path
from cymatic.training.recipe import make_recipe
from cymatic.training.train import read_run, train

folder, run = sys.argv[1], Path(sys.argv[2])
recipe = make_recipe("curves", [f"data.folder={folder}", *sys.argv[3:]])
for step in (25, 15):  # in the codec's stage, then in the prior's
    def stop(at, step=step):
        if at.step == step:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl+C does; the step is finished first
    outcome = train(recipe, run, resume=(run / "recipe.yaml").exists(), say=lambda line: None, on_report=stop)
    assert not outcome.finished and step <= outcome.progress.step < step + 5, outcome
    recipe = read_run(run)
"""
SHORT = ("codec.training.steps=60", "prior.training.steps=40", "codec.training.checkpoint_steps=20",
         "prior.training.checkpoint_steps=10")  # fmt: skip

THEN = """
from cymatic.apps.cli import run

for line in {!r}, {!r}:
    assert run(line.split()) == 0
"""
USE = """
import sys
import cymatic
from cymatic.media.curve import CURVE, Curve

model = cymatic.load(sys.argv[1])
made = model("rising", seed=1)
assert isinstance(made, Curve) and made.values.shape == (64,)
assert made.info["prompt"] == "rising" and made.info["seed"] == 1 and made.info["model"] == "whole"
assert (model("rising", seed=1).values == made.values).all() and (model("rising", seed=2).values != made.values).any()
again = CURVE.read(CURVE.write(made, "made.csv"))
assert abs(again.values - made.values).max() < 1e-4
assert model.reconstructions(again)["codec"].values.shape == (64,)
"""


def test_a_codec_and_a_prior_of_curves_train_resume_and_are_evaluated(house: House) -> None:
    settings = [part for one in SHORT for part in ("--set", one)]
    said = house.cymatic("train", house.folder, "--recipe", "curves", "--out", "whole", *settings)
    assert "trained 40 steps" in said and re.search(r"cymatic\.load\(sys\.argv\[1\]\).* whole$", said, re.MULTILINE)
    assert (house.room / "whole" / "verdict.txt").read_text(encoding="utf-8")
    house.python("-c", STOP, str(house.folder), "halted", *SHORT)
    said = house.python(
        "-c", THEN.format("train --resume --out halted", "evaluate whole -o report --n 6") + USE, "whole"
    )
    assert "trained 40 steps" in said
    for part in ("codec", "encoder", "prior"):
        for name in ("model.safetensors", "config.json"):
            whole, halted = ((house.room / run / part / name).read_bytes() for run in ("whole", "halted"))
            assert whole == halted, f"{part}/{name} is another one after two stops"
    report = json.loads((house.room / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["model"]["reads"]["medium"] == "curve" and report["protocol"]["n"] == 6
    assert report["reconstruction"]["codec"]["distance"]["value"] < 0.5
    assert report["likelihood"]["nats_a_code"]["value"] < report["likelihood"]["uniform"]
    assert (house.room / "report" / "report.html").read_text(encoding="utf-8").count("<img") >= 3


ROLES = """
import torch
import cymatic
from cymatic.errors import Error
from cymatic.media.audio import prepare
from cymatic.media.curve import Curve
from cymatic.media.sound import Sound

names = [f"curves/{caption}_{take}" for caption in ("rising", "falling", "wave") for take in (2, 3)]
curves, sounds = [Curve.read(f"{name}.csv") for name in names], [Sound.read(f"{name}.wav") for name in names]
aligned = cymatic.load("aligned")
near = aligned.embed(curves, "curve") @ aligned.embed(sounds, "audio").T
captions = near.reshape(3, 2, 3, 2).mean((1, 3))
assert (captions.argmax(1) == torch.arange(3)).all(), f"a curve lies nearest to sounds of its caption: {captions}"

drawn = cymatic.load("drawn")
made = drawn(sounds[0], seed=1)
assert isinstance(made, Curve) and made.info["prompt"] == repr(sounds[0])
assert (made.values == drawn(prepare(sounds[0], drawn.encoder.config.reads), seed=1).values).all()
try:
    drawn("rising")
except Error as error:
    assert "conditioned on sounds" in str(error), error
else:
    raise AssertionError("words are no sound")
"""


@pytest.mark.slow
def test_curves_are_aligned_with_sounds_and_drawn_from_them_by_one_manifest(house: House) -> None:
    preset = yaml.safe_load((HERE / "curves.yaml").read_text(encoding="utf-8"))["stages"]
    aligned = {"task": "alignment", "parts": {"curve": CURVES, "audio": SOUND}, "training": {**QUICK, "steps": 150}}
    codec = {**preset["codec"], "training": {**QUICK, "steps": 40}}
    prior = {**preset["prior"], "encoder": SOUND, "given": "audio", "training": {**QUICK, "steps": 40}}
    recipes = {"aligned": {"both": aligned}, "drawn": {"codec": codec, "prior": prior}}
    lines = [f"train curves --recipe {house.recipe(name, stages)} --out {name}" for name, stages in recipes.items()]
    said = house.python("-c", THEN.format(*lines) + ROLES)
    assert all(f"{name} holds the weights" in said for name in recipes)


CODEC = """
import cymatic
from cymatic.media.curve import Curve

codec = cymatic.load("codec")
real = Curve.read("curves/rising_2.csv")
again = codec.reconstruct(real)
assert isinstance(again, Curve) and abs(again.values - real.resampled(64)).mean() < 0.3
assert codec.encode(real).codes.shape == (1, 1, 8)
"""


@pytest.mark.slow
def test_a_codec_of_curves_is_a_model_by_itself(house: House) -> None:
    preset = yaml.safe_load((HERE / "curves.yaml").read_text(encoding="utf-8"))["stages"]
    recipe = house.recipe("codec", {"codec": {**preset["codec"], "training": {**QUICK, "steps": 60}}})
    lines = (f"train curves --recipe {recipe} --out codec", "evaluate codec -o codec-report --n 6")
    house.python("-c", THEN.format(*lines) + CODEC)
    report = json.loads((house.room / "codec-report" / "report.json").read_text(encoding="utf-8"))
    assert report["reconstruction"]["codec"]["distance"]["value"] < 0.3
    assert report["codes"]["codes"]["size"] == 125 and report["protocol"]["n"] == 0
