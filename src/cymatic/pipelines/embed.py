"""Encoders aligned in one space: values of any of their media -> vectors that can be compared, added and ranked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from cymatic.cond import Padded
from cymatic.config import nearest
from cymatic.errors import Error
from cymatic.hub.parts import fingerprint, load_part, save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.hub.readers.towers import ANY_ENCODER
from cymatic.media import MEDIA, medium_of, medium_of_value
from cymatic.pipelines.asked import described

Ranked = tuple[float, Any]  # how similar it is, -1 to 1, and what it is


class Embedder:
    """One encoder for each role of an alignment; `embed` gives vectors of unit norm, whose products are
    similarities, and `rank` sorts by these. scale: by what they become logits, as they were trained; None where nobody
    kept it."""

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

    @property
    def reads(self) -> list[str]:
        """What it reads, words first: words, pictures, ..."""
        specs = [encoder.config.reads for encoder in self.encoders.values()]
        nouns = [MEDIA[spec.medium].nouns for spec in specs if spec is not None]
        return list(dict.fromkeys([*(["words"] if None in specs else []), *nouns]))

    def check_role(self, role: str) -> None:
        """Raises Error for a role that the model has not."""
        if role not in self.encoders:
            raise Error(f'{self.name} has no encoder for "{role}"; {nearest(role, self.encoders)}')

    def vectors(self, role: str, inputs: list[str] | Padded) -> Tensor:
        """`[batch, dim]` of what an encoder reads: words, or what its medium prepares."""
        found: Tensor = self.encoders[role](inputs).vector
        return found

    def embed(self, values: Sequence[Any], role: str | None = None) -> Tensor:
        """`[values, dim]`, of unit norm, on the CPU.

        Each is words, a value of a medium that the model reads, the path (`pathlib.Path`) of such a file, or a vector
        of this space, of any length but 0: sums and differences of vectors are asked with like words. role: of the
        encoder that reads them all; None: each is read by that of its kind.

        Raises Error for a role that the model has not, for no values, and for what it does not read.
        """
        if isinstance(values, str | Path):
            raise Error(f"{values!r:.60} came where several values are read; give them as a list")
        if not len(values):
            raise Error("no values were given to embed; give one or more")
        if role is None:
            return torch.stack([self._vector(value) for value in values])
        self.check_role(role)
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

    def rank(self, query: Any, candidates: Sequence[Any]) -> list[Ranked]:
        """How similar each candidate is to the query, the cosine of their vectors, with the candidate itself: the most
        similar first, of equal ones the earlier. Any kind of either that `embed` reads. Raises Error as that does."""
        if not isinstance(candidates, str | Path) and not len(candidates):
            raise Error("there are no candidates to rank; give one or more")
        vectors = self.embed(candidates)
        scores = (vectors @ self.embed([query])[0]).tolist()
        return [(scores[i], candidates[i]) for i in best_first(scores)]

    def _vector(self, value: Any) -> Tensor:
        if isinstance(value, Path):
            medium = medium_of(value)
            if medium is None:
                raise Error(f"{value} is no file that {self.name} reads; give {', '.join(self.reads)}")
            self.role_of(medium.name)  # before a file is read that no encoder reads
            value = medium.read(value)
        medium = medium_of_value(value)
        if isinstance(value, str) or medium is not None:
            return normalize(self.embed([value], self.role_of(None if medium is None else medium.name))[0], dim=0)
        try:
            vector = torch.as_tensor(value, dtype=torch.float32).detach().cpu()
        except (TypeError, ValueError, RuntimeError, OverflowError):
            vector = torch.empty(0)
        if vector.shape != (self.dim,) or not vector.isfinite().all() or not vector.any():
            raise Error(
                f"{described(value)!r:.60} came, and {self.name} reads {', '.join(self.reads)}, and vectors of "
                f"{self.dim} finite numbers, not all of them 0; give one of these"
            )
        return normalize(vector, dim=0)


def best_first(scores: Sequence[float]) -> list[int]:
    """The places of the scores, the highest first; of those that differ by rounding alone, the earlier."""
    return sorted(range(len(scores)), key=lambda i: -round(scores[i], 6))
