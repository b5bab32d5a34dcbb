"""Pieces of mels: of one length, the same at every call, whole where a clip is short."""

import pytest
import torch

from cymatic.data.crops import MelRandomCrops
from cymatic.data.mels import Clip
from cymatic.errors import Error

SILENCE = -11.5


def clips(*lengths: int) -> list[Clip]:
    """Frame i of clip k holds the number 1000 k + i."""
    return [Clip(f"clip {k}", (1000.0 * k + torch.arange(n)).expand(3, -1).clone()) for k, n in enumerate(lengths)]


def crops(some: list[Clip], frames: int = 8, batch: int = 6, **more) -> MelRandomCrops:
    return MelRandomCrops(some, frames, batch, 1, silence=SILENCE, **more)


def test_a_piece_is_cut_from_one_clip_or_holds_all_of_it():
    pieces = crops(clips(20, 5, 8), batch=60)[3]
    assert pieces.mel.shape == (60, 3, 8)
    for caption, piece in zip(pieces.captions, pieces.mel[:, 0], strict=True):
        sound = piece[piece != SILENCE]
        k = int(caption.split()[1])
        assert torch.equal(sound, sound[0] + torch.arange(len(sound)))
        assert sound[0] // 1000 == k
        assert len(sound) == (5 if k == 1 else 8)
    assert set(pieces.captions) == {"clip 0", "clip 1", "clip 2"}
    starts = {
        float(piece[0]) for caption, piece in zip(pieces.captions, pieces.mel[:, 0], strict=True) if "0" in caption
    }
    assert len(starts) > 4, "pieces begin anywhere"


def test_a_step_gives_the_same_pieces_and_another_step_others():
    one = crops(clips(30, 40))
    assert torch.equal(one[5].mel, crops(clips(30, 40))[5].mel)
    assert not torch.equal(one[5].mel, one[6].mel)


def test_long_clips_are_drawn_more_often_but_not_in_proportion():
    drawn = crops(clips(400, 4), batch=4000)[0].captions
    assert drawn.count("clip 0") / drawn.count("clip 1") == pytest.approx(10, rel=0.2)


def test_processes_share_a_batch():
    whole = crops(clips(30, 4))[2]
    for rank in range(3):
        part = crops(clips(30, 4), rank=rank, ranks=3)[2]
        assert torch.equal(part.mel, whole.mel[rank::3])
        assert part.captions == whole.captions[rank::3]
    with pytest.raises(Error, match="can't be shared evenly by 4 devices"):
        crops(clips(30), rank=0, ranks=4)
