"""instruments: the MIDI that is played, the table, and, where FluidSynth is, the very notes that the starters heard."""

import numpy as np
import pytest
import soundfile

from cymatic.data.published import fluidsynth, instruments
from cymatic.data.published.midi import MidiNote, notes_apart
from cymatic.errors import Error

NOTES = [
    "000_acoustic_grand_piano_40_112", "019_church_organ_43_112", "073_flute_75_112", "perc_35_acoustic_bass_drum_127",
]  # fmt: skip


def test_rows_are_those_that_the_starters_heard(heard):
    rows = heard("instruments")
    notes = instruments.table()
    assert [note.row(note.seconds) for note in notes] == rows
    assert len({note.id for note in notes}) == len(notes) == 1567


def test_the_midi_file_byte_by_byte():
    song = notes_apart([MidiNote(60, 112)], 19, first=0.1, apart=3.0, held=1.5, cut=2.7)
    assert song[:14] == bytes.fromhex("4d546864 00000006 0000 0001 03e8")
    track = bytes.fromhex(
        "00 ff5103 0f4240"  # a quarter note a second
        "00 c013"  # church organ
        "64 903c70"  # after 100 ms
        "8b5c 803c00"  # after 1,500 ms more
        "8930 b07800"  # after 1,200 ms more
        "822c ff2f00"  # after 300 ms more
    )
    assert song[14:] == b"MTrk" + len(track).to_bytes(4, "big") + track


def test_drums_play_on_their_channel():
    song = notes_apart([MidiNote(35, 36), MidiNote(35, 127)], None, first=0.1, apart=3.0, held=1.5, cut=2.7)
    assert bytes([0x99, 35, 36]) in song and bytes([0x99, 35, 127]) in song and b"\xc0" not in song[14:]


def test_a_note_is_cut_where_it_has_died_away_and_fades():
    time = np.arange(round(2.505 * 48_000)) / 48_000
    rendered = (0.5 * np.sin(2 * np.pi * 440 * time) * (time < 1.0)).astype(np.float32)
    shaped = instruments.shaped(rendered)
    assert abs(len(shaped) / 24_000 - 1.065) < 0.011 and shaped[-1] == 0
    held = instruments.shaped((0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32))
    assert len(held) == 60_120 and np.abs(held[-720:-360]).max() > 2 * np.abs(held[-180:]).max()


def test_without_fluidsynth_it_says_how_to_install_it(writer, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Error, match=r"fluidsynth, which is not on the PATH; install it \(apt install fluidsynth"):
        instruments.make(writer("instruments"), None)


def test_without_the_sound_font_it_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fluidsynth, "PLACES", (str(tmp_path),))
    with pytest.raises(Error, match=r"FluidR3_GM\.sf2 is in none of the usual places; install it .* --from FILE"):
        fluidsynth.find_font(None, tmp_path)
    with pytest.raises(Error, match=r"FluidR3_GM\.sf2 does not exist; give --from"):
        fluidsynth.find_font(tmp_path)
    (tmp_path / "FluidR3_GM.sf2").write_bytes(b"RIFF")
    for given in (None, tmp_path, tmp_path / "FluidR3_GM.sf2"):
        with pytest.raises(Error, match=r"is not the sound font that the starters heard.*; give that one with --from"):
            fluidsynth.find_font(given, tmp_path)


@pytest.fixture
def silent(monkeypatch):
    """A FluidSynth that renders each note as the table has it, without a program or a sound font."""
    notes = instruments.table()[:4]
    monkeypatch.setattr(instruments, "table", lambda: notes)
    monkeypatch.setattr(instruments, "find_program", lambda: "fluidsynth")
    monkeypatch.setattr(instruments, "find_font", lambda given, *more: given)
    calls = []

    def render(played, program, *_, **__):
        calls.append((program, list(played)))
        found = [next(note for note in notes if note.note == one and note.program == program) for one in played]
        out = []
        for note in found:
            rendered = np.zeros(round(2.505 * 48_000), dtype=np.float32)
            length = round((note.seconds - 0.06) * 48_000)
            rms = 10 ** (note.level / 20) * (note.seconds / (note.seconds - 0.06)) ** 0.5
            rendered[:length] = rms * 2**0.5 * np.sin(2 * np.pi * 440 * np.arange(length) / 48_000)
            out.append(rendered)
        return out

    monkeypatch.setattr(instruments, "render", render)
    return calls


def test_only_what_is_missing_is_rendered(silent, writer, tmp_path):
    rows = instruments.make(writer("instruments"), tmp_path)
    assert len(rows) == 4 and len(silent) == 1
    again = writer("instruments")
    (again.work / rows[2]["audio"]).write_bytes(b"OggS, cut short")
    assert instruments.make(again, tmp_path) == rows
    assert silent[1] == (0, [MidiNote(rows[2]["pitch"], rows[2]["velocity"])])


def test_notes_that_sound_otherwise_are_counted(silent, writer, tmp_path, monkeypatch):
    monkeypatch.setattr(instruments, "render", lambda played, *_, **__: [np.ones(120_240, np.float32) for _ in played])
    with pytest.raises(Error, match="4 of 4 notes sound otherwise than those that the starters heard, such as 000_"):
        instruments.make(writer("instruments"), tmp_path)


def test_a_fluidsynth_that_fails_is_quoted(tmp_path):
    program = tmp_path / "fluidsynth"
    program.write_text("#!/bin/sh\necho 'fluidsynth: error: Unknown file type' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(Error, match=r"rendered no sound .*Unknown file type"):
        fluidsynth.render([MidiNote(60, 100)], 0, tmp_path / "x.sf2", str(program), lead=0.005, length=2.5)


@pytest.mark.slow
def test_rendered_notes_are_those_that_the_starters_heard(heard, data_dir):
    try:
        program, font = fluidsynth.find_program(), fluidsynth.find_font(None)
    except Error as error:
        pytest.skip(str(error))
    notes = {note.id: note for note in instruments.table()}
    for name in NOTES:
        note = notes[name]
        (rendered,) = fluidsynth.render(
            [note.note], note.program, font, program, lead=instruments.LEAD, length=instruments.LONGEST
        )
        ours = instruments.shaped(rendered)
        theirs, _ = soundfile.read(data_dir / "instruments" / note.audio, dtype="float32")
        assert abs(len(ours) - len(theirs)) <= 480, name
        n = min(len(ours), len(theirs))
        ours, theirs = ours[:n], theirs[:n]
        # At no lag and to the phase; what is missing went in the Ogg encoder.
        assert ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)) > 0.98, name
        assert abs(10 * np.log10((ours @ ours) / (theirs @ theirs))) < 0.3, name
