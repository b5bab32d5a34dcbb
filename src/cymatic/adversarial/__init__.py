"""Discriminators and what they teach. One of them judges waveforms; the losses hold no state."""
