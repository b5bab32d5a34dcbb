"""What a hostile or unlucky user gives: each ends in one line on stderr and 2, and leaves no file (see `refuses`)."""

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import TINY, tone

SETTINGS = [part for setting in TINY for part in ("--set", setting)]

# name -> (makes the file, what is said about it)
BAD_SOUNDS = {
    "empty": (lambda path: path.touch(), r"is empty \(0 bytes\)"),
    "truncated": (lambda path: path.write_bytes(tone(220).write(path).read_bytes()[:1000]), "cut short"),
    "not a number": (
        lambda path: soundfile.write(path, np.array([0, np.nan] * 500), 8000, subtype="FLOAT"),
        "NaN or infinite",
    ),
    "infinite": (lambda path: soundfile.write(path, np.full(999, np.inf), 8000, subtype="FLOAT"), "NaN or infinite"),
    "no sample": (lambda path: soundfile.write(path, np.zeros(0), 8000), r"is empty \(0 samples\)"),
    "one sample": (lambda path: soundfile.write(path, np.zeros(1), 8000), r"too short \(1 sample,"),
    "text": (lambda path: path.write_text("this is no sound"), "is not a sound"),
    "zeros": (lambda path: path.write_bytes(bytes(5000)), "is not a sound"),
    "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100)), "is not a sound"),
    "a pickle": (lambda path: path.write_bytes(pickle.dumps(Evil())), "is not a sound"),
    "a folder": (lambda path: path.mkdir(), "is a folder"),
    "missing": (lambda path: None, "does not exist"),
    "beneath a file": (lambda path: path.parent.rmdir() or path.parent.write_text("x"), "does not exist"),
    "a pipe": (lambda path: os.mkfifo(path), "is not a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path), "can't be read"),
}


class Evil:
    """Unpickling this makes the file `was-run`."""

    def __reduce__(self):
        return (open, ("was-run", "w"))


@pytest.mark.parametrize("kind", BAD_SOUNDS)
def test_bad_sounds(refuses, tmp_path, kind):
    make, said = BAD_SOUNDS[kind]
    path = tmp_path / "given" / "a.wav"
    path.parent.mkdir()
    make(path)
    assert re.search(f"given/a.wav .*{said}", refuses("plot", "given/a.wav", "-o", "a.png"))


def closed(path, mode):
    """Changes what may be done with `path`; skips for root, whom that does not bind."""
    path.chmod(mode)
    if os.access(path, os.W_OK):
        pytest.skip("this user may read and write everything")


def test_a_sound_that_may_not_be_read(refuses, tmp_path):
    closed(tone(220).write(tmp_path / "a.wav"), 0)
    assert "a.wav can't be read: permission denied" in refuses("plot", "a.wav", "-o", "a.png")


def test_weights_that_may_not_be_read(refuses, tiny_run, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    closed(model / WEIGHTS, 0)
    said = refuses("sound", "low tone", "--model", "model", "-o", "out.wav")
    assert "model.safetensors can't be read: permission denied" in said


def test_a_sound_that_may_not_be_read_as_anyone(refuses, tmp_path, monkeypatch):
    tone(220).write(tmp_path / "a.wav")

    def refuse(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("cymatic.media.audio_files.open", refuse, raising=False)
    assert "a.wav can't be read: permission denied" in refuses("plot", "a.wav", "-o", "a.png")


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", "the prompt is empty"),
        (" \t\n ", "the prompt is empty"),
        ("\u200b\ufeff", "the prompt is empty"),
        ("a" * 10_000, "too long: 10000 characters"),
        ("word " * 2_000, "too long: 9999 characters"),
        ("犬" * 10_000, "too long: 10000 characters"),
        ("word " * 65, r"too long: 324 characters \(65 tokens\)"),
        ("low\0tone", r"control character U\+0000"),
        ("low\x1b[31mtone", r"control character U\+001B"),
        ("low\x7ftone", r"control character U\+007F"),
        ("low\x85\x86tone", r"control character U\+0086"),
        ("\udcff", r"'.udcff' is not UTF-8; give text in UTF-8"),
    ],
    ids=range(12),
)
def test_bad_prompts(refuses, tiny_run, prompt, said):
    assert re.search(said, refuses("sound", prompt, "--model", tiny_run, "-o", "out.wav"))


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("-n", "0", "0 were asked for; give a number from 1 to 10000"),
        ("-n", "-3", "-3 were asked for"),
        ("-n", "zwei", "Invalid value for '-n'"),
        ("-n", "1.5", "Invalid value for '-n'"),
        ("-n", "10001", "from 1 to 10000"),
        ("-n", "9" * 30, "from 1 to 10000"),
        ("--seconds", "-1", "-1 seconds were asked for and this model makes 0.05 to 0.80"),
        ("--seconds", "0", "0 seconds were asked for"),
        ("--seconds", "1e9", r"1e\+09 seconds were asked for"),
        ("--seconds", "0.81", "0.81 seconds were asked for"),
        ("--seconds", "nan", "nan seconds were asked for"),
        ("--seconds", "inf", "inf seconds were asked for"),
        ("--seconds", "long", "Invalid value for '--seconds'"),
        ("--guidance", "nan", '"guidance" is nan; give one that is a finite number'),
        ("--guidance", "-1", '"guidance" is -1.0; give one that is greater than or equal to 0'),
        ("--guidance", "inf", '"guidance" is inf'),
        ("--guidance", "1e300", r'"guidance" is 1e\+300; give one that is less than or equal to 100'),
        ("--steps", "0", '"steps" is 0; give one that is greater than or equal to 1'),
        ("--steps", "-1", '"steps" is -1'),
        ("--steps", "1001", '"steps" is 1001; give one that is less than or equal to 1000'),
        ("--steps", "nan", "Invalid value for '--steps'"),
        ("--seed", "-1", "the seed is -1; give a whole number from 0"),
        ("--seed", str(2**63), f"the seed is {2**63}"),
        ("--seed", "9" * 100, "the seed is 999"),
        ("--seed", "x", "Invalid value for '--seed'"),
        ("--device", "tpu", 'no device "tpu" here; give one of: auto, cpu'),
        ("--device", "", 'no device ""'),
        ("--device", "cpu:", 'no device "cpu:"'),
        ("--device", "cpu:1", 'no device "cpu:1"'),
        ("--device", "cuda:x", 'no device "cuda:x"'),
        ("--model", "nope", 'there is no model "nope".*a folder that cymatic train wrote'),
        ("--model", "starter-sond", 'there is no model "starter-sond"'),
        ("--model", "a\0b", "there is no model"),
        ("--model", "x" * 5000, "there is no model"),
        ("--model", ".", "is no model, for it holds no pipeline.json"),
        ("--colour", "red", "No such option: --colour"),
    ],
)
def test_bad_options(refuses, tiny_run, option, value, said):
    given = {"--model": str(tiny_run), option: value}
    options = [part for pair in given.items() for part in pair]
    assert re.search(said, refuses("sound", "low tone", "-o", "out.wav", "--plot", "out.png", *options))


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_a_device_that_is_not_there(refuses, tiny_run, tones, monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for command in (["sound", "low tone", "--model", tiny_run, "-o", "a.wav"], ["train", tones, "--steps", 1]):
        assert f'no device "{device}" here; give one of: auto, cpu' in refuses(*command, "--device", device)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sound"], "Missing option '--output'"),
        (["sound", "-o", "out.wav"], "neither words nor --prompts were given; give one of them"),
        (["sound", "low tone"], "Missing option '--output'"),
        (["plot"], "Missing argument 'audio'"),
        (["plot", "a.wav"], "Missing option '--output'"),
        (["train"], "no folder was given"),
        (["train", "--steps", "3", "-o", "run"], "no folder was given"),
        (["sond", "low tone"], "No such command 'sond'"),
        (["--verson"], "No such option: --verson"),
        (["sound", "low", "tone", "-o", "out.wav"], "unexpected extra argument"),
    ],
)
def test_incomplete_commands(refuses, arguments, said):
    assert said in refuses(*arguments)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("out", "name without an extension"),
        ("out.txt", 'unknown extension ".txt"'),
        (".wav", "name without an extension"),
        ("", "name without an extension"),
        ("nope/out.wav", "there is no folder nope"),
        ("given/file/out.wav", "given/file is not a folder"),
        ("given/folder.wav", "is a folder"),
        ("o" * 300 + ".wav", "file name too long"),
        ("a\0b.wav", "null byte"),
    ],
)
@pytest.mark.parametrize("verb", ["sound", "sound --plot", "plot"])
def test_outputs_that_cannot_be_written(refuses, tiny_run, tmp_path, verb, output, said):
    (tmp_path / "given/folder.wav").mkdir(parents=True)
    (tmp_path / "given/folder.png").mkdir(parents=True)
    (tmp_path / "given/file").write_text("x")
    tone(220).write(tmp_path / "a.wav")
    if verb != "sound":
        output = output.replace(".wav", ".png")
        said = said.replace(".wav", ".png")
    command = {
        "sound": ["sound", "low tone", "--model", tiny_run, "-o", output],
        "sound --plot": ["sound", "low tone", "--model", tiny_run, "-o", "out.wav", "--plot", output],
        "plot": ["plot", "a.wav", "-o", output],
    }[verb]
    assert said in refuses(*command)


def test_one_of_several_outputs_is_in_the_way(refuses, tiny_run, tmp_path):
    (tmp_path / "out-3.wav").mkdir()
    (tmp_path / "out-2.png").mkdir()
    several = ["sound", "low tone", "--model", tiny_run, "-n", 4, "-o"]
    assert "out-3.wav is a folder" in refuses(*several, "out.wav")
    assert "out-2.png is a folder" in refuses(*several, "new.wav", "--plot", "out.png")


def test_a_folder_that_may_not_be_written_to(refuses, tiny_run, tones, tmp_path, monkeypatch):
    """As root may write anywhere, the system's answer is simulated: asked before the work, and given at the end."""
    tone(220).write(tmp_path / "a.wav")
    commands = [
        ["sound", "low tone", "--model", tiny_run, "-o", "out.wav"],
        ["plot", "a.wav", "-o", "a.png"],
        ["train", tones, "--steps", 1, *SETTINGS],
    ]
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        for command in commands:
            assert re.search("permission denied; give a folder|you may not write to", refuses(*command))

    def refuse(path, mode):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("cymatic.files.open", refuse, raising=False)
    for command in commands[:2]:
        assert "can't be written: permission denied; give a folder that you may write to" in refuses(*command)


def test_a_folder_that_is_read_only(refuses, tiny_run, tones, tmp_path):
    (tmp_path / "closed").mkdir()
    closed(tmp_path / "closed", 0o500)
    assert "permission denied" in refuses("sound", "low tone", "--model", tiny_run, "-o", "closed/out.wav")
    assert "you may not write" in refuses("train", tones, "--steps", 1, "-o", "closed/run", *SETTINGS)


class FullFile:
    """A file on a disk that has no room for its last bytes."""

    def __init__(self, path, mode):
        self.file = open(path, mode)  # noqa: SIM115

    def __enter__(self):
        return self

    def __exit__(self, *rest):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


def full(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("name", "stand_in"), [("open", full), ("open", FullFile), ("os.replace", full)])
@pytest.mark.parametrize("verb", ["sound", "plot"])
def test_a_full_disk(refuses, tiny_run, tmp_path, monkeypatch, verb, name, stand_in):
    tone(220).write(tmp_path / "a.wav")
    (tmp_path / "out.wav").write_text("what was here before stays")
    command = {
        "sound": ["sound", "low tone", "--model", tiny_run, "-o", "out.wav"],
        "plot": ["plot", "a.wav", "-o", "out.png"],
    }[verb]
    monkeypatch.setattr(f"cymatic.files.{name}", stand_in, raising=False)
    assert "can't be written: no space left on device; free some space" in refuses(*command)


LIMITED = (
    "import resource, sys\n"
    "from cymatic.apps.cli import main\n"
    "import torch\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
    "main(sys.argv[2:])\n"
)


def limited(size, *arguments, cwd):
    """The command in a process of its own whose files can't grow beyond `size` bytes: the system's own refusal."""
    command = [sys.executable, "-c", LIMITED, size, *arguments]
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_file_that_the_system_cuts_off(tiny_run, tmp_path):
    done = limited(1000, "sound", "low tone", "--model", tiny_run, "-o", "out.wav", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr == "cymatic: out.wav can't be written: file too large; free some space or give another path\n"
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
@pytest.mark.parametrize(
    ("size", "file"), [(100, "recipe.yaml"), (5_000, "encoder/model.safetensors"), (300_000, "state")]
)
def test_a_run_on_a_full_disk_is_whole_files(tones, tiny_run, tmp_path, size, file):
    more = ["--set", "training.checkpoint_steps=15"]
    done = limited(size, "train", tones, "--steps", 45, "-o", "run", *SETTINGS, *more, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(f"cymatic: .*{file}.* can't be written: file too large; free some space.*", last)
    assert "Traceback" not in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.suffix == ".tmp"]
    for weights in tmp_path.rglob("*.safetensors"):
        load_file(weights)
    if (tmp_path / "run/recipe.yaml").exists():  # with room again it goes on, to the same weights
        again = limited(10**9, "train", "--resume", "-o", "run", cwd=tmp_path)
        assert again.returncode == 0, again
        weights = "prior/model.safetensors"
        assert (tmp_path / "run" / weights).read_bytes() == (tiny_run / weights).read_bytes()


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def parts(model, **changes):
    edited(model / "pipeline.json", parts={"encoder": "encoder", "prior": "prior", "vocoder": "vocoder", **changes})


def tensors(path, **changes):
    save_file({**load_file(path), **changes}, path)


def replaced(path, make):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def other_mel(model):
    config = json.loads((model / "vocoder/config.json").read_text())
    edited(model / "vocoder/config.json", mel={**config["mel"], "fmin": 20.0})


WEIGHTS = "prior/model.safetensors"
BAD_MODELS = {
    # incomplete
    "no pipeline": (
        lambda m: (m / "pipeline.json").unlink(),
        "model is a run that is no model yet; finish it with cymatic train --resume",
    ),
    "neither pipeline nor recipe": (
        lambda m: [(m / name).unlink() for name in ("pipeline.json", "recipe.yaml")],
        "model is no model, for it holds no pipeline.json",
    ),
    "no encoder": (
        lambda m: shutil.rmtree(m / "encoder"),
        r"model lacks its encoder \(encoder/config.json is missing\).*--resume",
    ),
    "no prior": (lambda m: shutil.rmtree(m / "prior"), "model lacks its prior"),
    "no vocoder": (lambda m: shutil.rmtree(m / "vocoder"), "model lacks its vocoder"),
    "no config": (lambda m: (m / "prior/config.json").unlink(), "model lacks its prior"),
    "no weights": (lambda m: (m / WEIGHTS).unlink(), "model.safetensors is missing"),
    "unnamed": (lambda m: edited(m / "pipeline.json", parts={"prior": "prior"}), "names no encoder"),
    "untrained": (lambda m: tensors(m / WEIGHTS, steps_trained=torch.tensor(0)), "was never trained"),
    # of another version or kind
    "newer": (lambda m: edited(m / "pipeline.json", format=2), "is of format 2.*update cymatic"),
    "newer part": (lambda m: edited(m / "prior/config.json", format=2), "is of format 2.*update cymatic"),
    "other kind": (lambda m: edited(m / "pipeline.json", kind="speech-to-picture"), 'of the kind "speech-to'),
    "other part": (lambda m: parts(m, encoder="prior"), 'kind "flow" where one of'),
    "other mel": (other_mel, "its vocoder reads another mel"),
    "other width": (lambda m: edited(m / "encoder/config.json", dim=32), r"is \[16\] instead of \[32\]"),
    "other table": (lambda m: edited(m / "encoder/config.json", table_sha256="0" * 64), "another token table"),
    "unknown key": (
        lambda m: edited(m / "pipeline.json", sampling={"guidence": 2}),
        'unknown key "guidence"; did you mean "guidance"',
    ),
    # damaged
    "no JSON": (lambda m: (m / "pipeline.json").write_text("{"), "can't be read as JSON"),
    "a list": (lambda m: (m / "pipeline.json").write_text("[]"), "holds a list"),
    "binary": (lambda m: (m / "pipeline.json").write_bytes(b"\xff\0\xfe"), "can't be read as JSON"),
    "deep": (lambda m: (m / "pipeline.json").write_text('{"a":' * 99_999), "can't be read as JSON"),
    "a folder": (lambda m: replaced(m / "pipeline.json", os.mkdir), "is not a file"),
    "cut": (lambda m: (m / WEIGHTS).write_bytes((m / WEIGHTS).read_bytes()[:-9]), "is not a sound safetensors"),
    "empty": (lambda m: (m / WEIGHTS).write_bytes(b""), "is not a sound safetensors"),
    "NaN": (lambda m: tensors(m / WEIGHTS, mean=torch.full((64, 1), torch.nan)), "mean holds NaN"),
    "complex": (lambda m: tensors(m / WEIGHTS, std=torch.ones(64, 1) * 1j), "std holds complex64 instead of float32"),
    "tiny floats": (
        lambda m: tensors(m / WEIGHTS, std=torch.ones(64, 1).to(torch.float8_e4m3fn)),
        "std holds float8_e4m3fn",
    ),
    "deafening": (lambda m: tensors(m / WEIGHTS, mean=torch.full((64, 1), 300.0)), "made NaN or infinity"),
    "NaN setting": (
        lambda m: edited(m / "pipeline.json", sampling={"guidance": float("nan")}),
        '"guidance" is nan',
    ),
    # hostile
    "pickled weights": (lambda m: (m / WEIGHTS).write_bytes(pickle.dumps(Evil())), "pickles are never opened"),
    "torch's pickle": (lambda m: torch.save({"mean": Evil()}, m / WEIGHTS), "pickles are never opened"),
    "pickled config": (lambda m: (m / "prior/config.json").write_bytes(pickle.dumps(Evil())), "can't be read as JSON"),
    "outside": (lambda m: parts(m, encoder="../given/encoder"), "points outside the model.*refused"),
    "absolute": (lambda m: parts(m, encoder=os.path.abspath("encoder")), "points outside the model.*refused"),
    "a link outside": (
        lambda m: replaced(m / "encoder", lambda path: path.symlink_to(m.parent / "given")),
        "points outside the model.*refused",
    ),
    "a link in a circle": (lambda m: replaced(m / "encoder", lambda path: path.symlink_to(path)), "encoder"),
    "a link to a device": (lambda m: replaced(m / WEIGHTS, lambda path: path.symlink_to("/dev/zero")), "is missing"),
    "a pipe": (lambda m: replaced(m / "pipeline.json", os.mkfifo), "is not a file"),
    "a NUL": (lambda m: parts(m, encoder="en\0coder"), "is no place for a part"),
    "a long name": (lambda m: parts(m, encoder="t" * 5000), "lacks its encoder|too long"),
    "endless": (lambda m: tensors(m / WEIGHTS, longest=torch.tensor(2**60)), "claims a length of"),
    "negative": (lambda m: tensors(m / WEIGHTS, longest=torch.tensor(-1)), "claims a length of"),
    "wide": (lambda m: edited(m / "prior/config.json", width=60_000_000), '"width" is 60000000'),
    "deep and wide": (lambda m: edited(m / "prior/config.json", width=8192, depth=128), "more than 1,000,000,000"),
    "slow": (lambda m: edited(m / "vocoder/config.json", rounds=10**9), '"rounds" is 1000000000'),
    "huge JSON": (lambda m: os.truncate(m / "pipeline.json", 2**26 + 1), "is larger than 64 MB"),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_bad_models(refuses, tiny_run, tmp_path, kind):
    harm, said = BAD_MODELS[kind]
    (tmp_path / "given").mkdir()
    model = shutil.copytree(tiny_run, tmp_path / "model", ignore=shutil.ignore_patterns("state", "logs"))
    harm(model)
    assert re.search(said, refuses("sound", "low tone", "--model", "model", "-o", "out.wav"))
    assert not (tmp_path / "was-run").exists(), "code from a file was run"


def test_captions_that_no_prompt_could_be_are_passed_over(cli, tiny_run, tmp_path):
    model = shutil.copytree(tiny_run, tmp_path / "model")
    edited(model / "pipeline.json", captions=["", "a\0b", "word " * 99, "low tone"])
    ran = cli("sound", "eleven", "--model", model, "-o", "out.wav")
    assert ran.code == 0 and ran.err.endswith("nearest captions: low tone\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "nope does not exist; give a folder of sounds"),
        (["tones/low-tone_1.wav"], "is a file; give the folder that holds the sounds"),
        (["empty"], "empty holds no sound to train on; give a folder"),
        (["texts"], r"texts holds no sound to train on \(a.txt: is not a sound by its extension\)"),
        (
            ["bad-manifest"],
            r'holds no sound to train on \(manifest.jsonl line 1: needs the texts "audio" and "caption"',
        ),
        (["tones", "-o", "run"], "run already holds a run; add --resume"),
        (["tones", "-o", "model"], "model already holds a model; give another folder"),
        (["tones", "-o", "tones/low-tone_1.wav"], "tones/low-tone_1.wav is a file"),
        (["tones", "-o", "tones/low-tone_1.wav/run"], "tones/low-tone_1.wav is a file"),
        (["tones", "--minutes", "1"], "both --minutes and --steps were given"),
        (["tones", "--steps", "0"], "--steps is 0; give a whole number from 1"),
        (["tones", "--steps", "-1"], "--steps is -1"),
        (["tones", "--steps", "many"], "Invalid value for '--steps'"),
        (["tones", "--device", "tpu"], 'no device "tpu"'),
        (["tones", "--recipe", "nope"], 'there is no recipe "nope"; known: .*starter-sound'),
        (["tones", "--recipe", "starter-sond"], 'no recipe "starter-sond"; did you mean "starter-sound"'),
        (["tones", "--recipe", "empty"], 'there is no recipe "empty"'),
        (["tones", "--recipe", "bad.yaml"], "bad.yaml is not valid YAML"),
        (["tones", "--recipe", "binary.yaml"], "binary.yaml is not valid YAML"),
        (["tones", "--recipe", "deep.yaml"], "deep.yaml is not valid YAML"),
        (["tones", "--recipe", "list.yaml"], "list.yaml holds a list"),
        (["tones", "--recipe", "code.yaml"], "code.yaml is not valid YAML"),
        (["tones", "--recipe", "unknown.yaml"], 'unknown key "stages.prior.part.widht"; did you mean "width"'),
        (["tones", "--recipe", "number.yaml"], "keys should be names"),
        (["tones", "--set", "prior.widht=3"], 'unknown key "stages.prior.part.widht"; did you mean "width"'),
        (["tones", "--set", "prior.width"], "is not of the form a.b=c"),
        (["tones", "--set", "prior.width=[1"], "is not a YAML value"),
        (["tones", "--set", "prior.width=60000000"], '"stages.prior.part.width" is 60000000'),
        (["tones", "--set", "prior.width=5"], "width 5 is not a multiple"),
        (
            ["tones", "--set", "prior.mel=sound-25k"],
            '"stages.prior.part.mel" is .*: there is no mel "sound-25k"; did you mean "sound-24k"',
        ),
        (["tones", "--set", "prior.mel={rate: 8000}"], '"stages.prior.part.mel.n_fft" is missing'),
        (["tones", "--set", "training.steps=1", "--set", "training.minutes=1"], "steps and minutes are both given"),
        (["--resume"], "no folder was given"),
        (["--resume", "-o", "nope"], "nope holds no run to resume"),
        (["--resume", "-o", "tones/low-tone_1.wav"], "holds no run to resume"),
        (["--resume", "-o", "run", "--set", "prior.depth=2"], "a resumed run keeps its recipe"),
        (["--resume", "-o", "run", "--from", "scratch"], "a resumed run keeps its recipe"),
        (["tones", "--from", "starter-sond"], 'no model "starter-sond" to start from .*did you mean "starter-sound"'),
        (["tones", "--from", "empty"], "empty is no model, for it holds no pipeline.json"),
        (["tones", "--from", "starter-sound"], "starter-sound reads another target than this recipe"),
        (["tones", "--from", "run", "--set", "prior.depth=2"], r"prior\.depth is 2 and that of .* is 1; leave it out"),
        (["tones", "--set", "data.augment.gain=-1"], '"data.augment.gain" is -1'),
        (["tones", "--set", "data.augment.echo=1"], 'unknown key "data.augment.echo"'),
        (["empty", "--resume", "-o", "run"], "empty holds no sound to train on"),
        (["--resume", "-o", "torn"], "recipe.yaml is not valid YAML"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_bad_training(refuses, tones, tiny_run, tmp_path, arguments, said):
    for name in ("empty", "texts", "bad-manifest", "model", "torn"):
        (tmp_path / name).mkdir()
    (tmp_path / "tones").symlink_to(tones)
    (tmp_path / "run").symlink_to(tiny_run)
    (tmp_path / "texts/a.txt").write_text("x")
    (tmp_path / "bad-manifest/manifest.jsonl").write_text('{"audio": 3}\n{"audio": "a\\u0000", "caption": "x"}\n')
    (tmp_path / "model/pipeline.json").write_text("{}")
    (tmp_path / "torn/recipe.yaml").write_text("a: [")
    (tmp_path / "bad.yaml").write_text("a: [")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\0")
    (tmp_path / "deep.yaml").write_text("[" * 5000)
    (tmp_path / "list.yaml").write_text("- a")
    (tmp_path / "code.yaml").write_text("!!python/object/apply:os.system ['touch was-run']")
    (tmp_path / "unknown.yaml").write_text("prior: {widht: 3}")
    (tmp_path / "number.yaml").write_text("1: 2")
    length = [] if "--resume" in arguments or "--steps" in arguments else ["--steps", "1"]
    out = [] if "-o" in arguments or "--resume" in arguments else ["-o", "new"]
    settings = [] if "--resume" in arguments else SETTINGS
    assert re.search(said, refuses("train", *settings, *length, *out, *arguments))


@pytest.mark.parametrize("minutes", ["0", "nan", "-1", "inf", "1e9", "soon"])
def test_bad_minutes(refuses, tones, minutes):
    said = refuses("train", tones, "--minutes", minutes)
    assert "Invalid value for '--minutes'" in said or f"--minutes is {float(minutes):g}; give a number above 0" in said


def test_a_recipe_cannot_hide_minutes_that_are_wrong(refuses, tones, tmp_path):
    (tmp_path / "my.yaml").write_text("training: {steps: 2}")
    assert "--minutes is 0" in refuses("train", tones, "--recipe", "my.yaml", "--minutes", "0")


def test_training_on_broken_files_only_names_them(cli, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    wanted = {
        kind: make for kind, (make, _) in BAD_SOUNDS.items() if kind not in ("missing", "beneath a file", "a folder")
    }
    for kind, make in wanted.items():
        make(folder / f"{kind}.wav")
    ran = cli("train", "broken", "--steps", 1, *SETTINGS)
    assert (ran.code, ran.out) == (2, ""), ran
    *lines, last = ran.err.splitlines()
    readable = {kind for kind in wanted if kind not in ("a pipe", "a link to itself")}  # those are no files at all
    assert last.startswith(f"cymatic: none of the {len(readable)} sounds in ") and last.endswith(
        "see the reasons above"
    )
    for kind in readable:
        assert any(line.startswith("skipped ") and f"{kind}.wav: " in line for line in lines), kind
    assert f"{len(readable)} skipped" in lines
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


def test_one_file_is_enough_to_train(cli, tmp_path):
    (tmp_path / "one").mkdir()
    tone(220).write(tmp_path / "one/low-tone.wav")
    ran = cli("train", "one", "--steps", 2, *SETTINGS)
    assert ran.code == 0 and "nothing is held out" in ran.err, ran
    assert cli("sound", "low tone", "--model", "runs/one", "-o", "out.wav").code == 0


def test_a_loss_that_is_no_number_leaves_no_broken_model(cli, refuses, tones):
    ran = cli("train", tones, "--steps", 1, "-o", "run", *SETTINGS, "--set", "training.learning_rate=1e30")
    assert (ran.code, ran.out) == (2, "")
    assert "a lower training.learning_rate than 1e+30" in ran.err.splitlines()[-1]
    assert "was never trained" in refuses("sound", "low tone", "--model", "run", "-o", "out.wav")
