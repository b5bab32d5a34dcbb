"""Other projects' files -> a model folder of ours, whole or of the parts that were given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from cymatic.errors import Error, ModelError
from cymatic.files import sync
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.hub.readers.clip import is_clip, read_clip
from cymatic.hub.readers.melgan import import_melgan
from cymatic.hub.readers.mingpt import read_gpt
from cymatic.hub.readers.peer_codecs import read_peer
from cymatic.hub.readers.specvqgan import read_codec
from cymatic.hub.wave_codecs import check_codes_suffice
from cymatic.signal.mel import MelSpec
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

NAMED = 4


def import_model(
    folder: Path,
    *,
    mel: MelSpec,
    source: Path | None = None,
    codec: Path | None = None,
    codec_config: Path | None = None,
    prior: Path | None = None,
    prior_config: Path | None = None,
    classes: Sequence[str] | None = None,
    vocoder: Path | None = None,
    vocoder_args: Path | None = None,
    say: Callable[[str], None] = print,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes the parts that were given into `folder`; with a codec and a prior that is a model, heard by Griffin-Lim
    where no vocoder was given. All is read before anything is written.

    source: a model of its own: a waveform codec as `read_peer` reads it, a folder or file of EnCodec, DAC or Mimi, for
    `cymatic encode` and `decode`; or a folder of CLIP's, encoders by which pictures are found and ranked. codec, prior:
    checkpoints of SpecVQGAN or MelSpec_GPT_VQVAE, with their YAML where there is one; classes: the names of the prior's
    classes, in the order of their numbers; vocoder: MelGAN's `best_netG.pt`, with its `args.yml`; on_file: told how
    many of the files that were given are read, and their number.

    Raises Error for a folder that is in the way and where nothing was given, ModelError for what does not fit.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Error(f"{folder} is there already; give a new folder")
    if source is not None and (codec or prior) is not None:
        raise Error(f"{source} is a model of its own, and priors over its codes can't be imported; give it alone")
    parts: dict[str, nn.Module] = {}
    files = sum(file is not None for file in (source, codec, prior, vocoder))
    on_file(0, files)
    pipeline = PipelineFile(parts={"codec": "codec"})
    if source is not None and is_clip(source):
        clip = read_clip(source)
        parts = {"picture": clip.picture, "caption": clip.text}
        pipeline = PipelineFile(parts={name: name for name in parts}, scale=clip.scale)
    elif source is not None:
        peer = parts["codec"] = read_peer(source)
        try:
            check_codes_suffice(peer, str(folder))
        except ModelError as error:
            say(f"note   {error}")
    if codec is not None:
        imported = read_codec(codec, mel, codec_config)
        parts["codec"] = imported.codec
        say(_left_out(codec, imported.left_out))
        on_file(1, files)
    names: tuple[str, ...] = ()
    if prior is not None:
        gpt = read_gpt(prior, prior_config, names=classes)
        if gpt.classes is not None and gpt.features is not None:
            raise ModelError(
                f"{prior} hears from features and classes at once, which no pipeline here does; read it in Python with "
                "cymatic.hub.readers.mingpt.read_gpt"
            )
        encoder = gpt.classes or gpt.features
        if encoder is None:
            raise ModelError(f"{prior} has no condition, neither classes nor features; give a GPT that has one")
        names = gpt.classes.config.names if gpt.classes is not None else ()
        parts |= {"prior": gpt.prior, "encoder": encoder}
        say(_left_out(prior, gpt.left_out))
        on_file(1 + (codec is not None), files)
    if vocoder is not None:
        parts["vocoder"] = import_melgan(vocoder, vocoder_args, mel=mel)
        on_file(files, files)
    if not parts:
        raise Error(
            "nothing was given to import; give a codec's folder or file, or --codec, --prior, --vocoder or several"
        )
    whole = {"codec", "prior"} <= parts.keys()
    if whole and "vocoder" not in parts:
        parts["vocoder"] = GriffinLimVocoder(GriffinLimConfig(mel=mel))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "model"
        for name, part in parts.items():
            save_part(made / name, part)
        if whole:
            sampling = {"guidance": 1.0, "top_k": 100}
            write_pipeline(made, PipelineFile(parts={name: name for name in parts}, captions=names, sampling=sampling))
        elif source is not None:
            write_pipeline(made, pipeline)
        if folder.exists():
            folder.rmdir()
        sync(made)
        shutil.move(made, folder)
        sync(folder.parent)


def _left_out(path: Path, names: Sequence[str]) -> str:
    if not names:
        return f"{path.name}: every tensor was taken over"
    some = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{path.name}: left out {len(names)} tensors that only training needs, or that are another part's ({some})"
