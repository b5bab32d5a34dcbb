"""What an evaluation asks of a model: a name, and of what else it can do, as much as there is.

Values are what users meet (sounds, pictures); targets are the tensors that its prior is trained on and its codec reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Named(Protocol):
    """Any model."""

    @property
    def name(self) -> str: ...

    @property
    def captions(self) -> Sequence[str]:
        """Those it was trained on; none where nobody knows."""


@runtime_checkable
class Generates(Protocol):
    """A model that makes values."""

    def __call__(self, prompt: str, *, seed: int, n: int) -> list[Any]:
        """n values of seeds seed, seed + 1, ..."""


@runtime_checkable
class Draws(Protocol):
    """A model that makes targets, at a guidance of its own or at another."""

    @property
    def guidance(self) -> float: ...

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], guidance: float | None = None) -> list[Tensor]:
        """A target for each prompt and seed."""


@runtime_checkable
class HasLoss(Protocol):
    """A model whose prior tells how well a target fits a caption."""

    def loss(self, targets: Sequence[Tensor], captions: Sequence[str], seed: int) -> float:
        """The mean loss of the targets under these captions; noise is drawn by `seed`."""

    def target(self, value: Any) -> Tensor:
        """The target of a value, without a batch."""


@runtime_checkable
class Reconstructs(Protocol):
    """A model through which a real value can pass."""

    def reconstructions(self, value: Any) -> Mapping[str, Any]:
        """The value after each way through the model, such as its vocoder alone; the last is the whole model."""


@runtime_checkable
class CodecPart(Protocol):
    """A codec as `codecs` has them."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many codes each level has; one number where all share a codebook."""

    def encode(self, target: Tensor) -> Any:
        """A target [1, ...] -> a `latent.Latent`."""

    def decode(self, latent: Any) -> Tensor:
        """A latent -> a target [1, ...], as long as before or longer by less than a code or two."""

    def decode_codes(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """The first rows of codes alone -> a target [1, ...] of that length."""

    def distance(self, made: Tensor, wanted: Tensor) -> Tensor:
        """How far apart two targets [1, ...] are, in the codec's own measure."""


@runtime_checkable
class HasCodec(Protocol):
    """A model that may have a codec."""

    @property
    def codec(self) -> CodecPart | None: ...

    @property
    def rows(self) -> int | None:
        """How many of the codec's rows of codes it uses, from the first on; None: all, or the codec has no codes."""

    def target(self, value: Any) -> Tensor:
        """What the codec reads of a value, without a batch."""


@runtime_checkable
class HasLikelihood(Protocol):
    """A model that knows how likely a value is."""

    def nll(self, value: Any, prompt: str) -> tuple[float, int] | None:
        """The negative log-likelihood of the value's codes under the prompt, in nats, and how many codes it has; None
        for one longer than any that the model knows."""


@runtime_checkable
class HasLatent(Protocol):
    """A model that may see a value as a normal in a small space."""

    def posterior(self, value: Any, prompt: str) -> tuple[Tensor, Tensor] | None:
        """Its mean and log variance [1, dim]; None of a model without such a space, and for a value too long."""
