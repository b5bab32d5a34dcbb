"""`cymatic extend`, `vary`, `blend` and `import`, and `cymatic sound` with a model over codes."""

from typing import get_args, get_type_hints

import pytest
import typer
from tests.helpers import tone

from cymatic.apps.cli import app, run
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


def test_a_model_without_codes_says_what_to_do(tiny_run, audio, tmp_path, capsys):
    for verb in (["extend", str(audio)], ["vary", str(audio)], ["blend", str(audio), str(audio)]):
        assert run([*verb, "-o", str(tmp_path / "out.wav"), "--model", str(tiny_run)]) == 2
        error = capsys.readouterr().err
        assert f"can't {verb[0]}, for it makes sounds without codes" in error
        assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


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
