"""The one stage of a waveform codec, ready for the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lightning_fabric import Fabric

from cymatic.codecs.waveform import WaveformCodec
from cymatic.data.waves import RandomCrops
from cymatic.errors import ModelError
from cymatic.hub.parts import load_part
from cymatic.hub.pipeline_file import CodecFile, read_pipeline, write_pipeline
from cymatic.pipelines.load import find_model
from cymatic.seeds import mixed
from cymatic.training.data import load_wave_data
from cymatic.training.job import Job
from cymatic.training.plan import parameters
from cymatic.training.recipe import CodecRecipe
from cymatic.training.vocoder_task import held_out
from cymatic.training.wave_codec_task import WaveCodecTask


def wave_codec_job(recipe: CodecRecipe, fabric: Fabric, *, strict: bool, say: Callable[[str], None]) -> Job:
    """Raises Error and ModelError as `load_wave_data` and the parts do."""
    settings, judges = recipe.training, recipe.judges
    data = load_wave_data(recipe.data, recipe.rate, strict=strict, say=say)
    task = WaveCodecTask(recipe, rank=fabric.global_rank, ranks=fabric.world_size)
    codec = task.codec
    if recipe.start is not None:
        _take_over(codec, recipe.start)
    samples = max(1, round(recipe.piece * recipe.rate / codec.hop)) * codec.hop
    pieces = RandomCrops(
        data.train,
        data.weights,
        samples,
        settings.batch,
        mixed(settings.seed, 1),
        rank=fabric.global_rank,
        ranks=fabric.world_size,
    )
    seconds = sum(len(wave) for wave in data.train) / recipe.rate
    frames = recipe.rate / codec.hop
    bits = sum((size - 1).bit_length() for size in codec.sizes)
    about = (
        f"data   {len(data.train)} sounds to train on ({seconds / 60:.1f} minutes), {len(data.valid)} held out",
        f"codec  {recipe.rate} Hz, {frames:g} frames a second, {codec.levels} levels, {frames * bits / 1000:g} kbit/s "
        f"at most, {1000 * codec.latency:.0f} ms late",
        f"model  {parameters(codec) / 1e6:.1f} M parameters, and {parameters(task.judges) / 1e6:.1f} M of judges from "
        f"step {judges.start} on; batches of {settings.batch} pieces of {samples / recipe.rate:.2g} s",
    )
    return Job(recipe, data, task, pieces, held_out(data.valid, recipe.rate), about, _complete)


def _take_over(codec: WaveformCodec, name: str) -> None:
    folder = find_model(name)
    trained = load_part(read_pipeline(folder, CodecFile).folder(folder, "codec"), (WaveformCodec,))
    if trained.config != codec.config:
        raise ModelError(f"the codec of {name} is another one; set rate, network and quantizer to {trained.config!r}")
    codec.load_state_dict(trained.state_dict())


def _complete(run: Path) -> None:
    write_pipeline(run, CodecFile(parts={"codec": "codec"}))
