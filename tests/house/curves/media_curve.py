"""CURVE: a function of one variable, sampled evenly: one number a line of a .csv file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from jaxtyping import Float
from pydantic import Field

from cymatic.errors import Error, ModelError
from cymatic.files import reason, write_atomically
from cymatic.media.medium import Facts, Medium
from cymatic.signal.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

OUTLINE = 32  # points of an outline


class CurveSpec(Spec):
    """Curves as a tensor `[1, points]`, stretched or squeezed to `points` values evenly far apart."""

    medium: ClassVar[str] = "curve"

    points: int = Field(default=64, ge=2, le=65_536)

    @property
    def shape(self) -> tuple[int, int]:
        return 1, self.points


@dataclass(frozen=True, eq=False)
class Curve:
    """values: float32 `[points]`, two or more, finite. info: what is known about it (prompt, seed, model)."""

    values: Float[np.ndarray, " points"]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Curve({len(self.values)} points)"

    @classmethod
    def read(cls, path: str | Path) -> Curve:
        """Raises FileNotFoundError, and Error for what is not a column of two or more finite numbers."""
        path = Path(path)
        try:
            lines = path.read_text(encoding="utf-8-sig").split()
        except (FileNotFoundError, NotADirectoryError):
            raise FileNotFoundError(f"{path} does not exist; give the path of a .csv file") from None
        except OSError as error:
            raise Error(f"{path} can't be read: {reason(error)}; give a .csv file that you may read") from None
        except UnicodeDecodeError:
            raise Error(f"{path} is not a text; give a .csv file with one number a line") from None
        try:
            values = np.array([float(line) for line in lines], dtype=np.float32)
        except ValueError as error:
            raise Error(f"{path} is no curve ({error}); give one number a line, and nothing else") from None
        if len(values) < 2 or not np.isfinite(values).all():
            raise Error(f"{path} holds {len(values)} numbers, or NaN or infinity; give two finite numbers or more")
        return cls(values)

    def write(self, path: str | Path) -> Path:
        """Writes one number a line, whole or not at all; `info` stays behind. Raises Error where that can't be."""
        return write_atomically(path, "".join(f"{value:.6g}\n" for value in self.values).encode())

    def plot(self, path: str | Path, title: str | None = None) -> Path:
        """Draws it into an image file."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(4, 2), layout="constrained")
        axes = figure.add_subplot(title=title or "")
        axes.plot(self.values)
        figure.savefig(path)
        return Path(path)

    def resampled(self, points: int) -> Float[np.ndarray, " points"]:
        """Its values at `points` places from its beginning to its end, by straight lines between its own."""
        places = np.linspace(0, len(self.values) - 1, points)
        return np.interp(places, np.arange(len(self.values)), self.values).astype(np.float32)


def examine(path: Path, keep: float) -> tuple[Facts, Curve]:
    """What a file is like, and the curve in it."""
    curve = Curve.read(path)
    facts = Facts(None, empty=not curve.values.any(), details={"points": len(curve.values)})
    return facts, curve


def prepare(curve: Curve, spec: CurveSpec) -> Float[Tensor, "1 points"]:
    """What a part reads of a curve."""
    import torch

    return torch.from_numpy(curve.resampled(spec.points))[None]


def restore(made: Float[Tensor, "1 points"], spec: CurveSpec, info: Mapping[str, Any]) -> Curve:
    """The curve that a model made. Raises ModelError for NaN or infinity."""
    if not made.isfinite().all():
        raise ModelError("the model made NaN or infinity instead of a curve; train it again")
    return Curve(made[0].detach().float().cpu().numpy(), info)


CURVE = Medium(
    name="curve",
    noun="curve",
    nouns="curves",
    example="rising_03.csv",
    empty="is all zeros",
    suffixes=frozenset({".csv"}),
    read=Curve.read,
    write=Curve.write,
    examine=examine,
    prepare=prepare,
    restore=restore,
    outline=lambda curve: curve.resampled(OUTLINE),
    plot=Curve.plot,
    details={"points": ("points", "")},
)
