"""What carries no learnable parameter: sounds, mel spectrograms, resampling, loudness, files, plots."""
