"""The waveform codecs that a model may hold, ours and other people's: one set of verbs.

`encode`, `decode`, `decode_codes`, `streaming`, `lookup`, and what they say of themselves: `config.rate`,
`config.channels`, `hop`, `delay`, `frames`, `levels`, `sizes`, `streamable`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cymatic.codecs import CODECS
from cymatic.codecs.waveform import WaveformCodec
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.readers.encodec import EncodecCodec
from cymatic.hub.readers.peer_codecs import PEERS
from cymatic.hub.readers.peers import PeerCodec

WaveCodec = WaveformCodec | PeerCodec
ANY_CODEC: tuple[type[Any], ...] = (*CODECS, *PEERS)
WAVE_CODECS: tuple[type[WaveCodec], ...] = (WaveformCodec, *PEERS)


def load_wave_codec(folder: Path) -> WaveCodec:
    """The codec in `folder`, in eval mode, whose codes alone are enough for a sound.

    Raises ModelError as `load_part`, where transformers is needed and not installed, and as `check_codes_suffice`.
    """
    codec = load_part(folder, WAVE_CODECS)
    check_codes_suffice(codec, str(folder))
    return codec


def load_any_codec(folder: Path) -> Any:
    """The codec in `folder`, of any medium, ours or another project's, in eval mode. Raises as `load_wave_codec`."""
    codec: Any = load_part(folder, ANY_CODEC)
    check_codes_suffice(codec, str(folder))
    return codec


def check_codes_suffice(codec: Any, name: str) -> None:
    """Raises ModelError where a sound needs more than its codes, as with EnCodec at 48 kHz."""
    if isinstance(codec, EncodecCodec) and codec.segmented:
        raise ModelError(
            f"{name} codes segments, each at a loudness that it keeps beside its codes, and neither .cym files nor "
            "priors have a place for it; use this codec in Python, with cymatic.hub.parts.load_part"
        )
