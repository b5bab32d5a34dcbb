"""Mel -> waveform of exactly frames x hop samples. A vocoder is added by its name in `TrainedVocoder`."""

from __future__ import annotations

from typing import get_args

from cymatic.vocoders.griffin_lim import GriffinLimVocoder
from cymatic.vocoders.melgan import MelGAN
from cymatic.vocoders.vocos import Vocos

TrainedVocoder = Vocos | MelGAN  # those that a recipe trains
Vocoder = GriffinLimVocoder | TrainedVocoder
VOCODERS: tuple[type[Vocoder], ...] = get_args(Vocoder)  # every kind that a model folder may hold
TRAINED_VOCODERS: tuple[type[TrainedVocoder], ...] = get_args(TrainedVocoder)
