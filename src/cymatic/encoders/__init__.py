"""Text, classes, features and sounds -> a condition (`Cond`); later speech and pictures, too."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from cymatic.encoders.classes import ClassConfig, ClassEncoder
from cymatic.encoders.features import FeatureConfig, FeatureEncoder
from cymatic.encoders.sound import SoundConfig, SoundEncoder
from cymatic.encoders.text import TextConfig, TextEncoder

Encoder = TextEncoder | ClassEncoder | FeatureEncoder | SoundEncoder
ENCODERS: tuple[type[Encoder], ...] = (TextEncoder, ClassEncoder, FeatureEncoder, SoundEncoder)
EncoderConfig = Annotated[TextConfig | ClassConfig | FeatureConfig | SoundConfig, Field(discriminator="kind")]
