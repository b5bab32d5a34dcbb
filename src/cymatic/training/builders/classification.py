"""A classifier of the captions of a folder."""

from __future__ import annotations

from pathlib import Path

import torch

from cymatic.data.augment_speech import TARGET, speech_augmenter
from cymatic.data.batches import Bucketed
from cymatic.data.examples import Reading, load_examples
from cymatic.errors import Error
from cymatic.evaluation.classifier_training import Disturbance
from cymatic.evaluation.classifiers import Classifier, ClassifierConfig
from cymatic.hub.parts import read_config
from cymatic.media.wave_spec import WaveSpec
from cymatic.seeds import mixed
from cymatic.training.built import Built, Context
from cymatic.training.plan import describe_data, parameters
from cymatic.training.resumed import kept_of
from cymatic.training.stages import ClassificationStage
from cymatic.training.tasks.classification import ClassificationTask


def build_classification(context: Context, stage: ClassificationStage) -> Built:
    """Raises Error where all items have one caption, and as `load_examples` does."""
    spec = WaveSpec(rate=stage.part.mel.rate, channels=1)
    data = load_examples(
        context.recipe.data, Reading(stage.role or spec.medium, spec), captions=True, strict=context.strict,
        say=context.say,
    )  # fmt: skip
    if context.resumed:  # its answers stay those that it has learned
        captions = read_config(context.run / context.name, (Classifier,)).labels["caption"]
        data = kept_of(context, data, [one for one in data.train if one.caption in captions])
    else:
        captions = tuple(sorted({one.caption for one in data.train}))
    if len(captions) < 2:
        raise Error(
            f'all items are called "{captions[0]}", so there is nothing to tell apart; give two captions or more'
        )
    torch.manual_seed(mixed(stage.training.seed, 0))
    classifier = Classifier(ClassifierConfig(labels={"caption": captions}, trunk=stage.part))
    task = ClassificationTask(context.name, classifier, Disturbance(longest=stage.longest, mix=stage.mix))
    settings = stage.training
    vary = speech_augmenter(context.recipe.data.augment, {TARGET: spec}, data.epoch, mixed(settings.seed, 4))
    batches = Bucketed(
        data.epoch, settings.batch, mixed(settings.seed, 1), frames=settings.frames, vary=vary, **context.ranks
    )
    about = (
        *describe_data(data),
        f"model  {parameters(task) / 1e6:.2f} M parameters, batches of {batches.batch}",
    )

    def complete(run: Path) -> None:
        """A classifier is read by evaluation from its own folder."""

    use = f"cymatic evaluate MODEL --classifier {{run}}/{context.name} -o report"
    return Built(context.recipe, context.name, data, task, batches, data.valid, about, complete, use=use)
