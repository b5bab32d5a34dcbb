"""A codec as a user meets it: a value of its medium -> codes -> the value again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cymatic.errors import ModelError
from cymatic.hub.parts import fingerprint, load_part
from cymatic.hub.pipeline_file import PipelineFile
from cymatic.hub.wave_codecs import ANY_CODEC, check_codes_suffice
from cymatic.latent import Latent
from cymatic.media import MEDIA
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.version import __version__


class MediaCodec:
    """A codec of any medium: `encode` a value, `decode` its latent, or `reconstruct` both ways.

    A codec of mels gives mels, which need a vocoder before they are heard: `decode` gives the tensor, and `reconstruct`
    raises ModelError.
    """

    def __init__(
        self, codec: Any, *, name: str = "unnamed", sha256: str = "", stamp: dict[str, Any] | None = None
    ) -> None:
        """stamp: what the info of what it makes says of it (by default its name and hash)."""
        self.codec, self.name, self.sha256 = codec.eval(), name, sha256
        self.stamp = {"model": name, "sha256": sha256} if stamp is None else stamp
        self.spec = codec.config.reads
        self.medium = MEDIA[self.spec.medium]

    def encode(self, value: Any) -> Latent:
        """The latent of one value, and its codes where the codec has some."""
        target = self.medium.prepare(value, self.spec)[None].float()
        with torch.inference_mode():
            latent: Latent = self.codec.encode(target.to(next(self.codec.parameters()).device))
        return latent

    def decode(self, latent: Latent) -> Tensor:
        """What the codec gives for a latent of one value, as its spec has it."""
        with torch.inference_mode():
            made: Tensor = self.codec.decode(latent)[0].cpu()
        return made

    @property
    def rows(self) -> None:
        """All rows of codes are used."""
        return None

    @property
    def captions(self) -> tuple[str, ...]:
        """None: a codec knows no captions."""
        return ()

    def target(self, value: Any) -> Tensor:
        """What the codec reads of a value, without a batch."""
        return self.medium.prepare(value, self.spec).float()

    def reconstructions(self, value: Any) -> dict[str, Any]:
        """A value through the codec; nothing where a vocoder would be needed to make a value again."""
        return {"codec": self.reconstruct(value)} if self.heard_directly else {}

    @property
    def heard_directly(self) -> bool:
        """Whether what the codec gives is a value of its medium without a vocoder."""
        return not self.codec.config.gives.vocoded

    def reconstruct(self, value: Any) -> Any:
        """The value through the codec. Raises ModelError for a codec whose target is heard only through a vocoder."""
        if not self.heard_directly:
            raise ModelError(
                f"{self.name} gives mels, which are heard through a vocoder; use decode, or a model that has one"
            )
        length = self.medium.prepare(value, self.spec).shape[-1]
        made = self.decode(self.encode(value))[..., :length]
        info = {**self.stamp, "cymatic": __version__}
        return self.medium.restore(made, self.codec.config.gives, info)


def load_codec_pipeline(
    folder: Path, file: PipelineFile, *, device: str = "cpu", name: str | None = None
) -> MediaCodec | SoundCodec:
    """The codec of a folder: with files, streams and rates where its codes are kept in `.cym` files.

    Raises ModelError where the part is missing, damaged or of the wrong kind.
    """
    place = file.places(folder, ("codec",))["codec"]
    codec: Any = load_part(place, ANY_CODEC).to(device)
    name, sha256 = name or folder.name, fingerprint([place])
    if not (codec.kept_in_shards and codec.sizes):  # a codec without codes gives latents for a prior
        return MediaCodec(codec, name=name, sha256=sha256, stamp=file.stamp(name, sha256))
    check_codes_suffice(codec, str(place))
    return SoundCodec(codec, kbps=file.kbps, name=name, sha256=sha256, stamp=file.stamp(name, sha256))
