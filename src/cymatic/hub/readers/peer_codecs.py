"""EnCodec, DAC, Mimi and Lumen, from folders as the Hugging Face hub has them or from their projects' own files."""

from __future__ import annotations

from pathlib import Path

from cymatic.errors import ModelError
from cymatic.hub.checkpoints import state_dict, unwrapped
from cymatic.hub.parts import CONFIG, WEIGHTS, read_json, read_tensors
from cymatic.hub.readers.dac import DacCodec, dac_of_folder, is_dac, read_dac
from cymatic.hub.readers.encodec import EncodecCodec, encodec_of_folder, read_encodec
from cymatic.hub.readers.lumen import LumenCodec, is_lumen, read_lumen
from cymatic.hub.readers.mimi import MimiCodec, mimi_of_folder
from cymatic.hub.readers.peers import PeerCodec

PEERS: tuple[type[PeerCodec], ...] = (EncodecCodec, DacCodec, MimiCodec, LumenCodec)
FOLDERS = {"encodec": encodec_of_folder, "dac": dac_of_folder, "mimi": mimi_of_folder}


def read_peer(source: Path) -> PeerCodec:
    """The codec in `source`, in eval mode: a Hugging Face folder (`config.json` and `model.safetensors`) of EnCodec,
    DAC or Mimi, EnCodec's own `.th` file, DAC's own `weights*.pth`, or a state_dict of audio_generation's CausalVQAE at
    48 kHz (`read_lumen` takes other rates).

    No file is fetched. Raises ModelError for anything else, where the package transformers is not installed, and for
    tensors that are missing, unexpected, of another shape or not finite.
    """
    if source.is_dir():
        values = read_json(source / CONFIG)
        kind = values.get("model_type")
        if kind not in FOLDERS:
            raise ModelError(
                f'{source / CONFIG} tells of a model of the type "{kind}"; codecs of other projects that can be read '
                f"are {', '.join(FOLDERS)}"
            )
        return FOLDERS[kind](values, unwrapped(read_tensors(source / WEIGHTS)), source)
    tensors = state_dict(source)
    if is_lumen(tensors):
        return read_lumen(source)
    return read_dac(source) if is_dac(tensors) else read_encodec(source)
