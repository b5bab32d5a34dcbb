"""VGGSound as AudioToken reads it: clips by name, their classes, and what is said where only videos lie there."""

from pathlib import Path

import pytest
from tests.helpers import disc, tone

from cymatic.data.examples import Reading, load_examples
from cymatic.data.folder import read_folder
from cymatic.data.layouts import read_layout
from cymatic.data.settings import DataSettings
from cymatic.errors import Error
from cymatic.media.picture import PictureSpec
from cymatic.signal.mel import PRESETS

PUBLISHED = (
    '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"waterfall, burbling",train\n'
    "-_gaZzFfzDQ,517,dog barking,train\n-_gaZzFfzDQ,600,cat purring,train\nGONE0000000,5,dog barking,train\n"
)
CLIPS = ["---g-f_I2yQ_1000_11000", "--0PQM4-hqg_000030", "-_gaZzFfzDQ_517000_527000"]


def vggsound(root: Path, table: str = PUBLISHED, frames: bool = True) -> Path:
    for place in ("audio", "video", "frames"):
        (root / place).mkdir(parents=True)
    (root / "vggsound.csv").write_text(table)
    for clip in CLIPS:
        tone(300, 0.2).write(root / "audio" / f"{clip}.wav")
        (root / "video" / f"{clip}.mp4").write_bytes(b"no video")
        if frames:
            disc(0.5, size=8).write(root / "frames" / f"{clip}.png")
    return root


def test_as_published_with_a_frame_of_each(tmp_path):
    root = vggsound(tmp_path)
    folder = read_folder(root, role="audio", given=["picture"])
    assert folder.layout == "VGGSound (vggsound.csv)"
    assert [(item.caption, item.split) for item in folder.items] == [
        ("people marching", "test"), ("waterfall, burbling", "train"), ("dog barking", "train"),
    ]  # fmt: skip
    assert folder.items[2].group == "-_gaZzFfzDQ" and folder.items[2].path() == root / "audio" / f"{CLIPS[2]}.wav"
    assert folder.items[2].path("picture") == root / "frames" / f"{CLIPS[2]}.png"
    assert [(one.why, one.broken) for one in folder.skipped] == [("names 2 clips that are not here", False)]


def test_the_header_of_audiotoken_and_folders_of_frames(tmp_path):
    table = "ytid,timestamps,class,set\n" + PUBLISHED
    root = vggsound(tmp_path / "vggsound", table, frames=False)
    (root / "vggsound.csv").rename(tmp_path / "vggsound.csv")
    for n in range(5):
        (root / "frames" / CLIPS[1]).mkdir(exist_ok=True)
        disc(0.5, size=8).write(root / "frames" / CLIPS[1] / f"{n:04}.png")
    folder = read_folder(root)
    assert folder.role == "audio" and folder.layout == "VGGSound (../vggsound.csv)"
    assert [item.files.get("picture") for item in folder.items] == [None, root / "frames" / CLIPS[1] / "0002.png"]
    assert "several clips in the table" in folder.skipped[0].why, "this header says no start"


def test_a_tenth_of_train_is_held_out_by_the_video(tmp_path):
    names = [f"video{n:06}" for n in range(60)]
    root = tmp_path
    (root / "vggsound.csv").write_text("".join(f"{name},0,dog barking,train\n" for name in names))
    for name in names:
        tone(300, 0.05).write(root / f"{name}_0_10000.wav")
    splits = [item.split for item in read_folder(root).items]
    assert 0 < splits.count("valid") < 20 and splits.count("train") + splits.count("valid") == 60


def test_videos_without_frames_say_what_to_do(tmp_path):
    root = vggsound(tmp_path, frames=False)
    with pytest.raises(Error, match=r"has a sound and no frame; extract one of each video"):
        read_folder(root, role="picture")
    for path in (root / "audio").iterdir():
        path.unlink()
    layout = read_layout(root)
    assert [row.files["audio"].suffix for row in layout.rows] == [".mp4"] * 3, "ffmpeg reads their sound"


def test_another_table_of_that_name_changes_nothing(tmp_path):
    tone(300, 0.2).write(tmp_path / "rain.wav")
    (tmp_path / "vggsound.csv").write_text(PUBLISHED)
    assert read_layout(tmp_path).name == "file names"
    (tmp_path / "vggsound.csv").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "rain.wav").rename(tmp_path / f"{CLIPS[0]}.wav")
    assert read_layout(tmp_path).name == "file names"


def test_sounds_and_frames_become_examples(tmp_path):
    root = vggsound(tmp_path)
    said = []
    mel = PRESETS["voice-8k"]
    data = load_examples(
        DataSettings(folder=str(root)), Reading("picture", PictureSpec(size=8)), [Reading("audio", mel)], captions=True,
        say=said.append,
    )  # fmt: skip
    assert [one.caption for one in data.train] == ["waterfall, burbling", "dog barking"]
    assert data.train[0].target.shape == (3, 8, 8) and data.train[0].given["audio"].shape[0] == mel.mels
    assert "skipped vggsound.csv: names 2 clips that are not here" in said
