"""EnCodec, DAC and Mimi behind the verbs of a waveform codec: the references' codes and sounds, and bad input in words.

What transformers itself says is compared where there is no fixture: Mimi, and EnCodec in segments.
"""

import json
import math
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cymatic.codecs.latent import Latent
from cymatic.errors import Error, ModelError
from cymatic.hub.dac import DacCodec, DacCodecConfig, read_dac
from cymatic.hub.encodec import EncodecCodec, EncodecCodecConfig, SegmentedLatent, read_encodec
from cymatic.hub.mimi import MimiCodec, MimiCodecConfig
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.transformers_codecs import PEERS, read_peer

needs_transformers = pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("transformers") is None,
    reason="transformers is not installed: pip install 'cymatic[hub]'",
)
