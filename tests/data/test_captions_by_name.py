"""What names of folders and files become as captions."""

import pytest
from tests.helpers import tone

from cymatic.apps.inspect_command import report
from cymatic.data.captions_by_name import caption_of
from cymatic.data.folder import read_folder
from cymatic.data.inspection import inspect_folder
from cymatic.data.layouts import read_layout
from cymatic.data.name_words import TakeFree, words_of_name
from cymatic.errors import Error


def tree(root, names):
    """Files that are sounds by their names, each with content of its own."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def captions(root, names, by="auto"):
    layout = read_layout(tree(root, names), captions_by=by)
    return {str(row.files["audio"].relative_to(root)): row.caption for row in layout.rows}, layout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        # takes
        ("SnareRim-2", "Snare Rim"), ("kick01", "kick"), ("Kick_03", "Kick"), ("OpenHat(2)", "Open Hat"),
        ("Kick (1)", "Kick"), ("Kick (copy)", "Kick"), ("HHClosed_v127", "HH Closed"), ("Snare RR2", "Snare"),
        ("Snare_rr_2", "Snare"), ("snare round robin 3", "snare"), ("Ride_vel64", "Ride"), ("Ride Velocity 64", "Ride"),
        ("kick take 3", "kick"), ("01 Kick", "Kick"), ("tom_03", "tom"), ("Snare.Rim.01", "Snare Rim"),
        ("big_80's_2", "big 80's"),
        # words
        ("808", "808"), ("TR808Kick", "TR 808 Kick"), ("Kick 808", "Kick 808"), ("kick_909_2", "kick 909"),
        ("tom1", "tom 1"), ("tom 2", "tom 2"), ("FloorTom2", "Floor Tom 2"), ("Tom1-2", "Tom 1"), ("Tom Hi", "Tom Hi"),
        ("C#3", "C#3"), ("PianoC3", "Piano C3"), ("Piano_C#3_127", "Piano C#3"), ("bass Bb2", "bass Bb2"),
        ("909beat01", "909 beat"), ("120bpm Loop", "120 bpm Loop"), ("iPhone", "iPhone"), ("DJs", "DJs"),
        ("KickHard", "Kick Hard"), ("SoftPiano", "Soft Piano"), ("1st hit", "1st hit"), ("w2_addsyn", "w2 addsyn"),
        ("0_george_5", "0 george"), ("дождьСильный_01", "дождь Сильный"), ("雨 音", "雨 音"), ("v2", "v2"),
        ("12", "12"), ("0030-20e3", "0030 20e3"), ("03-01-06", "03"),
    ],
)  # fmt: skip
def test_takes_are_told_from_words(name, words):
    assert TakeFree([("", name)]).words("", name) == words.split()


def test_the_names_around_tell_takes_from_words():
    def words(*names):
        free = TakeFree(("kit", name) for name in names)
        return [" ".join(free.words("kit", name)) for name in names]

    assert words("SnareHard-1", "SnareSoft-1", "TomHard") == ["Snare", "Snare", "Tom"]
    assert words("Snare", "SnareSoft") == ["Snare", "Snare"]
    assert words("RainSoft", "WindHard") == ["Rain Soft", "Wind Hard"], "no name has two of them, so they are words"
    assert words("dog_807", "dog_808", "dog_809") == ["dog", "dog", "dog"], "808 is one of a row"
    assert words("01 Kick", "02 Snare", "10 Clap") == ["Kick", "Snare", "Clap"]
    assert words("0_george_1", "1_george_1") == ["0 george", "1 george"]


def test_names_of_any_kind_have_words():
    for name in ("(1)", "1", "😀", "a" * 300, "1" * 300, "()", "v1", "copy"):
        assert words_of_name(name) and TakeFree([("", name)]).words("", name)
    for name in ("", "-", "__ "):
        assert words_of_name(name) == TakeFree([("", name)]).words("", name) == []


KITS = {
    "The Kit 1.0/SnareRim-1.wav": "The Kit 1.0 Snare Rim",
    "The Kit 1.0/SnareRim-2.wav": "The Kit 1.0 Snare Rim",
    "The Kit 1.0/KickDeep.wav": "The Kit 1.0 Kick Deep",
    "The Kit 1.0/Tom1.wav": "The Kit 1.0 Tom 1",
    "The Kit 1.0/Tom2.wav": "The Kit 1.0 Tom 2",
    "Dusty/Kick_Hard_01.wav": "Dusty Kick",
    "Dusty/Kick_Soft_01.wav": "Dusty Kick",
    "Dusty/SnareRim_v64.wav": "Dusty Snare Rim",
    "Dusty/Dusty_Tom1.wav": "Dusty Tom 1",
    "Kit 2/KickDeep RR2.wav": "Kit 2 Kick Deep",
    "Kit 2/Kick.wav": "Kit 2 Kick",
    "Kit 2/Tom 2.wav": "Kit 2 Tom 2",
}
# Folders and some of the files of the samples that come with LMMS.
FAMILIES = {
    "drums/kick01.ogg": "drums kick", "drums/kick02.ogg": "drums kick", "drums/kick_hard01.ogg": "drums kick",
    "drums/kick_soft01.ogg": "drums kick", "drums/kick_hiphop01.ogg": "drums kick hiphop",
    "drums/snare01.ogg": "drums snare", "drums/snare02.ogg": "drums snare",
    "drums/hihat_closed01.ogg": "drums hihat closed", "drums/hihat_closed02.ogg": "drums hihat closed",
    "drums/tom01.ogg": "drums tom", "drums/tom02.ogg": "drums tom",
    "basses/rave_bass01.ogg": "basses rave bass", "basses/rave_bass02.ogg": "basses rave bass",
    "basses/synth_acid01.ogg": "basses synth acid", "bassloops/rave_bass01.ogg": "bassloops rave bass",
    "bassloops/tb303_01.ogg": "bassloops tb 303", "beats/909beat01.ogg": "beats 909",
    "beats/electro_beat01.ogg": "beats electro", "instruments/e_piano_accord01.ogg": "instruments e piano accord",
    "instruments/church_organ01.ogg": "instruments church organ", "instruments/cello01.ogg": "instruments cello",
    "instruments/church_organ02.ogg": "instruments church organ", "stringsnpads/strings01.ogg": "stringsnpads strings",
    "misc/bass!.ogg": "misc bass!", "waveforms/10saw.flac": "waveforms 10 saw", "waveforms/saw1.flac": "waveforms saw",
    "waveforms/saw2.flac": "waveforms saw", "waveforms/w2_hexagon.flac": "waveforms w2 hexagon",
}  # fmt: skip
DEEP = {
    "Pack/Kits/808/Kick/01.wav": "808 Kick", "Pack/Kits/808/Kick/02.wav": "808 Kick",
    "Pack/Kits/808/Snare/Snare 808 01.wav": "808 Snare", "Pack/Kits/909/Kick/01.wav": "909 Kick",
    "Pack/Kits/909/Snare/01.wav": "909 Snare", "Pack/Kits/909/Hats/Hat Open.wav": "909 Hats Open",
}  # fmt: skip
CLASSES = {
    "dog-bark/1.wav": "dog bark", "dog-bark/2.wav": "dog bark", "rain_on_roof/a_1.wav": "rain on roof",
    "Cat/cat_01.wav": "Cat", "Cat/Cats (2).wav": "Cat",
}  # fmt: skip
COMMANDS = {
    f"{word}/{who}_nohash_{i}.wav": word for word in ("yes", "no") for who in ("0a7c2a8d", "1b63157b") for i in (0, 1)
}
ESC = {f"{name}/{i}-10003{i}-A-{i}.wav": name for name in ("dog", "rain") for i in range(3)}
DIGITS = {f"{who}/{digit}_{who}_{i}.wav": who for who in ("george", "theo") for digit in range(3) for i in range(2)}
DESCRIBED = {
    "dog/a small dog behind a fence.wav": "dog", "dog/barking at night.wav": "dog",
    "rain/on a tin roof.wav": "rain", "rain/heavy with wind.wav": "rain",
}  # fmt: skip
FLAT = {"SnareRim-2.wav": "Snare Rim", "kick01.wav": "kick", "dog-bark_03.wav": "dog bark", "tom 2.wav": "tom 2"}


@pytest.mark.parametrize(
    ("table", "by"),
    [(KITS, "both"), (FAMILIES, "both"), (DEEP, "both"), (CLASSES, "folder"), (COMMANDS, "folder"), (ESC, "folder"),
     (DIGITS, "folder"), (DESCRIBED, "folder"), (FLAT, "file")],
    ids=["kits", "families", "deep", "classes", "commands", "esc", "digits", "described", "flat"],
)  # fmt: skip
def test_what_names_of_a_folder_become(tmp_path, table, by):
    found, layout = captions(tmp_path, table)
    assert found == table
    assert layout.captions_by == by and bool(layout.why) == (table is not FLAT)
    assert layout.skipped == []


@pytest.mark.parametrize("split", ["{}", "data/{}"])
def test_within_splits_the_same(tmp_path, split):
    names = [f"{split.format(part)}/{name}" for part in ("train", "test") for name in KITS]
    found, layout = captions(tmp_path, names)
    assert found == {name: KITS[name.split("train/")[-1].split("test/")[-1]] for name in names}
    assert {row.split for row in layout.rows} == {"train", "test"}


def test_another_choice(tmp_path):
    name = "The Kit 1.0/SnareRim-2.wav"
    assert [captions(tmp_path, KITS, by)[0][name] for by in ("folder", "file", "both")] == [
        "The Kit 1.0", "Snare Rim", "The Kit 1.0 Snare Rim",
    ]  # fmt: skip
    found, layout = captions(tmp_path / "one", ["Kit/Kick.wav", "Snare.wav"], "folder")
    assert found == {"Kit/Kick.wav": "Kit"}
    assert [(one.name, one.why) for one in layout.skipped] == [("Snare.wav", "lies in no folder that could name it")]
    assert captions(tmp_path / "two", ["Kit/Kick.wav", "Kit/Snare.wav"], "both")[0] == {
        "Kit/Kick.wav": "Kit Kick", "Kit/Snare.wav": "Kit Snare",
    }  # fmt: skip


def test_names_are_refused_where_captions_are_there(tmp_path):
    root = tree(tmp_path, ["a/kick.wav", "b/kick.wav"])
    (root / "a/kick.txt").write_text("a kick")
    with pytest.raises(Error, match=r"\(--captions both\), but .* has a .txt beside its sounds; say --captions auto"):
        read_layout(root, captions_by="both")
    (root / "captions.csv").write_text("file,caption\na/kick.wav,x\n")
    with pytest.raises(Error, match=r"\(--captions file\), but .* has the captions of captions.csv"):
        read_layout(root, captions_by="file")


def test_inspect_says_what_was_chosen_why_and_how_to_choose_another(tmp_path):
    for name in KITS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tone(300, 0.1).write(tmp_path / name)
    found = inspect_folder(tmp_path)
    (line,) = [line for line in report(found) if line.startswith("chosen")]
    assert line == (
        "chosen    captions by the folders' and the files' names, since 100 % of the files have a name that other "
        "folders have, too; --captions folder or --captions file chooses otherwise"
    )
    assert read_folder(tmp_path, captions_by="folder").items[0].fields["label"] == caption_of("Dusty")
