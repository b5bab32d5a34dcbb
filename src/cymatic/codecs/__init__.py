"""Signals -> a coarse grid of codes, and back."""

from cymatic.codecs.spectrogram import SpectrogramCodec

CODECS = (SpectrogramCodec,)  # every kind that a model folder may hold
