"""Discriminators of waveforms and of pictures, what they teach, and how hard they push; the losses hold no state."""
