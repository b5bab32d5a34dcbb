"""Other projects' files -> a model folder of ours, whole or of the parts that were given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from cymatic.codecs.picture import PictureCodec
from cymatic.errors import Error, ModelError
from cymatic.files import sync
from cymatic.hub.checkpoints import read_checkpoint
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import PipelineFile, write_pipeline
from cymatic.hub.readers.audiotoken import read_audiotoken
from cymatic.hub.readers.bart import is_bart
from cymatic.hub.readers.dalle_mini import is_dalle_mini, read_folder
from cymatic.hub.readers.melgan import import_melgan
from cymatic.hub.readers.mingpt import read_gpt
from cymatic.hub.readers.peer_codecs import read_peer
from cymatic.hub.readers.specvqgan import read_codec
from cymatic.hub.readers.towers import read_towers
from cymatic.hub.readers.vqgan import for_grids, is_of_pictures, read_vqgan
from cymatic.hub.wave_codecs import check_codes_suffice
from cymatic.signal.mel import MelSpec
from cymatic.vocoders.griffin_lim import GriffinLimConfig, GriffinLimVocoder

NAMED = 4
SOUNDS = {"guidance": 1.0, "top_k": 100}  # how imported models are sampled
PICTURES = {"guidance": 10.0, "top_k": 256}  # as DALL-E mini's own notebook does


def import_model(
    folder: Path,
    *,
    mel: MelSpec,
    source: Path | None = None,
    speech: Path | None = None,
    token: Path | None = None,
    codec: Path | None = None,
    codec_config: Path | None = None,
    prior: Path | None = None,
    prior_config: Path | None = None,
    classes: Sequence[str] | None = None,
    heads: int | None = None,
    vocoder: Path | None = None,
    vocoder_args: Path | None = None,
    say: Callable[[str], None] = print,
    on_file: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes the parts that were given into `folder`; with a codec and a prior that is a model, heard by Griffin-Lim
    where no vocoder was given. All is read before anything is written.

    source: a model of its own: the folder of DALL-E mini that min-dalle keeps, with a VQ-GAN of pictures as its
    `codec`; a waveform codec as `read_peer` reads it, a folder or file of EnCodec, DAC or Mimi, for `cymatic
    encode` and `decode`; or encoders as `read_towers` reads them, by which sounds, pictures and words are found and
    ranked. speech: a checkpoint of SpeechCLIP's, beside its CLIP as the source. token: AudioToken's embedder,
    beside its BEATs. codec, prior: checkpoints of SpecVQGAN or MelSpec_GPT_VQVAE, with their YAML where there is
    one, or a VQ-GAN of pictures; heads: of DALL-E mini's attention or of SpeechCLIP's speech tower, else a 64th of
    its width; classes: the names of the prior's classes, in the order of their numbers; vocoder: MelGAN's
    `best_netG.pt`, with its `args.yml`; on_file: told how many of the files that were given are read, and their
    number.

    Raises Error for a folder that is in the way and where nothing was given, ModelError for what does not fit.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Error(f"{folder} is there already; give a new folder")
    pictures = source is not None and is_dalle_mini(source)
    if source is not None and not pictures and is_bart(source):
        raise Error(
            f"{source} is a BART, which writes text, and no model here does; read it in Python with "
            "cymatic.hub.readers.bart.read_bart"
        )
    if pictures and (prior or vocoder) is not None:
        raise Error(f"{source} has a prior and makes no sounds; give it alone or with --codec, a VQ-GAN of pictures")
    if source is not None and not pictures and (codec or prior) is not None:
        raise Error(f"{source} is a model of its own, and priors over its codes can't be imported; give it alone")
    if speech is not None and (source is None or pictures):
        raise Error(f"{speech} is read beside the folder of its CLIP; give that folder first")
    if token is not None and (source is None or pictures):
        raise Error(f"{token} reads what BEATs says of a sound; give BEATs' file first")
    parts: dict[str, nn.Module] = {}
    files = sum(file is not None for file in (source, codec, prior, vocoder))
    on_file(0, files)
    over: Any = None
    pipeline = PipelineFile(parts={"codec": "codec"})
    if source is not None and pictures:
        mini = read_folder(source, heads=heads)
        parts |= {"prior": mini.prior, "encoder": mini.encoder}
        over = mini.prior.config
        on_file(1, files)
    elif source is not None and (towers := read_towers(source, speech=speech, heads=heads)) is not None:
        parts = dict(towers.parts)
        if token is not None:
            parts["token"] = read_audiotoken(token)
        pipeline = PipelineFile(parts={name: name for name in parts}, scale=towers.scale)
    elif source is not None:
        peer = parts["codec"] = read_peer(source)
        try:
            check_codes_suffice(peer, str(folder))
        except ModelError as error:
            say(f"note   {error}")
    if codec is not None:
        parts["codec"], left_out = _grid_codec(codec, codec_config, mel, over)
        say(_left_out(codec, left_out))
        on_file(1 + pictures, files)
    names: tuple[str, ...] = ()
    if prior is not None and isinstance(parts.get("codec"), PictureCodec):
        raise Error(f"{codec} makes pictures, and GPTs over their codes can't be imported; leave --prior out")
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
    if whole and not pictures and "vocoder" not in parts:
        parts["vocoder"] = GriffinLimVocoder(GriffinLimConfig(mel=mel))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        made = Path(scratch) / "model"
        for name, part in parts.items():
            save_part(made / name, part)
        if whole:
            sampling = PICTURES if pictures else SOUNDS
            write_pipeline(made, PipelineFile(parts={name: name for name in parts}, captions=names, sampling=sampling))
        elif not pictures and (source is not None or is_own_model(parts.get("codec"))):
            write_pipeline(made, pipeline)
        if folder.exists():
            folder.rmdir()
        sync(made)
        shutil.move(made, folder)
        sync(folder.parent)


def _grid_codec(path: Path, config: Path | None, mel: MelSpec, over: Any) -> tuple[nn.Module, list[str]]:
    """A codec of pictures or of spectrograms, and what was left out of its file. over: the config of a prior whose
    codes are to become pictures. Raises ModelError for what does not fit."""
    held = read_checkpoint(path)
    if is_of_pictures(held, path):
        vqgan = read_vqgan(path, config, held=held)
        return (vqgan.codec if over is None else for_grids(vqgan.codec, over)), vqgan.left_out
    if over is not None:
        raise ModelError(f"{path} is no VQ-GAN of pictures, which DALL-E mini needs; give detoker.pt or such a codec")
    imported = read_codec(path, mel, config, held=held)
    return imported.codec, imported.left_out


def is_own_model(codec: nn.Module | None) -> bool:
    """Whether a codec is a model without a prior: one of pictures, that has both its halves."""
    return isinstance(codec, PictureCodec) and not codec.config.decoder_only


def _left_out(path: Path, names: Sequence[str]) -> str:
    if not names:
        return f"{path.name}: every tensor was taken over"
    some = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{path.name}: left out {len(names)} tensors that only training needs, or that are another part's ({some})"
