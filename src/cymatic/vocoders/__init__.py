"""Log mel -> waveform of exactly frames x hop samples."""
