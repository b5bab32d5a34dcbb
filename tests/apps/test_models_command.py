"""`cymatic models`: every starter and run with what there is to know of it, the broken ones included."""

import json
import shutil
from pathlib import Path

import pytest

import cymatic
from cymatic.errors import ModelError
from cymatic.hub.pipeline_file import PIPELINE, PipelineFile, read_pipeline, write_pipeline
from cymatic.media.sound import Sound
from cymatic.pipelines.load import starters

STARTERS = ["starter-codec", "starter-picture", "starter-sound"]


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A run of one's own, in the working folder."""
    return Path(shutil.copytree(tiny_run, tmp_path / "runs" / "tiny"))


@pytest.fixture
def listed(cli):
    def call(*folders: object) -> dict[str, dict]:
        ran = cli("models", *folders, "--json")
        assert (ran.code, ran.err) == (0, ""), ran
        found = json.loads(ran.out)
        assert [one["name"] for one in found][:3] == STARTERS
        return {one["name"]: one for one in found}

    return call


def test_a_starter_says_what_it_is(listed) -> None:
    one = listed()["starter-codec"]
    size = sum(
        (starters()["starter-codec"] / "codec" / name).stat().st_size for name in ("config.json", "model.safetensors")
    )
    assert (one["starter"], one["state"], one["problem"]) == (True, "ready", None)
    assert one["version"] == read_pipeline(starters()["starter-codec"]).version >= 3
    assert one["licence"] == "CC BY-SA 4.0" and one["makes"] == "codes of sounds at 24000 Hz"
    assert one["megabytes"] == pytest.approx(size / 1e6, abs=0.05)


def test_runs_of_the_working_folder_are_found(run: Path, listed) -> None:
    one = listed()["runs/tiny"]
    assert (one["starter"], one["state"], one["version"]) == (False, "ready", None)
    assert one["makes"].startswith("sounds from words at ") and one["makes"].endswith(" captions")
    assert cymatic.load(run).captions, "its name is what --model takes"


def test_folders_are_given(run: Path, listed, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert [*listed("empty")] == STARTERS
    assert [*listed("runs", run, "runs/tiny")] == [*STARTERS, "runs/tiny"], "each once"


def test_the_table_has_a_line_a_model(run: Path, cli) -> None:
    ran = cli("models")
    lines = ran.out.splitlines()
    assert ran.code == 0 and len(lines) == len(STARTERS) + 2
    assert lines[0].split() == ["name", "version", "MB", "licence", "makes"]
    assert lines[4].startswith("runs/tiny ") and "sounds from words" in lines[4]
    assert len({line.find(" ", line.find("  ")) for line in lines[:1]}) == 1


def recipe_only(run: Path) -> None:
    for path in run.iterdir():
        if path.name != "recipe.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


WEIGHTS = "prior/model.safetensors"
BROKEN = {
    "stopped before its first checkpoint": (recipe_only, "unfinished", "finish it with cymatic train --resume"),
    "without its prior yet": (lambda run: shutil.rmtree(run / "prior"), "unfinished", "lacks its prior"),
    "weights cut short": (
        lambda run: (run / WEIGHTS).write_bytes((run / WEIGHTS).read_bytes()[:900]),
        "damaged", "not a sound safetensors file",
    ),
    "weights gone": (lambda run: (run / WEIGHTS).unlink(), "damaged", "is missing"),
    "weights of zeros": (lambda run: (run / WEIGHTS).write_bytes(bytes(99)), "damaged", "safetensors"),
    "a pointer of Git LFS": (
        lambda run: (run / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "damaged", "LFS",
    ),
    "a config that is no JSON": (lambda run: (run / "prior/config.json").write_text("{"), "damaged", "JSON"),
    "a config of another kind": (
        lambda run: (run / "prior/config.json").write_text('{"format": 1, "kind": "text"}'), "damaged", "of kind",
    ),
    "no pipeline": (lambda run: (run / PIPELINE).write_bytes(b"\0\xff"), "damaged", "can't be read as JSON"),
    "an empty pipeline": (lambda run: (run / PIPELINE).write_text("[]"), "damaged", "instead of a JSON object"),
    "a folder for a pipeline": (
        lambda run: ((run / PIPELINE).unlink(), (run / PIPELINE).mkdir()), "damaged", "not a file",
    ),
    "parts elsewhere": (
        lambda run: write_pipeline(run, PipelineFile(parts={"prior": "../../x", "encoder": "encoder"})),
        "damaged", "outside",
    ),
    "a prior alone": (
        lambda run: write_pipeline(run, PipelineFile(parts={"prior": "prior"})), "damaged", "names no encoder",
    ),
    "a newer format": (lambda run: (run / PIPELINE).write_text('{"format": 9}'), "damaged", "update cymatic"),
}  # fmt: skip


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_is_listed_as_such(how: str, run: Path, tiny_run: Path, listed, cli) -> None:
    shutil.copytree(tiny_run, run.with_name("whole"))
    damage, state, says = BROKEN[how]
    damage(run)
    found = listed()
    assert found["runs/tiny"]["state"] == state, found["runs/tiny"]
    assert says in found["runs/tiny"]["problem"] and found["runs/tiny"]["makes"] is None
    assert found["runs/whole"]["state"] == "ready"
    ran = cli("models")
    assert ran.code == 0 and len(ran.out.splitlines()) == len(STARTERS) + 3 and f"{state}: " in ran.out
    with pytest.raises(ModelError):
        cymatic.load(run)


def test_links_in_a_circle_end(run: Path, listed) -> None:
    (run.parent / "again").symlink_to(run.parent)
    (run.parent / "nowhere").symlink_to("gone")
    (run.parent / "same").symlink_to(run)
    assert [*listed()] == [*STARTERS, "runs/tiny"]


@pytest.mark.parametrize("folder", ["gone", "file"])
def test_a_folder_that_is_none_is_refused(folder: str, refuses, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "give folders that hold runs" in refuses("models", folder)


def test_a_run_has_the_licence_of_what_it_went_on_from(run: Path, listed) -> None:
    recipe = (run / "recipe.yaml").read_text()
    assert listed()["runs/tiny"]["licence"] is None
    (run / "recipe.yaml").write_text(recipe.replace("start: null", "start: starter-sound"))
    assert listed()["runs/tiny"]["licence"] == "CC BY-SA 4.0"
    write_pipeline(run, read_pipeline(run).model_copy(update={"licence": "CC0 1.0"}))
    assert listed()["runs/tiny"]["licence"] == "CC0 1.0"


def test_a_version_stands_in_what_was_made_and_in_no_hash(run: Path, tmp_path: Path) -> None:
    before = cymatic.load(run)
    write_pipeline(run, read_pipeline(run).model_copy(update={"version": 7, "licence": "CC0 1.0"}))
    after = cymatic.load(run)
    assert before.sha256 == after.sha256
    plain, numbered = before(before.captions[0]).info, after(before.captions[0]).info
    assert "version" not in plain and numbered == {**plain, "version": 7}


def test_the_version_of_a_codec_stands_in_what_it_decodes(cli, tmp_path: Path) -> None:
    version = read_pipeline(starters()["starter-codec"]).version
    assert cli("sound", "dog bark", "-o", "dog.flac").code == 0
    assert Sound.read(tmp_path / "dog.flac").info["version"] == read_pipeline(starters()["starter-sound"]).version
    assert cli("encode", "dog.flac", "-o", "dog.cym").code == cli("decode", "dog.cym", "-o", "again.flac").code == 0
    info = Sound.read(tmp_path / "again.flac").info
    assert (info["model"], info["version"]) == ("starter-codec", version)


@pytest.mark.parametrize("name", STARTERS)
def test_a_card_tells_the_version_and_the_licence_of_its_file(name: str) -> None:
    file, card = read_pipeline(starters()[name]), (starters()[name] / "CARD.md").read_text(encoding="utf-8")
    assert card.startswith(f"# {name}, version {file.version}\n")
    assert file.licence is not None and f"the weights are under {file.licence}" in card
