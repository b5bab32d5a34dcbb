"""`cymatic encode --engine`: what it prints, and what it refuses."""

import pytest

from cymatic.apps import cli
from cymatic.data.shards import Shards


def run(*words):
    return cli.run(["encode", *map(str, words)])


def test_a_folder_becomes_shards(sounds, codec_folder, tmp_path, capsys):
    (sounds / "broken_1.wav").write_bytes(b"RIFF")
    words = (
        sounds,
        "-o",
        tmp_path / "out",
        "--model",
        codec_folder,
        "--kbps",
        "0.4",
        "--engine",
        "local",
        "--clips",
        "5",
        "--workers",
        "1",
    )
    assert run(*words) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("shard-000000  4 sounds, ")
    assert said.out.splitlines()[-1].startswith("3 shards, 11 sounds, 0.00 hours, ")
    assert said.out.splitlines()[-1].endswith(f"1 skipped (see {tmp_path / 'out' / 'summary.json'})")
    assert said.err.startswith("skipped broken_1.wav: is ")
    assert len(list(Shards(tmp_path / "out"))) == 11
    assert run(*words) == 0
    assert capsys.readouterr().out.splitlines()[0] == "3 of 3 shards are there already"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--engine", "rai"], 'there is no engine "rai"; did you mean'),
        (["--engine", "local", "--workers", "0"], "0 workers were asked for"),
        (["--engine", "local", "--clips", "0"], "0 sounds a shard were asked for"),
        (["--engine", "local", "--kbps", "0.01"], "0.01 kbps were asked for"),
    ],
)
def test_what_can_not_be_asked_for(words, why, sounds, codec_folder, tmp_path, capsys):
    assert run(sounds, "-o", tmp_path / "out", "--model", codec_folder, *words) == 2
    assert why in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(sounds, "-o", "-", "--model", codec_folder, "--engine", "local") == 2
    assert "shards need a folder" in capsys.readouterr().err
