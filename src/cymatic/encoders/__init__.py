"""Text, and later speech, sound and pictures -> a condition (`Cond`)."""

from cymatic.encoders.text import TextEncoder

ENCODERS = (TextEncoder,)  # every kind that a model folder may hold
