"""Encoders aligned in one space: values of any of their media -> vectors that can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cymatic.cond import Padded
from cymatic.config import nearest
from cymatic.errors import Error
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.hub.readers.clip import ANY_ENCODER
from cymatic.media import MEDIA


class Embedder:
    """One encoder for each role of an alignment; `embed` gives vectors of unit norm, whose products are
    similarities. scale: by what these become logits, as they were trained; None where nobody kept it."""

    def __init__(
        self, encoders: dict[str, Any], *, scale: float | None = None, name: str = "unnamed", sha256: str = ""
    ) -> None:
        self.encoders = {role: encoder.eval() for role, encoder in encoders.items()}
        self.scale, self.name, self.sha256 = scale, name, sha256

    @classmethod
    def from_folder(cls, folder: Path, file: PipelineFile, *, device: str = "cpu", name: str | None = None) -> Embedder:
        """Raises ModelError where a part is missing, damaged or of the wrong kind."""
        places = file.places(folder)
        encoders = {role: load_part(place, ANY_ENCODER).to(device) for role, place in places.items()}
        sha256 = fingerprint(list(places.values()))
        return cls(encoders, scale=file.scale, name=name or folder.name, sha256=sha256)

    def save(self, folder: Path, *, half: bool = False) -> None:
        """Writes the encoders into `folder`, as a model; half: as float16. Raises Error where it can't be written."""
        for role, encoder in self.encoders.items():
            save_part(folder / role, encoder, half=half)
        write_pipeline(folder, PipelineFile(parts={role: role for role in self.encoders}, scale=self.scale))

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return int(next(iter(self.encoders.values())).config.dim)

    def role_of(self, medium: str | None) -> str:
        """The role of a medium; None: of words. Raises Error where no encoder reads it."""
        for role, encoder in self.encoders.items():
            spec = encoder.config.reads
            if (None if spec is None else spec.medium) == medium:
                return role
        wanted = "words" if medium is None else MEDIA[medium].nouns
        raise Error(f"{self.name} has no encoder that reads {wanted}; its encoders are {', '.join(self.encoders)}")

    def check_role(self, role: str) -> None:
        """Raises Error for a role that the model has not."""
        if role not in self.encoders:
            raise Error(f'{self.name} has no encoder for "{role}"; {nearest(role, self.encoders)}')

    def vectors(self, role: str, inputs: list[str] | Padded) -> Tensor:
        """`[batch, dim]` of what an encoder reads: words, or what its medium prepares."""
        found: Tensor = self.encoders[role](inputs).vector
        return found

    def embed(self, role: str, values: Sequence[Any]) -> Tensor:
        """`[values, dim]`, of unit norm. Raises Error for a role that the model has not, or no values."""
        self.check_role(role)
        if not len(values):
            raise Error("no values were given to embed; give one or more")
        spec = self.encoders[role].config.reads
        with torch.inference_mode():
            if spec is None:
                return self.vectors(role, list(values)).cpu()
            medium = MEDIA[spec.medium]
            vectors = []
            for value in values:
                target = medium.prepare(value, spec).float()
                vectors.append(self.vectors(role, Padded(target[None], torch.tensor([target.shape[-1]]))))
        return torch.cat(vectors).cpu()
