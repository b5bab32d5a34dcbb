"""The layouts of published data sets with several media, read as they are unpacked. Adding one is one line in KNOWN."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cymatic.data.known.flickr import FLICKR
from cymatic.data.known.known_layout import KnownLayout
from cymatic.data.known.spoken_coco import SPOKEN_COCO
from cymatic.data.known.vggsound import VGGSOUND
from cymatic.data.known.wav2cap import WAV2CAP

KNOWN: tuple[KnownLayout, ...] = (FLICKR, SPOKEN_COCO, VGGSOUND, WAV2CAP)


def known_layout(root: Path, files: Sequence[Path]) -> tuple[KnownLayout, list[Path]] | None:
    """The first layout whose lists are among `files`, which are all below `root`, and these lists; None for another."""
    return next(((one, lists) for one in KNOWN if (lists := one.lists(root, files))), None)
