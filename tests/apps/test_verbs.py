"""`cymatic extend`, `vary`, `blend` and `import`, and `cymatic sound` with a model over codes."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import typer
from tests.helpers import shape, tone

from cymatic.apps.cli import app, run
from cymatic.media.picture import Picture
from cymatic.media.sound import Sound


@pytest.fixture
def audio(tmp_path):
    tone(440).write(tmp_path / "a.wav")
    return tmp_path / "a.wav"


def test_extend_writes_numbered_sounds(tiny_codes_run, audio, tmp_path, capsys):
    where = str(tmp_path / "out.wav")
    assert run(["extend", str(audio), "-o", where, "--model", str(tiny_codes_run), "-n", "2", "--keep", "0.1"]) == 0
    assert [Sound.read(tmp_path / f"out-{i}.wav").rate for i in (1, 2)] == [8000, 8000]
    assert "out-2.wav" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (["extend"], "has no codes, for its prior makes sounds directly; use another"),
        (["vary"], "can't vary, for its prior (flow) has no way to; use a model whose prior is of the kind"),
        (["blend", "a.wav"], "can't blend, for its prior (flow) has no latent; train one with"),
    ],
)
def test_a_model_without_codes_says_what_to_do(tiny_run, audio, tmp_path, capsys, monkeypatch, verb, said):
    monkeypatch.chdir(tmp_path)
    assert run([*verb, "a.wav", "-o", "out.wav", "--model", str(tiny_run)]) == 2
    error = capsys.readouterr().err
    assert said in error and len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


@pytest.fixture
def picture(tmp_path):
    shape("red square", seed=1).write(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_extend_keeps_the_upper_rows_of_a_picture(tiny_pictures_run, picture, tmp_path, capsys):
    given = ["extend", str(picture), "--model", str(tiny_pictures_run), "--prompt", "red square", "--seed", "3"]
    assert run([*given, "-o", str(tmp_path / "out.png"), "-n", "2", "--keep", "0.75"]) == 0
    assert f"{tmp_path / 'out-2.png'}  16 x 16" in capsys.readouterr().out
    value, *made = (Picture.read(tmp_path / name) for name in ("a.png", "out-1.png", "out-2.png"))
    assert [one.info["seed"] for one in made] == [3, 4]
    assert {one.info["extends"] for one in made} == {"0.75 of the height"}
    assert {one.info["prompt"] for one in made} == {"red square"}
    for one in made:
        np.testing.assert_array_equal(one.pixels[:12], value.pixels[:12])
        assert np.abs(one.pixels[12:] - value.pixels[12:]).max() > 0.01
    assert np.abs(made[0].pixels - made[1].pixels).max() > 0
    assert run([*given, "-o", str(tmp_path / "half.png")]) == 0
    assert Picture.read(tmp_path / "half.png").info["extends"] == "0.5 of the height"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--keep=1"], "1 of the height is to be kept; this model makes pictures in 4 rows and keeps 0.25 to 0.75"),
        (["--keep=0"], "give --keep in that range"),
        (["--keep=nan"], "give --keep in that range"),
        (["--keep=inf"], "give --keep in that range"),
        (["--seconds=1"], "have no length in time; leave seconds out"),
    ],
)
def test_what_no_extension_of_a_picture_has(refuses, tiny_pictures_run, picture, options, said):
    assert said in refuses("extend", picture, "-o", "out.png", "--model", tiny_pictures_run, *options)


def test_a_file_of_another_medium_is_named(refuses, tiny_pictures_run, tiny_codes_run, picture, audio):
    for verb in ("extend", "vary"):
        said = refuses(verb, audio, "-o", "out.wav", "--model", tiny_pictures_run)
        assert f"a.wav is a sound, and {tiny_pictures_run} makes pictures; give it one of these" in said
        assert "a.png is a picture" in refuses(verb, picture, "-o", "out.png", "--model", tiny_codes_run)
    assert 'unknown extension ".wav"' in refuses("extend", picture, "-o", "out.wav", "--model", tiny_pictures_run)
    assert "nope.png does not exist" in refuses("extend", "nope.png", "-o", "o.png", "--model", tiny_pictures_run)


def test_a_gpt_without_a_latent_can_not_blend(tiny_codes_run, audio, tmp_path, capsys):
    given = ["blend", str(audio), str(audio), "-o", str(tmp_path / "out.wav"), "--model", str(tiny_codes_run)]
    assert run(given) == 2
    assert "has no latent" in capsys.readouterr().err


def test_sound_takes_the_settings_of_its_model(tiny_codes_run, tiny_run, tmp_path, capsys):
    out = str(tmp_path / "out.wav")
    codes = ["sound", "low tone", "-o", out, "--model", str(tiny_codes_run)]
    assert run([*codes, "--temperature", "0.8", "--top-k", "4", "--top-p", "0.9"]) == 0
    assert run([*codes, "--steps", "3"]) == 2
    assert "takes no --steps; it takes --guidance, --temperature, --top-k, --top-p" in capsys.readouterr().err
    assert run(["sound", "low tone", "-o", out, "--model", str(tiny_run), "--top-k", "4"]) == 2
    assert "takes no --top-k; it takes --guidance, --steps" in capsys.readouterr().err
    assert run([*codes, "--temperature", "0"]) == 2
    assert '"temperature" is 0.0; give one that is greater than 0' in capsys.readouterr().err


def test_import_needs_something_to_import(tmp_path, capsys):
    assert run(["import", "-o", str(tmp_path / "model")]) == 2
    assert "nothing was given to import" in capsys.readouterr().err
    assert run(["import", "-o", str(tmp_path / "model"), "--mel", "no-mel"]) == 2
    assert 'there is no mel "no-mel"' in capsys.readouterr().err


def test_import_of_a_vocoder(shared, tmp_path, capsys):
    vocoder = shared / "fixtures/specvqgan_melgan/best_netG.pt"
    assert run(["import", "--vocoder", str(vocoder), "-o", str(tmp_path / "model")]) == 0
    assert (tmp_path / "model/vocoder/config.json").is_file()
    assert run(["import", "--vocoder", str(vocoder), "-o", str(tmp_path / "model")]) == 2
    assert "is there already" in capsys.readouterr().err


FLOATS = ("nan", "inf", "-inf", "-1", "1e308", "-1e308")


@pytest.mark.parametrize("value", FLOATS)
@pytest.mark.parametrize("option", ["--keep", "--seconds", "--guidance", "--temperature", "--top-p"])
def test_numbers_that_no_extension_has(tiny_codes_run, audio, tmp_path, capsys, option, value):
    out = tmp_path / "out.wav"
    given = ["extend", str(audio), "-o", str(out), "--model", str(tiny_codes_run), "--prompt", "low tone"]
    assert run([*given, f"{option}={value}"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and "; give " in error and len(error) < 400, error
    assert not out.exists()


def float_options(commands: typer.Typer, above: str = "") -> set[tuple[str, str]]:
    """Every option of every command that takes a number with a point: ("extend", "--keep")."""
    found = set()
    for command in commands.registered_commands:
        assert command.callback is not None
        name = above + (command.name or command.callback.__name__)
        for option, hint in get_type_hints(command.callback).items():
            if float in (hint, *get_args(hint)):
                found.add((name, f"--{option.replace('_', '-')}"))
    for group in commands.registered_groups:
        found |= float_options(group.typer_instance, f"{above}{group.name or group.typer_instance.info.name} ")
    return found


def test_every_number_with_a_point_is_tried():
    """A new option of this kind needs a test with NaN and infinity, here or in the test of its command."""
    assert float_options(app) == {
        *(("extend", f"--{name}") for name in ("keep", "seconds", "guidance", "temperature", "top-p")),
        *(("sound", f"--{name}") for name in ("seconds", "guidance", "temperature", "top-p")),
        *(("picture", f"--{name}") for name in ("guidance", "temperature", "top-p")),
        ("vary", "--amount"), ("train", "--minutes"),
        *((f"{name} train", "--minutes") for name in ("classifier", "judge")),
        ("encode", "--kbps"), ("decode", "--kbps"),
    }  # fmt: skip


@pytest.mark.parametrize("value", FLOATS)
def test_numbers_that_no_command_takes(tiny_codes_run, tiny_run, audio, tmp_path, capsys, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    sound, train = ["sound", "low tone", "-o", "out.wav", "--model"], ["train", str(tmp_path), "-o", "run"]
    commands = [
        *([*sound, str(tiny_codes_run), f"--{name}={value}"] for name in ("seconds", "temperature", "top-p")),
        *([*sound, str(model), f"--guidance={value}"] for model in (tiny_codes_run, tiny_run)),
        [*sound, str(tiny_run), f"--seconds={value}"],
        [*train, f"--minutes={value}"], [*train, "--set", f"training.minutes={value}"],
        ["classifier", "train", str(tmp_path), "-o", "mine", f"--minutes={value}"],
    ]  # fmt: skip
    for command in commands:
        assert run(command) == 2, command
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1 and len(error) < 400, error
    assert not (tmp_path / "out.wav").exists() and not (tmp_path / "run").exists()
