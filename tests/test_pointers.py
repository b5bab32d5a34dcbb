"""What Git LFS leaves in a file's place is named, wherever a file may be given."""

import pytest

from cymatic.data.layouts import read_layout
from cymatic.errors import Error
from cymatic.files import IS_LFS_POINTER
from cymatic.hub.arrays import read_array
from cymatic.hub.checkpoints import read_checkpoint
from cymatic.hub.parts import read_json, read_tensors
from cymatic.media import pipes
from cymatic.media.picture import Picture
from cymatic.media.sound import Sound
from cymatic.pipelines.sound_codec import Encoded
from cymatic.training.recipe import read_recipe
from tests.helpers import tone

POINTER = (
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32\nsize 12345\n"
)
READERS = [
    (Sound.read, "a.wav"), (Sound.read, "a.mp3"), (Picture.read, "a.png"), (Encoded.read, "a.cym"),
    (read_checkpoint, "a.pt"), (read_tensors, "model.safetensors"), (read_json, "config.json"), (read_array, "a.npy"),
    (read_recipe, "a.yaml"),
]  # fmt: skip


@pytest.mark.parametrize(("read", "name"), READERS, ids=lambda value: str(getattr(value, "__qualname__", value)))
def test_a_pointer_is_named(tmp_path, read, name):
    (tmp_path / name).write_bytes(POINTER)
    with pytest.raises(Error, match=r"is a Git LFS pointer, .*; fetch the file with `git lfs pull`$") as error:
        read(tmp_path / name)
    assert str(error.value) == f"{tmp_path / name} {IS_LFS_POINTER}"


def test_a_pointer_in_a_pipe_is_named(tmp_path):
    (tmp_path / "pointer").write_bytes(POINTER)
    with (tmp_path / "pointer").open("rb") as stream, pytest.raises(Error, match="standard input is a Git LFS pointer"):
        list(pipes.blocks(stream))


def test_captions_and_manifests_that_are_pointers_are_none(tmp_path):
    for name in ("a", "b"):
        tone(440).write(tmp_path / f"{name}.wav")
    (tmp_path / "a.txt").write_text("a tone")
    (tmp_path / "b.txt").write_bytes(POINTER)
    layout = read_layout(tmp_path)
    assert [row.caption for row in layout.rows] == ["a tone"]
    (skipped,) = layout.skipped
    assert skipped.name == "b.wav" and skipped.why == f"has a caption that {IS_LFS_POINTER} (b.txt)"
    (tmp_path / "manifest.jsonl").write_bytes(POINTER)
    with pytest.raises(Error, match=r"manifest.jsonl is a Git LFS pointer"):
        read_layout(tmp_path)


def test_sounds_that_are_pointers_are_named_in_a_folder(tmp_path):
    from cymatic.data.inspection import inspect_folder

    tone(440).write(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(POINTER)
    (broken,) = inspect_folder(tmp_path).broken
    assert broken.name == "b.wav" and broken.why == IS_LFS_POINTER
