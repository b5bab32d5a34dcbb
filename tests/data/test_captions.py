"""Captions that are one caption are one in counting, in training and in judging."""

import json
import unicodedata

import pytest
from tests.helpers import tone

from cymatic.data.captions import caption_key, spelt_alike
from cymatic.data.examples import Reading, load_examples
from cymatic.data.folder import read_folder
from cymatic.data.inspection import inspect_folder
from cymatic.data.packs import read_packs
from cymatic.data.settings import DataSettings, Pack
from cymatic.encoders.classes import ClassConfig
from cymatic.errors import Error
from cymatic.signal.mel import MelSpec

ONE = ["kick", "Kick", "KICK", " kick  ", "kick_", "kick -", "kick.", "kick,"]


@pytest.mark.parametrize(
    ("some", "others"),
    [
        (ONE, ["kick!", "kicks", "kick 2"]),
        (["Straße", "STRASSE", "straße."], ["strase"]),
        (["café", unicodedata.normalize("NFD", "Café"), "CAFÉ"], ["cafe"]),
        (["a  dog\tbarks", "A dog barks", "a dog\nbarks"], ["a dogbarks"]),
        (["...", "… "[:0] + "..."], ["---"]),
    ],
)
def test_which_captions_are_one(some, others):
    assert len({caption_key(one) for one in some}) == 1
    assert not {caption_key(one) for one in some} & {caption_key(other) for other in others}


def test_the_most_frequent_spelling_is_shown():
    assert spelt_alike(["A C#4", "a  c#4", "door", "Door"]) == ["A C#4", "A C#4", "door", "door"], "the first of equals"
    assert spelt_alike(["kick.", "Kick", "snare", "Kick"]) == ["Kick", "Kick", "snare", "Kick"]


def test_takes_in_two_spellings_are_two_captions_and_not_four(tmp_path):
    for i, name in enumerate(["kick 01", "Kick 02", "kick 03", "Snare 01", "Snare 02", "snare_03"]):
        tone(200 + 50 * i, 0.2).write(tmp_path / f"{name}.wav")
    assert inspect_folder(tmp_path).captions == {"kick": 3, "Snare": 3}
    spec = MelSpec(rate=8000, n_fft=256, hop=128, mels=8, fmax=4000)
    data = load_examples(
        DataSettings(folder=str(tmp_path)), Reading("audio", spec), captions=True, say=lambda line: None
    )
    assert ClassConfig().fitted(data.train).names == ("Snare", "kick")


def test_captions_are_one_across_packs_and_in_filters(tmp_path):
    for i, (pack, caption) in enumerate([("a", "Kick."), ("a", "kick"), ("a", "Kick."), ("b", "KICK"), ("b", "snare")]):
        folder = tmp_path / pack
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.wav").write_bytes(bytes([i]))
        with (folder / "manifest.jsonl").open("a") as file:
            file.write(json.dumps({"audio": f"{i}.wav", "caption": caption}) + "\n")
    packs = [Pack(folder="a"), Pack(folder="b")]
    assert [item.caption for item in read_packs(packs, tmp_path).of("train")] == ["Kick."] * 4 + ["snare"]
    filtered = read_packs([Pack(folder="b", where={"caption": ["kick"]})], tmp_path)
    assert [item.caption for item in filtered.of("train")] == ["KICK"]
    filtered = read_packs([Pack(folder="b", where_not={"caption": ["Kick_"]})], tmp_path)
    assert [item.caption for item in filtered.of("train")] == ["snare"]


def test_a_pack_says_itself_of_which_names_its_captions_are(tmp_path):
    for name in ("a/Kit/Kick.wav", "a/Set/Kick.wav", "b/Kit/Kick 2.wav", "b/Set/Snare 2.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    packs = [Pack(folder="a", captions="file"), Pack(folder="b")]
    found = read_packs(packs, tmp_path, captions_by="both")
    assert [item.caption for item in found.of("train")] == ["Kick", "Kick", "Kit Kick", "Set Snare"]
    (tmp_path / "b/captions.csv").write_text("file,caption\nKit/Kick 2.wav,x\n")
    with pytest.raises(Error, match="--captions both"):
        read_packs(packs, tmp_path, captions_by="both")
    read_folder(tmp_path / "b")
