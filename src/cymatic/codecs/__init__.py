"""Signals -> a coarse grid of codes, and back."""

from cymatic.codecs.spectrogram import SpectrogramCodec
from cymatic.codecs.waveform import WaveformCodec

CODECS = (SpectrogramCodec, WaveformCodec)  # every kind that a model folder may hold
