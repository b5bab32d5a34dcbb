"""What the codecs of other projects share: the verbs of a waveform codec, over networks of the package transformers.

Theirs are not causal, or pad by what lies at the ends of a sound: the codes of a chunk depend on where it was cut.
So they are not streamable, and items of different lengths never share a batch inside, which is why a batch equals its
items.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, ClassVar, Literal, NoReturn, Protocol, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import pad_sequence

from cymatic.config import Config
from cymatic.errors import Error, ModelError
from cymatic.latent import Latent
from cymatic.media.wave_spec import WaveSpec
from cymatic.signal.distances import multi_scale_mel_distance

MAGNITUDES = {"weight_g": "weight_v", "parametrizations.weight.original0": "parametrizations.weight.original1"}


def transformers() -> Any:
    """The package transformers, imported when it is first needed. Raises ModelError where it is not installed."""
    try:
        import transformers as package
    except ImportError as error:
        raise ModelError(
            f"EnCodec, DAC, Mimi, CLIP, HuBERT and Stable Diffusion need the package transformers ({error}); install "
            "it with: pip install 'cymatic[hub]'"
        ) from None
    return package


def without_weight_norm(network: nn.Module) -> nn.Module:
    """The same network with each weight in one piece; `plain` makes published tensors fit it."""
    for layer in network.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
    return network


def plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in float32 with each weight in one piece, `w = g v / |v|`, whichever names magnitude and direction have.

    Numbers of 16 bits are widened first: of EnCodec's weights in bfloat16, folded as they are, 2.3 % of codes differ.
    torch called magnitude and direction `weight_g` and `weight_v` before 2.0, and has had parametrizations since;
    published files have either, or the weight itself (Salimans and Kingma, 2016, arXiv 1602.07868).
    """
    wide = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    whole = dict(wide)
    for name, g in wide.items():
        for magnitude, direction in MAGNITUDES.items():
            layer = name.removesuffix(magnitude)
            v = wide.get(layer + direction)
            if layer != name and v is not None and g.shape == (len(g), *(1,) * (v.dim() - 1)) and len(g) == len(v):
                del whole[name], whole[layer + direction]
                whole[f"{layer}weight"] = torch._weight_norm(v, g, 0)
    return whole


class Sampled(Protocol):
    """What the config of every waveform codec says: the rate in Hz and the channels of its sounds."""

    @property
    def rate(self) -> int: ...

    @property
    def channels(self) -> int: ...

    @property
    def reads(self) -> WaveSpec: ...

    @property
    def gives(self) -> WaveSpec: ...


class PeerConfig(Config):
    """What the configs of other projects' codecs share; each has a `rate` and `channels`."""

    @property
    def reads(self) -> WaveSpec:
        """What the codec encodes."""
        own = cast(Sampled, self)
        return WaveSpec(rate=own.rate, channels=own.channels)

    @property
    def gives(self) -> WaveSpec:
        """What the codec decodes to."""
        return self.reads


class PeerCodec(nn.Module, ABC):
    """wave `[batch, channels, samples]` -> codes `[batch, levels, frames]` -> wave, by somebody else's network.

    A family says how one batch of one length is coded (`_codes`), what codes stand for (`lookup`) and how that sounds
    (`_waves`).
    """

    streamable: ClassVar[bool] = False
    delay: ClassVar[int] = 0  # samples by which the decoder is late; theirs look ahead instead
    kept_in_shards: ClassVar[bool] = True
    layout: ClassVar[Literal["levels", "grid"]] = "levels"
    steps_trained: ClassVar[int] = 1  # how many there were no file says
    config: Sampled
    rate: int
    channels: int
    hop: int  # samples of a frame
    dim: int  # of the vectors that codes stand for
    sizes: tuple[int, ...]  # codes in the codebook of each level
    min_levels: int = 1  # codes of a frame that are needed

    @property
    def levels(self) -> int:
        """Codes of a frame."""
        return len(self.sizes)

    @property
    def rows(self) -> int:
        """Codes in a column: all levels."""
        return self.levels

    def columns(self, length: int) -> int:
        """Frames of codes of a sound of `length` samples."""
        return -(-length // self.hop)

    def length(self, columns: int) -> int:
        """Samples that `columns` frames of codes hold."""
        return columns * self.hop

    def distance(
        self, made: Float[Tensor, "batch channels samples"], wanted: Float[Tensor, "batch channels samples"]
    ) -> Float[Tensor, ""]:
        """The multi-scale mel distance (see `signal.distances`), each channel on its own."""
        made, wanted = made.flatten(0, 1)[:, None], wanted.flatten(0, 1)[:, None]
        return multi_scale_mel_distance(made, wanted, self.config.rate)

    def levels_at(self, kbps: float) -> int:
        """Levels whose codes fit into `kbps` thousand bits a second; at least the fewest that the codec has."""
        frames = math.ceil(self.rate / self.hop)  # a second, counted as EnCodec counts them
        bits = accumulate(math.log2(size) for size in self.sizes)
        return max(self.min_levels, sum(frames * some <= 1000 * kbps for some in bits))

    @abstractmethod
    def _codes(self, wave: Float[Tensor, "batch channels samples"], levels: int) -> Int[Tensor, "batch levels frames"]:
        """Codes of a batch of one length."""

    @abstractmethod
    def _waves(self, z: Float[Tensor, "batch dim frames"]) -> Float[Tensor, "batch channels samples"]:
        """The sounds of a batch of one length."""

    @abstractmethod
    def _vectors(self, codes: Int[Tensor, "batch levels frames"]) -> Float[Tensor, "batch dim frames"]:
        """What codes within the codebooks stand for."""

    def lookup(self, codes: Int[Tensor, "batch levels frames"]) -> Float[Tensor, "batch dim frames"]:
        """The vectors that codes stand for, of all levels or of the first. Raises Error for codes beyond its own."""
        levels = codes.shape[1]
        if not self.min_levels <= levels <= self.levels:
            raise Error(f"codes of {levels} levels were given; this codec has {self.min_levels} to {self.levels}")
        tops = torch.tensor(self.sizes[:levels], device=codes.device)[:, None]
        if ((codes < 0) | (codes >= tops)).any():
            raise Error(f"codes from {codes.min()} to {codes.max()} were given; a codebook has {min(self.sizes)}")
        return self._vectors(codes)

    @torch.no_grad()
    def encode(
        self,
        wave: Float[Tensor, "batch channels samples"],
        lengths: Int[Tensor, " batch"] | None = None,
        levels: int | None = None,
    ) -> Latent:
        """Codes and their vectors, both 0 beyond an item's own frames; `lengths` are the items' own, in samples.

        Raises Error for other channels, for lengths that `wave` does not have, for levels that the codec does not have,
        and for samples that are no numbers.
        """
        levels = self.levels if levels is None else levels
        if not self.min_levels <= levels <= self.levels:
            raise Error(f"{levels} levels were asked for; this codec has {self.min_levels} to {self.levels}")
        if not len(wave) or wave.shape[1] != self.channels:
            raise Error(
                f"{len(wave)} sounds of {wave.shape[1]} channels were given; this codec reads sounds of {self.channels}"
            )
        lengths = torch.full((len(wave),), wave.shape[-1]) if lengths is None else lengths.cpu()
        if not 1 <= int(lengths.min()) <= int(lengths.max()) <= wave.shape[-1]:
            raise Error(
                f"lengths of {lengths.tolist()} samples were given for sounds of {wave.shape[-1]}; "
                "give 1 to all of them"
            )
        if not wave.isfinite().all():
            raise Error("the sound holds NaN or infinity; give finite samples")
        return self._latent(wave, lengths, levels)

    def _latent(self, wave: Tensor, lengths: Tensor, levels: int) -> Latent:
        rows: list[Tensor] = [wave] * len(wave)
        for length, items in groups(lengths):
            for item, codes in zip(items, self._codes(wave[items, :, :length], levels), strict=True):
                rows[item] = codes
        return self._joined(rows, lengths)

    def _joined(self, rows: Sequence[Int[Tensor, "levels _"]], lengths: Int[Tensor, " batch"]) -> Latent:
        """The codes of items of different lengths, padded with 0."""
        codes = pad_sequence([row.T for row in rows], batch_first=True).mT.contiguous()
        frames = torch.tensor([row.shape[1] for row in rows], device=codes.device)
        inside = torch.arange(codes.shape[-1], device=codes.device) < frames[:, None]
        return Latent(self._vectors(codes) * inside[:, None], codes, lengths.to(codes.device), "levels")

    def decode(self, latent: Latent) -> Float[Tensor, "batch channels samples"]:
        """Sounds as long as the longest item; beyond an item's own length lies silence.

        Raises Error for a latent of another layout or size, and for lengths that its frames don't hold.
        """
        z, lengths = latent.z, latent.lengths.cpu()
        if latent.layout != "levels" or z.dim() != 3 or z.shape[1] != self.dim:
            raise Error(
                f'a latent "{latent.layout}" of {list(z.shape)} was given; this codec reads "levels" of {self.dim} '
                "dimensions"
            )
        held = self.length(z.shape[-1])
        if not 1 <= int(lengths.min()) <= int(lengths.max()) <= held:
            raise Error(f"{lengths.tolist()} samples were asked for; {z.shape[-1]} frames hold 1 to {held}")
        wave = z.new_zeros(len(z), self.channels, int(lengths.max()))
        columns = torch.tensor([self.columns(length) for length in lengths.tolist()])
        for width, items in groups(columns):
            made = self._waves(z[items, :, :width].contiguous())
            for item, one in zip(items, made, strict=True):
                own = one[:, : int(lengths[item])]
                wave[item, :, : own.shape[-1]] = own  # an odd stride makes DAC's a few samples shorter
        return wave

    @torch.no_grad()
    def decode_codes(
        self, codes: Int[Tensor, "batch levels frames"], lengths: Int[Tensor, " batch"] | None = None
    ) -> Float[Tensor, "batch channels samples"]:
        """The sounds of `lengths` samples that codes stand for, or of as many as there are.

        Raises Error as `lookup` and `decode`.
        """
        if lengths is None:
            lengths = torch.full((len(codes),), self.length(codes.shape[-1]), device=codes.device)
        return self.decode(Latent(self.lookup(codes), codes, lengths, "levels"))

    def streaming(self, levels: int | None = None) -> NoReturn:
        """Raises Error: none of them can."""
        raise Error("this codec looks at a sound as a whole, so it can't be streamed; encode the whole sound")


def groups(lengths: Int[Tensor, " batch"]) -> Iterator[tuple[int, list[int]]]:
    """Each length, and the items that have it."""
    for length in lengths.unique().tolist():
        yield length, (lengths == length).nonzero()[:, 0].tolist()
