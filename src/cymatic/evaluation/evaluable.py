"""What an evaluation asks of a model: little of all, more of those that have codes or a likelihood."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from cymatic.media.sound import Sound
from cymatic.signal.mel import MelSpec


@runtime_checkable
class Evaluable(Protocol):
    """A text-to-sound model: words -> sounds, and a recording -> what a perfect prior would give of it."""

    name: str
    sha256: str

    @property
    def rate(self) -> int:
        """Samples a second."""

    @property
    def mel(self) -> MelSpec:
        """The mel between its prior (or codec) and its vocoder."""

    @property
    def captions(self) -> Sequence[str]:
        """Those it was trained on; none where nobody knows."""

    def __call__(self, prompt: str, *, seed: int, n: int) -> list[Sound]:
        """n sounds of seeds seed, seed + 1, ..."""

    def revocode(self, sound: Sound) -> Sound:
        """A recording through mel, codec (where there is one) and vocoder."""


@runtime_checkable
class Codec(Protocol):
    """A codec of mels."""

    @property
    def size(self) -> int:
        """Codes in its codebook."""

    def encode(self, mel: Tensor, frames: Tensor | None = None) -> Any:
        """mel [1, mels, frames] -> a `latent.Latent` with codes."""

    def decode(self, latent: Any) -> Tensor:
        """A latent -> mel [1, mels, frames]."""


@runtime_checkable
class HasCodec(Protocol):
    """A model whose prior is over a codec's codes."""

    @property
    def codec(self) -> Codec: ...

    @property
    def vocoder(self) -> Any:
        """mel [1, mels, frames] -> waveform [1, 1, samples]."""


@runtime_checkable
class HasLikelihood(Protocol):
    """A model that knows how likely a recording is."""

    def nll(self, sound: Sound, prompt: str) -> tuple[float, int] | None:
        """The negative log-likelihood of the recording's codes under the prompt, in nats, and how many codes it has;
        None for one longer than any that the model knows."""


@runtime_checkable
class HasLatent(Protocol):
    """A model that may see a recording as a normal in a small space."""

    def posterior(self, sound: Sound, prompt: str) -> tuple[Tensor, Tensor] | None:
        """Its mean and log variance [1, dim]; None of a model without such a space, and for a recording too long."""
