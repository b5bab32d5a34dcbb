"""A run -> a starter: its parts in half precision and its pipeline.json, nothing else.

    python benchmarks/ship.py runs/NAME src/cymatic/starters/NAME

The card is written by hand beside them.
"""

import sys
from pathlib import Path

from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import read_pipeline, write_pipeline
from cymatic.pipelines.text_to_sound import TextToSound


def ship(run: Path, starter: Path) -> None:
    """Writes the parts of `run` into `starter` as float16. Raises ModelError where the run is not a whole model."""
    model = TextToSound.from_folder(run)
    for name, part in (("text", model.text), ("prior", model.prior), ("vocoder", model.vocoder)):
        save_part(starter / name, part, half=True)
        print(f"{name}: {(starter / name / 'model.safetensors').stat().st_size / 1e6:.2f} MB")
    write_pipeline(
        starter, read_pipeline(run).model_copy(update={"parts": {n: n for n in ("text", "prior", "vocoder")}})
    )


if __name__ == "__main__":
    ship(Path(sys.argv[1]), Path(sys.argv[2]))
