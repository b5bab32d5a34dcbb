"""Flickr8k with spoken captions: as its archives unpack, as SpeechCLIP arranges it, and what is missing in it."""

from pathlib import Path

import pytest
from tests.helpers import disc, tone

from cymatic.data.folder import read_folder
from cymatic.data.layouts import read_layout
from cymatic.errors import Error

SPLITS = {"train": ("1_a", "2_b"), "dev": ("3_c",), "test": ("4_d",)}


def flickr(root: Path, *, pictures="Flicker8k_Dataset", text="Flickr8k_text", per=2, extra=True) -> Path:
    """Four pictures in three splits, and one in none; `per` captions and recordings of each."""
    stems = [stem for some in SPLITS.values() for stem in some] + (["5_e"] if extra else [])
    for place in ("flickr_audio/wavs", pictures, text):
        (root / place).mkdir(parents=True, exist_ok=True)
    tokens, captions, speakers = [], [], []
    for stem in stems:
        disc(0.5, size=8).write(root / pictures / f"{stem}.png").rename(root / pictures / f"{stem}.jpg")
        for n in range(per):
            tone(300 + n, 0.1).write(root / "flickr_audio" / "wavs" / f"{stem}_{n}.wav")
            tokens.append(f"{stem}.jpg#{n}\tA dog , no {n} , of {stem} .")
            captions.append(f"{stem}_{n}.wav {stem}.jpg #{n}")
            speakers.append(f"{stem}_{n}.wav {n}")
    (root / text / "Flickr8k.token.txt").write_text("\n".join(tokens) + "\n")
    (root / "flickr_audio" / "wav2capt.txt").write_text("\n".join(captions) + "\n")
    (root / "flickr_audio" / "wav2spk.txt").write_text("\n".join(speakers) + "\n")
    for split, some in SPLITS.items():
        (root / text / f"Flickr_8k.{split}Images.txt").write_text("".join(f"{stem}.jpg\n" for stem in some))
    return root


def test_as_its_archives_unpack(tmp_path):
    root = flickr(tmp_path)
    folder = read_folder(root)
    assert folder.role == "audio" and folder.layout.startswith("Flickr8k (flickr_audio/wav2capt.txt")
    assert [item.split for item in folder.items] == ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
    one = folder.items[1]
    assert one.path("picture") == root / "Flicker8k_Dataset" / "1_a.jpg"
    assert one.path() == root / "flickr_audio" / "wavs" / "1_a_1.wav"
    assert (one.caption, one.group, one.fields["speaker"]) == ("A dog , no 1 , of 1_a .", "1_a", "1")
    assert one.files["picture"] == folder.items[0].files["picture"]
    assert [(skipped.name, skipped.broken) for skipped in folder.skipped] == [
        ("wav2capt.txt line 9", False), ("wav2capt.txt line 10", False),
        ("flickr_audio/wavs/5_e_0.wav", False), ("flickr_audio/wavs/5_e_1.wav", False),
    ]  # fmt: skip


def test_as_speechclip_arranges_it(tmp_path):
    root = flickr(tmp_path, pictures="Images", text=".", extra=False)
    (root / "flickr_audio" / "wav2capt.txt").unlink()
    (root / "flickr_audio" / "wav2spk.txt").unlink()
    (root / "Flickr8k_idPairs.json").write_text("{}")
    folder = read_folder(root, role="audio", given=["picture"])
    assert len(folder.items) == 8 and not folder.skipped
    assert {item.caption for item in folder.items if item.group == "3_c"} == {
        "A dog , no 0 , of 3_c .",
        "A dog , no 1 , of 3_c .",
    }


def test_captions_as_a_table_and_no_lists_of_splits(tmp_path):
    root = flickr(tmp_path)
    for path in (root / "Flickr8k_text").iterdir():
        path.unlink()
    rows = ["1_a.jpg,A dog runs", '1_a.jpg,"A dog, ""Rex"", runs"', "2_b.jpg,A cat", "2_b.jpg,Cats"]
    (root / "captions.txt").write_text("\n".join(["image,caption", *rows]))
    folder = read_folder(root)
    assert [item.caption for item in folder.items] == ["A dog runs", 'A dog, "Rex", runs', "A cat", "Cats"]
    assert {item.group for item in folder.items} == {"1_a", "2_b"}
    assert [one.why for one in folder.skipped][:2] == ["3_c.jpg has no caption #0", "3_c.jpg has no caption #1"]


def test_splits_never_cut_across_a_picture(tmp_path):
    root = flickr(tmp_path, per=5, extra=False)
    for path in (root / "Flickr8k_text").glob("Flickr_8k.*"):
        path.unlink()
    splits = {}
    for item in read_folder(root).items:
        assert splits.setdefault(item.group, item.split) == item.split
    assert set(splits.values()) == {"train", "valid"}


def test_what_is_missing_is_named(tmp_path):
    root = flickr(tmp_path, extra=False)
    (root / "flickr_audio" / "wavs" / "1_a_0.wav").unlink()
    (root / "Flicker8k_Dataset" / "4_d.jpg").unlink()
    layout = read_layout(root)
    assert len(layout.rows) == 7
    assert "names the sound 1_a_0.wav, which is not here" in layout.skipped[0].why and layout.skipped[0].broken
    assert layout.skipped[1].why.startswith("names 2 pictures that are not here, such as 4_d.jpg")
    asked = read_layout(root, role="audio", given=["picture"])
    assert len(asked.rows) == 5 and sum("the picture 4_d.jpg" in one.why for one in asked.skipped) == 2


def test_pictures_and_captions_without_recordings(tmp_path):
    root = flickr(tmp_path, extra=False)
    for path in [*(root / "flickr_audio").rglob("*.*")]:
        if path.is_file():
            path.unlink()
    folder = read_folder(root)
    assert folder.role == "picture" and len(folder.items) == 8
    assert {tuple(item.files) for item in folder.items} == {("picture",)}


def test_recordings_without_captions_are_refused_in_one_sentence(tmp_path):
    root = flickr(tmp_path)
    with pytest.raises(Error, match=r"put Flickr8k\.token\.txt, from Flickr8k_text\.zip, into the folder"):
        read_folder(root / "flickr_audio")
    with pytest.raises(Error, match='with the roles audio and picture; "voice" is neither'):
        read_folder(root, role="audio", given=["voice"])
    with pytest.raises(Error, match=r"captions were asked to be made of names.*the lists of Flickr8k"):
        read_folder(root, captions_by="file")


def test_broken_lines_and_files_outside(tmp_path):
    root = flickr(tmp_path / "given", extra=False)
    tone(300, 0.1).write(tmp_path / "out.wav")
    (root / "flickr_audio" / "wavs" / "1_a_0.wav").unlink()
    (root / "flickr_audio" / "wavs" / "1_a_0.wav").symlink_to(tmp_path / "out.wav")
    with (root / "flickr_audio" / "wav2capt.txt").open("a") as file:
        file.write("only two\n\n")
    layout = read_layout(root)
    assert len(layout.rows) == 7
    assert "lies outside the folder" in next(one.why for one in layout.skipped if one.name.endswith("line 1"))
    assert "is no recording" in next(one.why for one in layout.skipped if one.name.endswith("line 9"))
