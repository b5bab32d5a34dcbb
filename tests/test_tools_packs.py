"""The scripts that make packs; a program on the PATH speaks in the place of eSpeak NG."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cymatic.data.folder import read_folder
from cymatic.media.sound import Sound
from tests.helpers import disc

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "packs" / "speak_emoji.py"
pytestmark = [
    pytest.mark.skipif(not SCRIPT.is_file(), reason="tools/ is not in this copy"),
    pytest.mark.skipif(os.name == "nt", reason="the program is a shell script"),
]
# Writes down how it was called and what it was told, and gives the same sound each time; it can't say "?".
FAKE = """#!/bin/sh
[ "$1" = --version ] && { echo "eSpeak NG text-to-speech: 9.9  Data at: here"; exit; }
text=$(cat)
echo "$2 $4 $6 $text" >> LOG
[ "$text" = "?" ] && { echo "what?" >&2; exit 3; }
cp SOUND "$8"
"""


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPT.with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def script() -> ModuleType:
    return load("speak_emoji")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tone = 0.3 * np.sin(np.arange(11_025) / 9)
    Sound(np.concatenate([np.zeros(11_025), tone, np.zeros(5_000)])[None], 22_050).write(tmp_path / "sound.wav")
    program, log = tmp_path / "bin" / "espeak-ng", tmp_path / "log"
    program.parent.mkdir()
    program.write_text(FAKE.replace("LOG", str(log)).replace("SOUND", str(tmp_path / "sound.wav")))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return log


@pytest.fixture
def emoji(tmp_path: Path) -> Path:
    root = tmp_path / "emoji"
    (root / "pictures").mkdir(parents=True)
    rows = []
    for n, (name, names) in enumerate(
        [("house", {"it": "casa", "ru": "дом"}), ("tree", {"it": "albero"}), ("flag", {"it": "bandiera"})]
    ):
        disc(0.5, size=8).write(root / "pictures" / f"{n}.png")
        group, split = ("Flags" if name == "flag" else "Objects"), ("valid" if name == "tree" else "train")
        rows.append(
            {"id": str(n), "picture": f"pictures/{n}.png", "name": name, "names": names, "group": group, "split": split}
        )
    (root / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return root


def test_a_pack_is_made_and_read(script, log, emoji, tmp_path, capsys):
    out = tmp_path / "out"
    assert script.main([str(emoji), "-o", str(out), "--languages", "it", "ru", "--takes", "2", "--jobs", "1"]) == 0
    assert "skipped 1 emoji without a name in ru, such as tree" in capsys.readouterr().err
    folder = read_folder(out, role="audio", given=["picture"])
    assert not folder.skipped and len(folder.items) == 6
    one = folder.items[2]
    assert (one.caption, one.split, one.group) == ("дом", "train", "0") and one.path("picture").is_file()
    assert one.fields["licence"] == "CC0-1.0" and one.fields["voice"].startswith("ru")
    assert {item.split for item in folder.items if item.group == "1"} == {"valid"}
    sound = Sound.read(one.path())
    assert sound.rate == 16_000 and sound.samples.shape[1] / 16_000 == pytest.approx(0.54, abs=0.02)
    assert one.fields["seconds"] == pytest.approx(sound.samples.shape[1] / 16_000, abs=1e-3)
    assert len({item.fields["voice"] for item in folder.items if item.group == "0" and item.caption == "casa"}) == 2
    assert "eSpeak NG text-to-speech: 9.9" in (out / "README.md").read_text() and (out / "LICENSE").is_file()


def test_it_is_the_same_again_and_goes_on_where_it_stopped(script, log, emoji, tmp_path):
    def make(name):
        assert script.main([str(emoji), "-o", str(tmp_path / name), "--languages", "it", "--jobs", "1"]) == 0
        return (tmp_path / name / "manifest.jsonl").read_text()

    first, called = make("a"), log.read_text()
    log.unlink()
    assert make("b") == first and log.read_text() == called
    log.unlink()
    gone = next((tmp_path / "a" / "audio" / "it").glob("1_it_1.flac"))
    held = gone.read_bytes()
    gone.unlink()
    assert make("a") == first and gone.read_bytes() == held and len(log.read_text().splitlines()) == 1


def test_what_can_not_be_spoken_is_named(script, log, emoji, tmp_path, capsys, monkeypatch):
    rows = [json.loads(line) for line in (emoji / "manifest.jsonl").read_text().splitlines()]
    rows[1]["names"]["it"] = "?"
    (emoji / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert script.main([str(emoji), "-o", str(tmp_path / "out"), "--languages", "it", "--takes", "1"]) == 1
    assert "ended with 3: what?" in capsys.readouterr().err
    assert len(read_folder(tmp_path / "out").items) == 1
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt install espeak-ng"):
        script.main([str(emoji), "-o", str(tmp_path / "out")])


def jsonl(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def test_voices_and_pictures_of_several_packs_in_one_manifest(tmp_path, capsys):
    script = load("spoken_pictures")
    for n in range(3):
        (tmp_path / "emoji" / "pictures").mkdir(parents=True, exist_ok=True)
        disc(0.5, size=8).write(tmp_path / "emoji" / "pictures" / f"{n}.png")
    for path in ("spoken-emoji/a0.wav", "spoken-emoji/a1.wav", "words/a0.wav"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Sound(np.full((1, 800), 0.1), 8000).write(tmp_path / path)
    jsonl(
        tmp_path / "emoji" / "manifest.jsonl",
        *({"id": str(n), "picture": f"pictures/{n}.png", "name": f"thing {n}", "split": split}
          for n, split in enumerate(("train", "valid", "train"))),
    )  # fmt: skip
    jsonl(
        tmp_path / "spoken-emoji" / "manifest.jsonl",
        {
            "id": "0:de",
            "emoji": "0",
            "audio": "a0.wav",
            "text": "Ding 0",
            "language": "de",
            "voice": "x",
            "split": "train",
        },
        {"id": "1:de", "emoji": "1", "audio": "a1.wav", "text": "Ding 1", "language": "de", "split": "train"},
        {"id": "7:de", "emoji": "7", "audio": "a1.wav", "text": "Ding 7", "language": "de", "split": "train"},
    )
    jsonl(
        tmp_path / "words" / "manifest.jsonl",
        {"id": "a", "emoji": "0", "audio": "a0.wav", "concept": "thing", "licence": "GPL", "split": "valid"},
        {"id": "b", "emoji": "0", "audio": "gone.wav", "concept": "thing", "split": "train"},
        {"id": "c", "audio": "a0.wav", "concept": "blue", "split": "train"},
    )
    out = tmp_path / "all.jsonl"
    assert script.main([str(tmp_path), "-o", str(out)]) == 0
    said = capsys.readouterr().err
    assert "skipped 1 of spoken-emoji whose picture is in no pack" in said
    assert "skipped 1 of words with a file that is not there" in said
    folder = read_folder(out, role="audio", given=["picture"])
    assert [(item.caption, item.split, item.group) for item in folder.items] == [
        ("thing", "test", "emoji/0"), ("Ding 0", "train", "emoji/0"), ("Ding 1", "valid", "emoji/1"),
    ]  # fmt: skip
    assert folder.items[1].path("picture") == tmp_path / "emoji" / "pictures" / "0.png"
    assert folder.items[0].fields["licence"] == "GPL"
    with pytest.raises(SystemExit, match="write it into"):
        script.main([str(tmp_path), "-o", str(tmp_path / "words" / "all.jsonl")])
