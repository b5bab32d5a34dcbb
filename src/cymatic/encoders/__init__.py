"""Text, classes, video features, and later speech, sound and pictures -> a condition (`Cond`)."""

from cymatic.encoders.classes import ClassEncoder
from cymatic.encoders.features import FeatureEncoder
from cymatic.encoders.text import TextEncoder

ENCODERS = (TextEncoder, ClassEncoder, FeatureEncoder)  # every kind that a model folder may hold
