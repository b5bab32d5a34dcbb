"""A run -> a starter: its parts in half precision and its pipeline.json, nothing else.

    python benchmarks/ship.py runs/NAME src/cymatic/starters/NAME

The card is written by hand beside them. The version is one more than that of the starter which lies there.
"""

import sys
from pathlib import Path

import cymatic
from cymatic.encoders import ENCODERS
from cymatic.hub.parts import load_part, save_part
from cymatic.hub.pipeline_file import PIPELINE, read_pipeline, write_pipeline
from cymatic.hub.wave_codecs import ANY_CODEC
from cymatic.pipelines.embed import Embedder
from cymatic.priors import PRIORS
from cymatic.vocoders import VOCODERS

SPACE = "space"


def ship(run: Path, starter: Path) -> None:
    """Writes the parts of `run` into `starter` as float16. Raises ModelError where the run is not a whole model."""
    cymatic.load(run)
    file = read_pipeline(run)
    for name, place in file.places(run).items():
        save_part(starter / name, load_part(place, (*ENCODERS, *PRIORS, *ANY_CODEC, *VOCODERS)), half=True)
        print(f"{name}: {(starter / name / 'model.safetensors').stat().st_size / 1e6:.2f} MB")
    if (space := file.space_of(run)) is not None:
        Embedder.from_folder(space, read_pipeline(space)).save(starter / SPACE, half=True)
        for role, place in read_pipeline(starter / SPACE).places(starter / SPACE).items():
            print(f"{SPACE}/{role}: {(place / 'model.safetensors').stat().st_size / 1e6:.2f} MB")
    before = read_pipeline(starter) if (starter / PIPELINE).exists() else None
    update = {
        "parts": {name: name for name in file.parts},
        "space": None if space is None else SPACE,
        "version": 1 if before is None else (before.version or 0) + 1,
        "licence": file.licence if before is None else before.licence,
    }
    write_pipeline(starter, file.model_copy(update=update))


if __name__ == "__main__":
    ship(Path(sys.argv[1]), Path(sys.argv[2]))
