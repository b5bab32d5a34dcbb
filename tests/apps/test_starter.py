"""The starter that ships with the package: what a person hears first."""

import json
import subprocess
import sys

import numpy as np

from cymatic.media.sound import Sound

NAME = "starter-sound"


def test_george_says_seven(starter, tmp_path):
    """In a fresh process, with nothing but what generating needs."""
    code = "import sys\nfrom cymatic.apps.cli import run\ncode = run(sys.argv[1:])\nprint(*sys.modules)\nsys.exit(code)"
    command = ["sound", "george says seven", "--seed", "1", "-o", "seven.wav", "--plot", "seven.png"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    sound = Sound.read(tmp_path / "seven.wav")
    assert sound.rate == 24_000 and 0.2 <= sound.seconds <= 1.5
    assert np.sqrt(np.mean(sound.samples**2)) > 1e-2, "it is all but silent"
    assert (tmp_path / "seven.png").read_bytes().startswith(b"\x89PNG")
    assert (sound.info["prompt"], sound.info["seed"], sound.info["model"]) == ("george says seven", 1, NAME)

    first, second, modules = done.stdout.splitlines()
    assert first.startswith("seven.wav  ") and second == "seven.png"
    loaded = set(modules.split())
    unwanted = {"scipy", "lightning_fabric", "transformers", "pyloudnorm", "wordllama", "cymatic.training"}
    assert "torch" in loaded and not loaded & unwanted


def test_it_knows_its_captions(starter, cli):
    captions = json.loads((starter / "pipeline.json").read_text())["captions"]
    assert {"george says seven", "a dog barking", "house bass drum", "violin playing A#3 softly"} <= set(captions)
    assert cli("sound", "george says seven", "-o", "seven.wav").err == ""
    ran = cli("sound", "george says flibbertigibbet", "-o", "other.wav")
    assert ran.code == 0 and '"flibbertigibbet" is unlike anything' in ran.err and "george says" in ran.err


def test_its_files_are_small(starter):
    sizes = {path.relative_to(starter).as_posix(): path.stat().st_size for path in starter.rglob("*") if path.is_file()}
    assert {f"{part}/model.safetensors" for part in ("text", "prior", "vocoder")} <= sizes.keys()
    assert {name: size for name, size in sizes.items() if size >= 8_000_000} == {}
    assert sum(sizes.values()) <= 16_000_000
