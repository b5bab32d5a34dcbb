"""Every verb of the command line, as an ordinary user starts it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import yaml
from PIL import Image
from tests.helpers import TINY, tiny_recipe, tone

from cymatic import __version__
from cymatic.data.folder import read_folder
from cymatic.media.sound import Sound

SETTINGS = [part for setting in TINY for part in ("--set", setting)]


@pytest.fixture
def say(cli, tiny_run):
    """`cymatic sound` with the tiny model, which must succeed."""

    def call(prompt, *more):
        ran = cli("sound", prompt, "--model", tiny_run, *more)
        assert ran.code == 0, ran
        return ran

    return call


def test_sound_writes_a_file_that_says_where_it_is_from(say, tmp_path, tiny_run):
    ran = say("Low  tone", "--seed", 7, "-o", "out.wav")
    sound = Sound.read("out.wav")
    assert ran.out == f"out.wav  {sound.seconds:.2f} s, 8000 Hz, seed 7\n"
    assert ran.err == ""
    assert (sound.rate, sound.channels) == (8000, 1)
    assert np.abs(sound.samples).max() > 0
    assert sound.info["prompt"] == "Low  tone"
    assert sound.info["seed"] == 7
    assert sound.info["model"] == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", sound.info["sha256"])
    assert (sound.info["guidance"], sound.info["steps"], sound.info["cymatic"]) == (2.0, 6, __version__)
    assert [path.name for path in tmp_path.iterdir()] == ["out.wav"]


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "opus", "mp3"])
def test_every_format_carries_the_prompt(say, extension):
    say("low tone", "-o", f"out.{extension}")
    assert Sound.read(f"out.{extension}").info["prompt"] == "low tone"


def test_the_hash_is_the_models_own(say, tiny_run, tmp_path, cli):
    say("low tone", "-o", "a.wav")
    other = shutil.copytree(tiny_run, tmp_path / "other")
    config = json.loads((other / "vocoder/config.json").read_text())
    (other / "vocoder/config.json").write_text(json.dumps({**config, "rounds": 3}))
    assert cli("sound", "low tone", "--model", other, "-o", "b.wav").code == 0
    a, b = Sound.read("a.wav").info, Sound.read("b.wav").info
    assert a["sha256"] != b["sha256"]
    assert b["model"] == "other"


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(say, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        say("low tone", "--seed", seed, "-o", f"{name}.wav")
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_several_are_numbered_and_equal_single_calls(say, tmp_path):
    ran = say("high tone", "-n", 4, "--seed", 10, "-o", "out.wav", "--plot", "out.png")
    names = [f"out-{i}.{extension}" for i in (1, 2, 3, 4) for extension in ("wav", "png")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert [line.split()[0] for line in ran.out.splitlines()] == names
    for i in (1, 2, 3, 4):
        say("high tone", "--seed", 9 + i, "-o", "single.wav")
        several, single = Sound.read(f"out-{i}.wav"), Sound.read("single.wav")
        assert several.info == single.info and several.info["seed"] == 9 + i
        np.testing.assert_allclose(several.samples, single.samples, atol=1e-5 + 1 / 32768)


def test_plots_are_pictures(say, cli):
    say("low tone", "-o", "out.wav", "--plot", "out.png")
    assert cli("plot", "out.wav", "-o", "again.png").out == "again.png\n"
    for name in ("out.png", "again.png"):
        with Image.open(name) as picture:
            assert (picture.format, picture.size) == ("PNG", (1000, 560))


@pytest.mark.parametrize("seconds", [0.05, 0.1234, 0.5, 0.7])
def test_seconds_are_kept_to_the_sample(say, seconds):
    say("low tone", "--seconds", seconds, "-o", "out.wav")
    assert len(Sound.read("out.wav")) == round(8000 * seconds)


def test_guidance_and_steps_reach_the_sampler(say, tmp_path):
    for i, more in enumerate(([], ["--guidance", 1], ["--guidance", 0], ["--steps", 3])):
        say("low tone", "-o", f"{i}.wav", *more)
    sounds = [Sound.read(f"{i}.wav") for i in range(4)]
    assert [(s.info["guidance"], s.info["steps"]) for s in sounds] == [(2, 6), (1, 6), (0, 6), (2, 3)]
    assert len({sound.samples.tobytes() for sound in sounds}) == 4


def test_a_far_prompt_is_doubted_and_still_made(say, tmp_path):
    ran = say("low eleven", "-o", "out.wav")
    assert re.fullmatch(
        r'cymatic: note: "eleven" is unlike anything .*; nearest captions: low tone, high tone\n', ran.err
    )
    assert (tmp_path / "out.wav").exists()
    assert say("low eleven", "-o", "again.wav").err == ran.err, "each command says it, not the first alone"


@pytest.mark.parametrize("prompt", ["low tone", "  HIGH   Tone ", "a low tone", "tone, low"])
def test_a_near_prompt_is_not_doubted(say, prompt):
    assert say(prompt, "-o", "out.wav").err == ""


@pytest.mark.parametrize(
    "prompt",
    [
        *("低い音", "низкий тон", "نغمة منخفضة", "कम स्वर", "τόνος", "ton grave à l'œil", "🎵"),
        *("👩‍🚀 low tone", '«low» "tone"'),
    ],
)
def test_other_scripts_make_a_sound_with_a_note_at_most(say, prompt):
    ran = say(prompt, "-o", "out.wav")
    assert len(ran.out.splitlines()) == 1
    assert ran.err == "" or (ran.err.startswith("cymatic: note: ") and len(ran.err.splitlines()) == 1)
    assert ("low" in prompt) or ran.err, "nothing in it is known, so it should say so"
    assert Sound.read("out.wav").info["prompt"] == prompt


def test_a_library_that_warns_is_not_the_users_news(say, monkeypatch):
    def load(*args, **kwargs):
        warnings.warn("use another function", UserWarning, stacklevel=1)
        return really(*args, **kwargs)

    from cymatic.pipelines.load import load as really

    monkeypatch.setattr("cymatic.pipelines.load.load", load)
    assert say("low tone", "-o", "out.wav").err == ""


@pytest.mark.parametrize(
    "name", ["🎵 low.wav", 'it\'s "low" & $HOME;.flac', "[red]low[bold].wav", "-low.wav", "ton à l'œil.ogg"]
)
def test_odd_names_are_names(say, cli, tmp_path, name):
    assert say("low tone", f"--output={name}").out.startswith(f"{name}  ")
    assert cli("plot", "--output", "-x y.png", "--", name).out == "-x y.png\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "-x y.png"])


@pytest.mark.parametrize(("channels", "rate"), [(8, 8000), (1, 192_000), (2, 11_025), (1, 1000)])
def test_unusual_sounds_are_drawn_and_learned(cli, tmp_path, channels, rate):
    (tmp_path / "clips").mkdir()
    low = tone(220, 0.2, rate)
    Sound(np.repeat(low.samples, channels, axis=0), rate).write(tmp_path / "clips/low tone 🎵.wav")
    assert cli("plot", "clips/low tone 🎵.wav", "-o", "a.png").code == 0
    ran = cli("train", "clips", "--steps", 1, "-o", "run", *SETTINGS)
    assert ran.code == 0 and "skipped" not in ran.err, ran
    assert "1 items to train on" in ran.err
    assert json.loads((tmp_path / "run/pipeline.json").read_text())["captions"] == ["low tone 🎵"]


def test_train_says_the_plan_and_leaves_a_model(cli, tones, tmp_path):
    ran = cli("train", tones, "--steps", 45, *SETTINGS, "--set", "training.checkpoint_steps=15")
    assert ran.code == 0, ran
    run = tmp_path / "runs" / "tones"
    plan = {line.split()[0]: line for line in ran.err.splitlines()}
    held_out = len(read_folder(tones).of("valid"))  # by content, which differs between versions of libsndfile
    assert f"{8 - held_out} items to train on" in plan["data"] and f"{held_out} held out" in plan["data"]
    assert "2 captions" in plan["data"]
    assert "mels at 8000 Hz" in plan["reads"]
    assert f"M parameters, batches of {8 - held_out}" in plan["model"]
    assert "45 steps" in plan["time"]
    assert "MB" in plan["disk"]
    reports = re.findall(r"^step (\d+) of 45: loss [\d.]+, held out [\d.]+, .* to go$", ran.err, re.MULTILINE)
    assert reports == ["15", "30", "45"]
    first, *verdict, last = ran.out.splitlines()
    assert (run / "verdict.txt").read_text().splitlines() == verdict and "loss held out" in verdict[0]
    assert re.fullmatch(r"trained 45 steps in \d+\.\d min; runs/tones holds the weights of step \d+", first)
    assert last == 'make one: cymatic sound "..." --model runs/tones -o out.wav'
    events = b"".join(path.read_bytes() for path in (run / "logs").glob("events.out.tfevents.*"))
    assert b"train/loss" in events and b"valid/loss" in events
    assert yaml.safe_load((run / "recipe.yaml").read_text())["stages"]["prior"]["training"]["steps"] == 45
    assert not list(run.rglob("*.tmp"))
    assert cli("sound", "low tone", "--model", "runs/tones", "-o", "out.wav").code == 0


def test_what_is_printed_for_a_medium_without_a_command_holds_for_any_folder():
    from cymatic.media.features import FEATURES
    from cymatic.training.builders.prior import use_of

    printed = use_of(FEATURES).removeprefix("make one: ").format(run=shlex.quote("it's a run"))
    python, option, code, run = shlex.split(printed)
    assert (python, option, run) == ("python", "-c", "it's a run")
    compile(code, "printed", "exec")


def test_resume_goes_on_to_the_same_weights(cli, tones, tiny_run, tmp_path):
    from cymatic.training.train import train

    def stop(at):
        if at.step == 38:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_recipe(tones, "training.steps=45", "training.checkpoint_steps=15"),
            tmp_path / "run", say=lambda line: None, on_report=stop,
        )  # fmt: skip
    ran = cli("train", "--resume", "-o", "run")
    assert ran.code == 0 and "trained 45 steps" in ran.out, ran
    assert re.findall(r"^step (\d+) of", ran.err, re.MULTILINE) == ["45"], "it went on at step 30"
    for part in ("prior", "encoder", "vocoder"):
        weights = f"{part}/model.safetensors"
        assert (tmp_path / "run" / weights).read_bytes() == (tiny_run / weights).read_bytes()


def test_a_run_stopped_before_its_first_checkpoint_resumes_from_the_start(cli, tones, tiny_run, tmp_path):
    (tmp_path / "run").mkdir()
    shutil.copy(tiny_run / "recipe.yaml", tmp_path / "run")
    early = cli("sound", "low tone", "--model", "run", "-o", "out.wav")
    assert early.code == 2 and "is no model" in early.err
    again = cli("train", tones, "--steps", 45, "-o", "run")
    assert again.code == 2 and "add --resume" in again.err
    ran = cli("train", tones, "--resume", "-o", "run")
    assert ran.code == 0 and "trained 45 steps" in ran.out, ran
    weights = "prior/model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (tiny_run / weights).read_bytes()


def test_recipes_by_name_by_path_and_overridden(cli, tones, tmp_path):
    (tmp_path / "my.yaml").write_text("prior: {width: 64, patch: 4}\ntraining: {steps: 2}\n")
    assert cli("train", tones, "--recipe", "my.yaml", "-o", "a", *SETTINGS).code == 0
    assert (
        cli(
            "train", tones, "--recipe", "starter-sound", "-o", "b", "--steps", 2, "--set", "data.packs=[]", *SETTINGS
        ).code
        == 0
    )
    a, b = (yaml.safe_load((tmp_path / name / "recipe.yaml").read_text()) for name in "ab")
    parts = [one["stages"]["prior"]["part"] for one in (a, b)]
    assert [(part["width"], part["patch"]) for part in parts] == [(32, 4), (32, 4)]
    assert a["stages"]["prior"]["training"]["steps"] == 2
    assert b["vocoder"]["rounds"] == 2 and (b["steps"], b["minutes"]) == (2, None)


def test_train_from_a_run(cli, tones, tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "first")
    few = ["--steps", 2, "--set", "training.batch=8", "--set", "vocoder.rounds=2"]
    ran = cli("train", tones, *few, "--from", "first", "-o", "a")
    assert ran.code == 0, ran
    a = yaml.safe_load((tmp_path / "a/recipe.yaml").read_text())
    a = a["stages"]["prior"]
    assert a["start"] == str(tmp_path / "first"), "it holds wherever the run is resumed"
    assert (a["part"]["width"], a["part"]["mel"]["rate"]) == (32, 8000), "its size and its mel are taken over"
    ran = cli("train", tones, *few, "--from", "scratch", "-o", "b", *SETTINGS)
    assert ran.code == 0, ran
    assert yaml.safe_load((tmp_path / "b/recipe.yaml").read_text())["stages"]["prior"]["start"] is None


def test_train_names_and_counts_what_it_skips(cli, tones, tmp_path):
    folder = shutil.copytree(tones, tmp_path / "clips")
    (folder / "[red]broken.wav").write_text("this is no sound")
    (folder / "notes.txt").write_text("neither is this")
    (folder / "_.wav").write_bytes((folder / "low-tone_1.wav").read_bytes())
    ran = cli("train", folder, "--steps", 1, "-o", "run", *SETTINGS)
    assert ran.code == 0
    skipped = [line for line in ran.err.splitlines() if line.startswith("skipped ")]
    assert len(skipped) == 3
    assert any("[red]broken.wav: is not a sound" in line for line in skipped)
    assert any("notes.txt: is not a sound by its extension" in line for line in skipped)
    assert any("_.wav: has a caption that can't be a prompt" in line for line in skipped)
    assert "3 skipped" in ran.err.splitlines()


def test_an_interrupt_is_130_without_a_traceback(cli, tiny_run, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("cymatic.pipelines.load.load", interrupt)
    ran = cli("sound", "low tone", "--model", tiny_run, "-o", "out.wav")
    assert (ran.code, ran.out, ran.err) == (130, "", "")


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("can't allocate memory: 8 GB\nat line 3")])
def test_too_little_memory_is_one_line(cli, tiny_run, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("cymatic.pipelines.load.load", fail)
    ran = cli("sound", "low tone", "--model", tiny_run, "-o", "out.wav")
    assert ran.code == 2 and "not enough memory" in ran.err and len(ran.err.splitlines()) == 1


def test_a_mistake_of_ours_is_not_hidden(cli, tiny_run, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr("cymatic.pipelines.load.load", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        cli("sound", "low tone", "--model", tiny_run, "-o", "out.wav")


def test_version(cli):
    ran = cli("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"cymatic {__version__}\n", "")


@pytest.mark.parametrize(
    ("verb", "named"),
    [
        ([], ["sound", "plot", "train", "--version"]),
        (["sound"], ["prompt", "--output", "-n", "--seed", "--guidance", "--steps", "--seconds", "--model", "--plot"]),
        (["plot"], ["audio", "--output"]),
        (["train"], ["folder", "--recipe", "--out", "--minutes", "--steps", "--set", "--resume", "--device"]),
    ],
    ids=["all", "sound", "plot", "train"],
)  # fmt: skip
def test_help_names_everything(cli, verb, named):
    ran = cli(*verb, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("Usage: cymatic")
    for name in named:
        assert re.search(rf"(?<!\w){re.escape(name)}\b", ran.out), name


def test_no_arguments_are_help(cli):
    assert cli() == cli("--help")


def start(code, *arguments, **options):
    """`code` in a fresh Python, with `arguments` as the command line."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False, **options)


MAIN = "from cymatic.apps.cli import main; main()"


def test_a_fresh_process_generates_without_what_trains(tiny_run, tmp_path):
    code = "import sys\nfrom cymatic.apps.cli import run\ncode = run(sys.argv[1:])\nprint(*sys.modules)\nsys.exit(code)"
    done = start(code, "sound", "low tone", "--model", tiny_run, "-o", "o.wav", "--plot", "o.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    loaded = {name.partition(".")[0] for name in done.stdout.decode().splitlines()[-1].split()}
    assert "torch" in loaded and "matplotlib" in loaded
    assert not loaded & {"scipy", "pyloudnorm", "lightning_fabric", "transformers", "wordllama", "tensorboard"}
    assert b" cymatic.training" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_the_terminal_cannot_show(tiny_run, tmp_path, encoding):
    name = os.fsdecode("🎵 \N{SNOWMAN}".encode() + b"\xff.wav")
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = start(MAIN, "sound", "low tone", "--model", tiny_run, "-o", name, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir(tmp_path) == [name]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_takes_nothing(unbuffered):
    options = {"stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONUNBUFFERED": unbuffered}}
    command = [sys.executable, "-c", MAIN, "--version"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, check=False, **options)
    assert (done.returncode, done.stderr) == (2, b"cymatic: the output: no space left on device\n")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(command, stdout=write, check=False, **options)
    os.close(write)
    assert (done.returncode, done.stderr) in [(0, b""), (1, b"")], "`| head` is no error to speak of"
