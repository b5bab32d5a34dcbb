"""Text, classes, features, sounds, pictures -> a condition (`Cond`). An encoder is added by its name in `Encoder`."""

from __future__ import annotations

from typing import get_args

from cymatic.encoders.bpe import BPEEncoder
from cymatic.encoders.classes import ClassEncoder
from cymatic.encoders.features import FeatureEncoder
from cymatic.encoders.picture import PictureEncoder
from cymatic.encoders.sound import SoundEncoder
from cymatic.encoders.text import TextEncoder

Encoder = TextEncoder | ClassEncoder | FeatureEncoder | SoundEncoder | PictureEncoder | BPEEncoder
ENCODERS: tuple[type[Encoder], ...] = get_args(Encoder)
