"""The one stage of a GPT over the codes of a waveform codec: shards that are there, or made of a folder of sounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric

from cymatic.data.code_stream import ShardFilter, ShardStatistics, StreamedCodes, shard_statistics
from cymatic.data.codes import Coded
from cymatic.data.shards import CODES, SHARD, Shards
from cymatic.data.tar import TarReader
from cymatic.errors import Error
from cymatic.hub.parts import save_part
from cymatic.hub.pipeline_file import MOST_CAPTIONS, CodecGPTFile, write_pipeline
from cymatic.pipelines.bulk import SUMMARY, encode_in_bulk
from cymatic.pipelines.load import load_codec
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.pipelines.wave_codes_to_sound import PARTS
from cymatic.seeds import mixed
from cymatic.training.codes_task import CodesTask
from cymatic.training.job import Job
from cymatic.training.plan import parameters
from cymatic.training.recipe import CodecGPTRecipe

ENCODED = "codes"  # folder of a run where its own shards lie
MOST_NAMED = 20


@dataclass(frozen=True)
class Streamed:
    """Sounds to train on, as many as the range is long, that lie in shards; those held out; the fingerprint of all."""

    train: range
    valid: list[Coded]
    fingerprint: str


def codec_gpt_job(
    recipe: CodecGPTRecipe, fabric: Fabric, *, strict: bool, say: Callable[[str], None], run: Path
) -> Job:
    """Raises Error and ModelError as `encode_in_bulk`, `shard_statistics` and the parts do."""
    if recipe.start is None:
        raise Error("a GPT over codes needs the codec that made them; give it with --from")
    if recipe.data.packs:
        raise Error("packs can't be streamed; encode them with cymatic encode --engine local, and train on the shards")
    codec = load_codec(recipe.start)
    shards, found, wanted = _read(recipe, codec, strict, say, run)
    sizes = codec.codec.sizes[: wanted.levels]
    size, even = max(sizes), len(set(sizes)) == 1
    task = CodesTask(
        recipe, (), codes=size, rows=wanted.levels, longest=found.longest, sizes=() if even else sizes
    )  # fmt: skip
    settings = recipe.training
    batches = StreamedCodes(
        shards, wanted, found.count, settings.batch, mixed(settings.seed, 1), rank=fabric.global_rank,
        ranks=fabric.world_size,
    )  # fmt: skip

    def complete(run: Path) -> None:
        save_part(run / "codec", codec.codec)
        captions = tuple(sorted(found.captions))[:MOST_CAPTIONS]
        write_pipeline(
            run, CodecGPTFile(parts={name: name for name in PARTS}, captions=captions, **recipe.sampling.model_dump())
        )

    about = (
        f"data   {found.count} sounds to train on ({found.seconds / 60:.1f} minutes) in {len(shards.paths)} shards, "
        f"{len(found.valid)} held out",
        f"codec  {codec.name}, {wanted.levels} levels of {'' if even else 'up to '}{size} codes, "
        f"{codec.rates[wanted.levels - 1]:g} kbit/s",
        f"model  {parameters(task) / 1e6:.1f} M parameters, batches of {batches.batch}",
        f"codes  at most {found.longest} frames of {wanted.levels}, {found.longest * wanted.levels} in a row",
    )
    return Job(
        recipe,
        Streamed(range(found.count), found.valid, found.fingerprint),
        task,
        batches,
        found.valid,
        about,
        complete,
    )


def _read(
    recipe: CodecGPTRecipe, codec: SoundCodec, strict: bool, say: Callable[[str], None], run: Path
) -> tuple[Shards, ShardStatistics, ShardFilter]:
    place = Path(recipe.data.folder or ".")
    levels, least = recipe.levels, codec.codec.min_levels
    if levels is not None and not least <= levels <= len(codec.rates):
        raise Error(
            f"{levels} levels of codes are wanted, and {codec.name} says a sound in {least} to {len(codec.rates)}; set "
            "levels to one of these"
        )
    if not holds_codes(place):
        levels = levels or codec.levels(None)
        if not (run / ENCODED / SUMMARY).is_file():  # a resumed run goes on with what it has
            say(f"encoding the sounds of {place} at {codec.rates[levels - 1]:g} kbit/s")
            assert recipe.start is not None
            encode_in_bulk(
                place, run / ENCODED, recipe.start, codec.rates[levels - 1], strict=strict,
                say=lambda line: say(line) if line.startswith("skipped") else None,
            )  # fmt: skip
        place = run / ENCODED
    shards = Shards(place, strict)
    if levels is None:
        first = next(iter(shards), None)
        levels = len(first.codes) if first is not None else 1
    longest = codec.codec.frames(round(recipe.data.longest * codec.rate))
    wanted = ShardFilter(codec.sha256, levels, longest, recipe.data.long)
    found = shard_statistics(shards, wanted)
    for one in shards.skipped[:MOST_NAMED]:
        say(f"skipped {one.name}: {one.why}")
    if shards.skipped:
        say(f"{len(shards.skipped)} skipped")
    for count, why in ((found.too_long, f"longer than {recipe.data.longest:g} s"), (found.unspeakable, "no prompts")):
        if count:
            say(f"note   {count} sounds are left out, which are {why}")
    if not found.count:
        raise Error(f"none of the sounds in {place} can be trained on; give some that are not held out or too long")
    return shards, found, wanted


def holds_codes(place: Path) -> bool:
    """Whether there are shards of codes, rather than sounds or archives of them."""
    paths = [place] if place.is_file() else sorted(place.glob(f"*{SHARD}")) if place.is_dir() else []
    for path in paths:
        try:
            with open(path, "rb") as stream:
                first = next(iter(TarReader(stream, str(path))), None)
        except (Error, OSError):
            continue
        if first is not None:
            return first.name.endswith(CODES)
    return False
