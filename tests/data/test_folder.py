import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import tone, tone_folder

from cymatic.data.folder import caption_of, read_folder, split_of
from cymatic.data.mels import Batches, Clip, load_clips, usual_rate
from cymatic.errors import Error
from cymatic.signal.mel import PRESETS

SPEC = PRESETS["voice-8k"]


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        ("dog-bark_03", "dog bark"),
        ("george says seven (2)", "george says seven"),
        ("Rain", "Rain"),
        ("808", "808"),
        ("808_kick_1_2", "808 kick"),
        ("дождь_01", "дождь"),
        ("it's a “dog”", "it's a “dog”"),
    ],
)
def test_names_as_captions(name, caption):
    assert caption_of(name) == caption


@given(st.text(min_size=1).filter(str.strip))
def test_every_name_has_a_caption(name):
    assert caption_of(name) or not name.strip("_- \t\n\r")


def test_a_tenth_of_names_is_held_out_and_stays_so():
    names = [f"clip-{i}.wav" for i in range(2000)]
    held_out = {name for name in names if split_of(name) == "valid"}
    assert 150 < len(held_out) < 250
    assert split_of(names[0]) == split_of(names[0])


def test_a_plain_folder(tmp_path):
    tone_folder(tmp_path / "sounds/sub")
    (tmp_path / "sounds/notes.txt").write_text("no sound")
    (tmp_path / "sounds/.hidden.wav").write_text("no sound")
    folder = read_folder(tmp_path / "sounds")
    assert {item.caption for item in folder.items} == {"low tone", "high tone"}
    assert folder.skipped == [("notes.txt", "is not a sound by its extension")]


def test_a_manifest_decides(tmp_path):
    for name in ("a.wav", "b.wav", "c.wav"):
        tone(300).write(tmp_path / name)
    rows = [
        {"audio": "a.wav", "caption": "one", "split": "train"},
        {"audio": "b.wav", "caption": "two", "split": "valid", "more": 1},
        {"audio": "c.wav", "caption": "three", "split": "test"},
        {"audio": "../d.wav", "caption": "four", "split": "train"},
        {"audio": "c.wav"},
        {"audio": "c.wav", "caption": "five", "split": "holdout"},
    ]
    lines = [json.dumps(row) for row in rows] + ["", "not json", "[]"]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    folder = read_folder(tmp_path)
    assert [(item.caption, item.split) for item in folder.items] == [
        ("one", "train"),
        ("two", "valid"),
        ("three", "test"),
    ]
    assert [where for where, _ in folder.skipped] == [f"manifest.jsonl line {n}" for n in (4, 5, 6, 8, 9)]


def test_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.wav").write_bytes(b"x")
    for path, said in (("missing", "does not exist"), ("file.wav", "is a file"), ("empty", "holds no sound")):
        with pytest.raises(Error, match=said):
            read_folder(tmp_path / path)


def test_a_handful_of_files_is_trained_on(tmp_path):
    name = next(f"{i}.wav" for i in range(1000) if split_of(f"{i}.wav") == "valid")
    tone(300).write(tmp_path / name)
    assert [item.split for item in read_folder(tmp_path).items] == ["train"]


def test_broken_files_are_named_and_skipped(tmp_path):
    tone_folder(tmp_path, takes=2)
    (tmp_path / "broken.wav").write_bytes(b"RIFF not really")
    (tmp_path / "empty.wav").write_bytes(b"")
    tone(300, 3.0).write(tmp_path / "long.wav")
    silent = tone(300)
    type(silent)(silent.samples * 0, 8000).write(tmp_path / "silent.wav")
    items = read_folder(tmp_path).items
    clips, skipped = load_clips(items, SPEC, longest=2.0)
    assert len(clips) == 4
    reasons = {path.rsplit("/", 1)[-1]: why for path, why in skipped}
    assert sorted(reasons) == ["broken.wav", "empty.wav", "long.wav", "silent.wav"]
    assert "3.0 s long" in reasons["long.wav"]
    assert "silent" in reasons["silent.wav"]
    assert all(clip.mel.isfinite().all() and clip.mel.shape[0] == SPEC.mels for clip in clips)
    assert usual_rate(items) == 8000


def test_level_says_nothing_about_a_clip(tmp_path):
    loud, quiet = tone(300, 0.5), tone(300, 0.5)
    type(quiet)(quiet.samples * 0.01, 8000).write(tmp_path / "quiet.flac")
    loud.write(tmp_path / "loud.flac")
    clips, _ = load_clips(read_folder(tmp_path).items, SPEC, longest=2.0)
    assert (clips[0].mel - clips[1].mel).abs().mean() < 0.1


def clips_of(lengths: list[int]) -> list[Clip]:
    return [Clip(str(i), torch.full((4, n), float(i))) for i, n in enumerate(lengths)]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 5))
def test_batches_are_a_function_of_seed_and_step(lengths, size, seed):
    clips = clips_of(lengths)
    one, two = Batches(clips, size, seed), Batches(clips, size, seed)
    steps = 2 * one.per_epoch
    wanted = [one[step].captions for step in range(steps)]
    assert [two[step].captions for step in reversed(range(steps))] == wanted[::-1]
    for epoch in (wanted[: one.per_epoch], wanted[one.per_epoch :]):
        seen = [caption for batch in epoch for caption in batch]
        assert len(seen) == len(set(seen)) == one.per_epoch * one.batch
    batch = one[0]
    for row, caption, frames in zip(batch.mel, batch.captions, batch.frames, strict=True):
        assert frames == lengths[int(caption)]
        assert (row[:, :frames] == int(caption)).all()
        assert not row[:, frames:].any()
