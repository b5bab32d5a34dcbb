"""Every block of code in the README and in docs/ runs, and every link inside the repository leads somewhere."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from cymatic.apps import cli
from tests.helpers import disc, shape_folder, tone, tone_folder

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python|yaml)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(#[^)]*)?\)")
# What a reader has and a test has not: time.
QUICK = {"--minutes 15": "--steps 40", "--minutes 60": "--steps 40"}
TINY_RUN = " --set prior.width=32 --set prior.depth=1 --set prior.heads=2 --set vocoder.rounds=2"

TINY_WAVE_CODEC = (
    " --set codec.rate=8000 --set codec.network.hop=80 --set codec.network.width=16 --set codec.network.encoder=[0,1]"
    " --set codec.network.decoder=[1,0] --set codec.quantizer.levels=2 --set codec.quantizer.size=16"
    " --set codec.quantizer.dim=8 --set codec.segment=0.1 --set codec.training.batch=4"
)
TINY_PICTURES = (
    " --set codec.width=8 --set codec.groups=4 --set codec.multiples=[1,1] --set codec.training.batch=4"
    " --set codec.discriminators.width=4"
)
TINY_TEXT_TO_PICTURE = (
    " --set 'codec.picture={size: 16}' --set codec.width=8 --set codec.multiples=[1,2] --set codec.groups=4"
    " --set codec.patch=[1,1] --set codec.training.batch=4 --set prior.width=32 --set prior.depth=1 --set prior.heads=2"
    " --set prior.training.batch=4 --set space.parts.picture.picture.size=16 --set space.parts.picture.width=32"
    " --set space.parts.picture.depth=1"
)
TINY_CODEC = " --set codec.width=8 --set codec.groups=4 --set codec.discriminators.width=4 --set codec.training.batch=8"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target, _ in LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tone_folder(tmp_path / "my-sounds")
    shape_folder(tmp_path / "my-pictures", takes=2)
    tone(440, 0.5).write(tmp_path / "my-sounds" / "dog-bark_1.wav")
    for take in range(1, 7):
        disc(0.3 + 0.02 * take).write(tmp_path / "my-pictures" / f"red-disc_{take}.png")
    for kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind == "python":
            exec(compile(block, page.name, "exec"), {"__name__": "__main__"})
        elif kind == "yaml":
            (tmp_path / "my-recipe.yaml").write_text(block)
        else:
            for line in block.replace("\\\n", " ").splitlines():
                run_line(line.split("  #")[0].strip(), capsys)


def run_line(line: str, capsys) -> None:
    words = shlex.split(line)
    if "|" in words:
        programme = f"{shlex.quote(sys.executable)} -m cymatic"
        done = subprocess.run(["sh", "-c", line.replace("cymatic", programme)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, ""), f"{line}: {done.stderr}"
        return
    if not words or words[0] in ("make", "pip", "git", "python", "tensorboard"):
        return  # shown elsewhere: `make` by CI, the benchmark by its own tests
    assert words[0] == "cymatic", f"a block starts {words[0]}, which no test runs"
    for long, quick in QUICK.items():
        line = line.replace(long, quick)
    if words[1] == "train" and "--resume" not in line:
        if "picture-codec" in words:
            line += TINY_PICTURES
        elif "my-pictures" in words:
            line += TINY_TEXT_TO_PICTURE
        else:
            wave_codec = "starter-codec" in words
            line += TINY_WAVE_CODEC if wave_codec else TINY_RUN + (TINY_CODEC if "melspec-gpt-small" in words else "")
    with warnings.catch_warnings():
        code = cli.run(shlex.split(line)[1:])
    assert code == 0, f"{line}: {capsys.readouterr().err}"


def test_the_readme_shows_both_commands_a_picture_and_three_examples():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for needed in ("make demo", "make test", "docs/images/", "cymatic sound", "cymatic train", "cymatic.load"):
        assert needed in text
