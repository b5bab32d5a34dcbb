"""`cymatic import`: models and encoders of other projects -> a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cymatic.apps.progress import ProgressBar


def import_command(
    output: Annotated[Path, typer.Option("--output", "-o", help="A new folder for the model.")],
    source: Annotated[
        Path | None,
        typer.Argument(
            help="DALL-E mini: min-dalle's folder with encoder.pt, decoder.pt, vocab.json, merges.txt. Or the folder "
            "of EnCodec, DAC, Mimi, CLIP, ViT, HuBERT or wav2vec 2.0 from the Hugging Face hub, EnCodec's .th, DAC's "
            "weights.pth or BEATs' .pt.",
            show_default=False,
        ),
    ] = None,
    speech: Annotated[
        Path | None, typer.Option(help="SpeechCLIP's .ckpt, beside the folder of its CLIP.", show_default=False)
    ] = None,
    token: Annotated[
        Path | None, typer.Option(help="AudioToken's embedder .bin, beside its BEATs.", show_default=False)
    ] = None,
    codec: Annotated[
        Path | None,
        typer.Option(
            help="A codec: SpecVQGAN's or MelSpec_GPT_VQVAE's .ckpt, or of pictures VQ-GAN's .ckpt or min-dalle's "
            "detoker.pt.",
            show_default=False,
        ),
    ] = None,
    codec_config: Annotated[Path | None, typer.Option(help="Its YAML.", show_default=False)] = None,
    prior: Annotated[Path | None, typer.Option(help="A GPT over its codes: a .ckpt.", show_default=False)] = None,
    prior_config: Annotated[Path | None, typer.Option(help="Its YAML.", show_default=False)] = None,
    classes: Annotated[
        Path | None, typer.Option(help="A text file with the name of one class a line.", show_default=False)
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Heads of DALL-E mini's attention, or of SpeechCLIP's speech tower.",
            show_default="a 64th of its width",
        ),
    ] = None,
    vocoder: Annotated[Path | None, typer.Option(help="MelGAN's best_netG.pt.", show_default=False)] = None,
    vocoder_args: Annotated[Path | None, typer.Option(help="Its args.yml.", show_default="the one beside it")] = None,
    mel: Annotated[str, typer.Option(help="The mel that they were trained on.")] = "specvqgan-22k",
) -> None:
    """Read models of DALL-E mini, VQ-GAN, SpecVQGAN, MelSpec_GPT_VQVAE, MelGAN, EnCodec, DAC and Mimi; and encoders:
    CLIP, SpeechCLIP, ViT, HuBERT, wav2vec 2.0 and BEATs.

    All from the Hugging Face hub, and SpeechCLIP, need the package transformers: pip install 'cymatic[hub]'.
    """
    from cymatic.config import nearest
    from cymatic.errors import Error, ModelError
    from cymatic.files import reason
    from cymatic.hub.importing import import_model
    from cymatic.signal.mel import PRESETS

    if mel not in PRESETS:
        raise ModelError(f'there is no mel "{mel}"; {nearest(mel, PRESETS)}')
    names = None
    if classes is not None:
        try:
            names = [line.strip() for line in classes.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise Error(f"{classes} is not UTF-8 text; give one class a line") from None
        except OSError as error:
            raise Error(f"{classes} can't be read: {reason(error)}") from None
    with ProgressBar("importing") as progress:
        import_model(
            output,
            mel=PRESETS[mel],
            source=source,
            speech=speech,
            token=token,
            codec=codec,
            codec_config=codec_config,
            prior=prior,
            prior_config=prior_config,
            classes=names,
            heads=heads,
            vocoder=vocoder,
            vocoder_args=vocoder_args,
            on_file=progress,
        )
    print(f"{output} holds the model")
