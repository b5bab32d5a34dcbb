"""Shards of codes that a prior is trained on: those that are there, or made of a folder of sounds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cymatic.data.examples import Example
from cymatic.data.settings import DataSettings
from cymatic.data.shard_filter import ShardFilter, shard_statistics
from cymatic.data.shards import CODES, SHARD, Shards
from cymatic.data.tar import TarReader
from cymatic.errors import Error
from cymatic.hub.parts import copy_part, fingerprint
from cymatic.hub.pipeline_file import RECIPE, PipelineFile, write_pipeline
from cymatic.pipelines.bulk import SUMMARY, encode_in_bulk
from cymatic.pipelines.load import load_codec
from cymatic.pipelines.sound_codec import SoundCodec
from cymatic.training.built import Context
from cymatic.training.planning import Choice, of_stage
from cymatic.training.stages import PriorStage
from cymatic.training.start import CODEC, GivenCodec

ENCODED = "codes"  # folder of a run where its own shards lie
MOST_NAMED = 20


@dataclass(frozen=True)
class Streams:
    """Sounds in shards: `train`, a range as long as there are to train on; those held out; and how to read them all.

    settings: the recipe's data, with the captions that were chosen; chosen: what else was open.
    """

    train: range
    valid: list[Example]
    fingerprint: str
    shards: Shards
    wanted: ShardFilter
    longest: int
    captions: tuple[str, ...]
    about: tuple[str, ...]
    settings: DataSettings
    chosen: tuple[Choice, ...] = ()

    @property
    def count(self) -> int:
        return len(self.train)


def open_streams(context: Context, stage: PriorStage, part: Any, source: GivenCodec | None) -> Streams:
    """Raises Error and ModelError as `encode_in_bulk` and `survey` do, and where packs or levels can't be had."""
    recipe, say = context.recipe, context.say
    if recipe.data.packs:
        raise Error("packs can't be streamed; encode them with cymatic encode --engine local, and train on the shards")
    if recipe.data.balance is not None:
        raise Error("data.balance is for data in memory, and these are read from shards; leave it out")
    if recipe.data.augment.changes_speech:
        raise Error("data.augment changes speech in memory, and these are codes in shards; leave tract and others out")
    if recipe.data.limit is not None:
        raise Error("data.limit is for data in memory, and these are read from shards; leave it out")
    assert stage.codec is not None
    own = context.run / stage.codec if source is None else None
    if own is not None:
        codec = SoundCodec(part, name=context.run.name, sha256=fingerprint([own]))
    elif source is not None and source.kept:
        codec = SoundCodec(part, name=source.name, sha256=source.sha256)
    else:
        codec = load_codec(stage.codec)
    place = Path(recipe.data.folder or ".")
    levels, fewest = stage.levels, part.min_levels
    settings, why = recipe.data, "since the first shard has them"
    if levels is not None and not fewest <= levels <= len(codec.rates):
        raise Error(
            f"{levels} levels of codes are wanted, and {codec.name} codes a sound in {fewest} to {len(codec.rates)}; "
            "set levels to one of these"
        )
    if not holds_codes(place):
        levels, why = levels or codec.levels(None), f"since {codec.name} spends them by default"
        settings = _encoded(context, place, stage.codec if own is None else own, codec.rates[levels - 1])
        place = context.run / ENCODED
    shards = Shards(place, context.strict)
    if levels is None:
        first = next(iter(shards), None)
        levels = len(first.codes) if first is not None else 1
    longest = part.columns(round(recipe.data.longest * codec.rate))
    wanted = ShardFilter(codec.sha256, levels, longest, recipe.data.long)
    found = shard_statistics(shards, wanted)
    for one in shards.skipped[:MOST_NAMED]:
        say(f"skipped {one.name}: {one.why}")
    if shards.skipped:
        say(f"{len(shards.skipped)} skipped")
    for count, what in ((found.too_long, f"longer than {recipe.data.longest:g} s"), (found.not_prompts, "no prompts")):
        if count:
            say(f"note   {count} sounds are left out, which are {what}")
    if not found.count:
        raise Error(f"none of the sounds in {place} can be trained on; give some that are not held out or too long")
    about = (
        f"data   {found.count} sounds to train on ({found.seconds / 60:.1f} minutes) in {len(shards.paths)} shards, "
        f"{len(found.valid)} held out",
        f"codec  {codec.name}, {codec.rates[levels - 1]:g} kbit/s",
    )
    chosen: tuple[Choice, ...] = ()
    if stage.levels is None:
        why = f"{levels} levels of codes, {why}; --set {context.name}.levels=N takes others"
        chosen = (of_stage(Choice({"levels": levels}, why), context.name),)
    return Streams(
        range(found.count), found.valid, found.fingerprint, shards, wanted, found.longest,
        tuple(sorted(found.captions)), about, settings, chosen,
    )  # fmt: skip


def _encoded(context: Context, place: Path, codec: str | Path, kbps: float) -> DataSettings:
    """Makes the run's own shards of the sounds of `place`, by the model called `codec`, or by the part of an earlier
    stage, which lies there; how the captions in them were made. A run that is resumed goes on with those that it has,
    and of several processes the first one makes them."""
    settings, say, out = context.recipe.data, context.say, context.run / ENCODED
    begins = context.fabric.is_global_zero and not (context.run / RECIPE).is_file()
    if not begins and (out / SUMMARY).is_file():
        return settings
    if isinstance(codec, Path):  # a part alone is no model; beside its codes it is one
        copy_part(codec, out / CODEC, fingerprint([codec]))
        write_pipeline(out, PipelineFile(parts={CODEC: CODEC}))
        codec = str(out)
    say(f"encoding the sounds of {place} at {kbps:g} kbit/s")
    totals = encode_in_bulk(
        place, out, codec, kbps, strict=context.strict, captions_by=settings.captions,
        say=lambda line: say(line) if line.startswith(("skipped", "chosen")) else None,
    )  # fmt: skip
    return settings.model_copy(update={"captions": totals.captions_by})


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
