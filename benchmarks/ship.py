"""A run -> a starter: its parts in half precision and its pipeline.json, nothing else.

    python benchmarks/ship.py runs/NAME src/cymatic/starters/NAME

The card is written by hand beside them.
"""

import sys
from pathlib import Path

from torch import nn

from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import CodecFile, read_pipeline, write_pipeline
from cymatic.pipelines.generate import Generator
from cymatic.pipelines.sound_codec import SoundCodec


def ship(run: Path, starter: Path) -> None:
    """Writes the parts of `run` into `starter` as float16. Raises ModelError where the run is not a whole model."""
    file, parts = read_pipeline(run), dict[str, nn.Module]()
    if isinstance(file, CodecFile):
        parts["codec"] = SoundCodec.from_folder(run).codec
    else:
        model = Generator.from_folder(run)
        parts |= {"text": model.text, "prior": model.prior, "vocoder": model.vocoder}
    for name, part in parts.items():
        save_part(starter / name, part, half=True)
        print(f"{name}: {(starter / name / 'model.safetensors').stat().st_size / 1e6:.2f} MB")
    write_pipeline(starter, file.model_copy(update={"parts": {name: name for name in parts}}))


if __name__ == "__main__":
    ship(Path(sys.argv[1]), Path(sys.argv[2]))
