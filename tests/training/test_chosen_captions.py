"""Which names became captions stays in a run's recipe, so that files which come later don't change it."""

import pytest
from tests.helpers import quiet, tiny_recipe, tone

from cymatic.data.examples import Reading, captions_of, load_examples
from cymatic.training.train import read_run, train

KITS = ("Dusty/Kick-1", "Dusty/SnareRim-1", "Bright/Kick-1", "Bright/SnareRim-2", "Bright/Kick-2")


def sounds(root, names):
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        tone(200 + 40 * i, 0.3, seed=i).write(root / f"{name}.wav")
    return root


def captions(recipe):
    spec = recipe.stages["prior"].part.reads
    said = []
    data = load_examples(recipe.data, Reading("audio", spec), captions=True, say=said.append)
    return captions_of([*data.train, *data.valid]), [line for line in said if line.startswith("chosen")]


def test_a_resumed_run_reads_names_as_it_began(tmp_path):
    root = sounds(tmp_path / "kits", KITS)
    said = []
    train(tiny_recipe(root, "training.steps=2"), tmp_path / "run", say=said.append)
    assert sum(line.startswith("chosen captions by the folders' and the files'") for line in said) == 1
    kept = read_run(tmp_path / "run")
    assert kept.data.captions == "both"
    sounds(root, ["Kick", "Tom"])  # beside the folders, so that auto would read the files' names alone
    fresh, chosen = captions(tiny_recipe(root, "training.steps=2"))
    assert fresh == ["Kick", "Snare Rim", "Tom"] and "since some files lie in no folder" in chosen[0]
    assert captions(kept)[0] == ["Bright Kick", "Bright Snare Rim", "Dusty Kick", "Dusty Snare Rim", "Kick", "Tom"]
    assert captions(kept)[1] == [], "nothing is chosen any more"


def test_each_pack_keeps_its_own(tmp_path):
    sounds(tmp_path / "kits", KITS)
    sounds(tmp_path / "classes", ["dog/1", "dog/2", "rain/1", "rain/2"])
    sounds(tmp_path / "told", ["a/1", "b/1"])
    (tmp_path / "told/captions.csv").write_text("file,caption\na/1.wav,a sea\nb/1.wav,a lake\n")
    packs = "data.packs=[{folder: kits}, {folder: classes}, {folder: told}, {folder: kits, captions: file}]"
    train(tiny_recipe(tmp_path, packs, "training.steps=1"), tmp_path / "run", say=quiet)
    kept = read_run(tmp_path / "run").data
    assert [pack.captions for pack in kept.packs] == ["both", "folder", None, "file"] and kept.captions == "auto"


@pytest.mark.parametrize("text", [False, True])
def test_where_nothing_was_chosen_it_stays_open(tmp_path, text):
    root = sounds(tmp_path / "flat", ["dog-bark_1", "rain_1", "rain_2"])
    for path in sorted(root.glob("*.wav")) if text else []:
        path.with_suffix(".txt").write_text("a storm")
    said = []
    train(tiny_recipe(root, "training.steps=1"), tmp_path / "run", say=said.append)
    assert read_run(tmp_path / "run").data.captions == "auto"
    assert not any(line.startswith("chosen captions") for line in said)
