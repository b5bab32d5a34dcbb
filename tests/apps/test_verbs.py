"""`cymatic extend`, `vary`, `blend` and `import`, and `cymatic sound` with a model over codes."""

import pytest
from tests.helpers import tone

from cymatic.apps.cli import run
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
    assert "the temperature is 0" in capsys.readouterr().err


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
