"""Recipes of earlier versions as today's: one kind of recipe each became data and stages.

Until version 0.1 a recipe had a `kind` and sections of that kind. Each function below takes the sections of one kind
and gives the stages that they stood for, with the values that were its defaults then wherever today's are others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cymatic.codecs.spectrogram import SpectrogramShape
from cymatic.config import nearest
from cymatic.errors import ModelError
from cymatic.hub.earlier import Change, Gone, changed, todays_config
from cymatic.signal.mel import PRESETS, MelSpec

Values = dict[str, Any]

# Options that went because they gained nothing (docs/codec-options.md); those of parts are in `hub.earlier`.
GONE: dict[str, tuple[Change, ...]] = {
    "waveform-codec": (
        Gone("objective.stft", neutral=(0,)),
        Gone("objective.time", neutral=(0,)),
        Gone("objective.emphasis", neutral=(0,)),
    ),
}
AUTO_MEL = "auto"


def as_stages(values: Mapping[str, Any], where: str) -> Values:
    """`values` where they have stages, else what an earlier version meant by them.

    Raises ModelError for a kind of recipe that no version knows, a key that its kind did not have, and an option that
    is gone.
    """
    if "stages" in values:
        return dict(values)
    kind = values.get("kind", "text-to-sound")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ModelError(f'{where} is of the kind "{kind}"; {nearest(str(kind), KINDS)}')
    known, convert = KINDS[kind]
    given = {key: value for key, value in values.items() if key != "kind"}
    for key, value in given.items():
        if key not in known:
            raise ModelError(f'{where}: unknown key "{key}"; {nearest(key, known)}')
        if key in SECTIONS and value is not None and not isinstance(value, dict):
            raise ModelError(f'{where}: "{key}" is {value!r:.80}; give it a mapping such as {{steps: 1000}}')
    return todays_config(convert(changed(given, GONE.get(kind, ()), where)), where, to_train=True)


SECTIONS = frozenset(
    [
        "data",
        "text",
        "prior",
        "vocoder",
        "training",
        "sampling",
        "judges",
        "judge",
        "network",
        "quantizer",
        "energy",
        "augment",
        "objective",
        "codec",
        "codes",
        "condition",
        "codec_training",
    ]
)


def _section(given: Mapping[str, Any], name: str) -> Values:
    return dict(given.get(name) or {})


def _renamed(held: Mapping[str, Any], names: Mapping[str, str]) -> Values:
    return {names.get(key, key): value for key, value in held.items()}


def _only(**values: Any) -> Values:
    """Those that say something."""
    return {name: value for name, value in values.items() if value is not None and value != {}}


def _or(section: Values, **usual: Any) -> Values:
    """`section`, or what it was where nothing was said: who said a part of it got the defaults of all sections."""
    return section or usual


def _data(given: Mapping[str, Any], **usual: Any) -> Values:
    return _or(_section(given, "data"), **usual)


def _part(kind: str, *sections: Mapping[str, Any], mel: Any = None) -> Values:
    part: Values = {"kind": kind}
    for section in sections:
        part.update(section)
    if mel is not None and mel != AUTO_MEL:
        part["mel"] = mel
    return part


def _text_to_sound(given: Values) -> Values:
    stage = _only(
        task="prior",
        part=_part("flow", _section(given, "prior"), mel=given.get("mel")),
        encoder=_part("text", _section(given, "text")),
        start=given.get("start"),
        training=_section(given, "training"),
        sampling=_section(given, "sampling"),
    )
    if "start" in given:  # null says more than nothing: from scratch
        stage["start"] = given["start"]
    return _only(data=_data(given), stages={"prior": stage}, vocoder=_section(given, "vocoder"))


def _vocoder(given: Values) -> Values:
    judges = _section(given, "judges")
    scales = judges.get("kind") == "scales"
    weight = judges.pop("mel_weight", 8.0)
    segment = judges.pop("piece", 0.512)
    names = {
        "alone": "start", "judges_warmup": "warmup", "judged": "segments", "judge_width": "width",
        "judge_rate": "rate", "feature_weight": "features",
    }  # fmt: skip
    discriminators = {
        "kind": "spectrograms", "start": 3000, "segments": 4, **_renamed(judges, names),
        "loss": "melgan" if scales else "hinge",
    }  # fmt: skip
    betas = [0.5, 0.9] if scales else [0.8, 0.99]
    vocoder = _section(given, "vocoder")
    stage = _only(
        task="autoencoder",
        part=_part(vocoder.pop("kind", "vocos"), vocoder, mel=given.get("mel")),
        segment=segment,
        level=[-20.0, 6.0],
        objective={"mel": weight, "log_mel": weight},
        discriminators=discriminators,
        start=given.get("start"),
        training={"betas": betas, **_or(_section(given, "training"), batch=16, learning_rate=6e-4, clip=100.0)},
    )
    return _only(data=_data(given, longest=15.0, long="cut"), stages={"vocoder": stage})


def _waveform_codec(given: Values) -> Values:
    judges = _section(given, "judges")
    if judges.get("judges") == "lumen-complex":
        raise ModelError(
            '"judges.judges" is lumen-complex, and this version no longer has discriminators of complex weights, which '
            "gained nothing; set it to lumen, or use the version that wrote it"
        )
    names = {"judges": "kind", "judged": "segments", "rule": "loss", "choice": "selection", "alone": "adversarial_only"}
    usual = {"kind": "spectrograms", "start": 6000, "segments": 4}
    network, quantizer = _section(given, "network"), _section(given, "quantizer")
    codec: Values = {"network": {"kind": "fast", **network}}
    codec["quantizer"] = (
        {"kind": "residual", **quantizer}
        if quantizer
        else {"kind": "residual", "levels": 12, "dim": 32, "dropout": 0.5}
    )
    for name, today in (("rate", "rate"), ("channels", "channels"), ("energy", "energy"), ("tile", "block")):
        if given.get(name) is not None:
            codec[today] = given[name]
    stage = _only(
        task="autoencoder",
        part=_part("waveform", codec),
        segment=given.get("piece", 0.96),
        level=[-20.0, 6.0],
        augment=_section(given, "augment"),
        objective={"mel": 1.0, "loud": 1.0, "phase": 0.5, "white": 0.03, **_section(given, "objective")},
        discriminators={**usual, **_renamed(judges, names)},
        start=given.get("start"),
        training={
            "betas": [0.8, 0.99],
            **_or(_section(given, "training"), batch=8, learning_rate=1e-3, decay=0.6, ema=0.99),
        },
    )  # fmt: skip
    return _only(data=_data(given, longest=15.0, long="cut"), stages={"codec": stage})


def _condition(given: Mapping[str, Any]) -> tuple[Values, str]:
    """The encoder of a condition, and the role that it reads."""
    condition = {"kind": "text", "dim": 192, **_section(given, "condition")}
    if condition["kind"] != "features":
        return condition, "caption"
    name = condition.pop("of", "feature_resnet50_dim2048_21.5fps")
    frames = condition.get("frames", 212)
    return {**condition, "name": name, "frames": frames, "fewer": "cut" if frames == 212 else "spread"}, "features"


def _code_prior(given: Mapping[str, Any]) -> Values:
    return {"kind": "gpt", "dropout": 0.1, **_section(given, "prior")}


def _mel_gpt(given: Values) -> Values:
    codes, start, training = _section(given, "codes"), given.get("start"), _section(given, "training")
    encoder, role = _condition(given)
    part = _code_prior(given)
    share = codes.get("codec_share", 0.5)
    prior = _only(
        task="prior",
        start=part.pop("start", None),  # of a GPT-VAE
        part=part,
        codec=start if start is not None else "codec",
        encoder=encoder,
        given=role,
        variants=codes.get("variants", 4),
        share=1 - share,
        training={"betas": [0.9, 0.95], **training},
        sampling=_section(given, "sampling"),
    )
    stages = {"prior": prior}
    if start is None:
        judge = _section(given, "judge")
        bounds = [judge.pop("least", 0.0), judge.pop("most", 1.0)]
        quantizer = _section(given, "quantizer") or {"size": 1024, "dim": 64}
        shape = _section(given, "codec")
        spec = _mel_spec(given.get("mel"))
        frames = codes.get("piece", 8) * SpectrogramShape.parse(shape, "codec").cell[1]
        own = _or(_section(given, "codec_training"), learning_rate=5e-4, decay=0.3)
        length = {key: own.pop(key) for key in ("steps", "minutes") if own.get(key) is not None}
        codec = _only(
            task="autoencoder",
            part=_part("spectrogram", shape, {"quantizer": {"kind": "vector", **quantizer}}, mel=given.get("mel")),
            objective={"l1": 1.0},
            segment=frames * spec.hop / spec.rate,
            discriminators={
                "kind": "patch", "loss": "linear", "start": 500, "warmup": 500, "weight": 0.8, "width": 32,
                "features": 1.0, "rate": 1.0,
                "adaptive": True, "adaptive_range": bounds, **judge,
            },
            share=share,
            training={"betas": [0.5, 0.9], **_not_length(own), **length},
        )  # fmt: skip
        stages = {"codec": codec, "prior": prior}
    return _only(data=_data(given), stages=stages, vocoder=_section(given, "vocoder"))


def _not_length(training: Mapping[str, Any]) -> Values:
    return {key: value for key, value in training.items() if key not in ("steps", "minutes")}


def _codec_gpt(given: Values) -> Values:
    encoder, role = _condition(given)
    stage = _only(
        task="prior",
        part=_code_prior(given),
        codec=given.get("start", "starter-codec"),
        levels=given.get("levels"),
        encoder=encoder,
        given=role,
        training={"betas": [0.9, 0.95], **_section(given, "training")},
        sampling=_section(given, "sampling"),
    )
    return _only(data=_data(given), stages={"prior": stage})


def _mel_spec(given: Any) -> MelSpec:
    if isinstance(given, dict):
        return MelSpec.parse(given, "mel")
    return PRESETS["sound-24k" if given in (None, AUTO_MEL) else given]


Convert = Callable[[Values], Values]
KINDS: dict[str, tuple[frozenset[str], Convert]] = {
    "text-to-sound": (
        frozenset(["mel", "data", "text", "prior", "vocoder", "start", "training", "sampling"]),
        _text_to_sound,
    ),
    "mel-gpt": (
        frozenset(
            [
                "mel",
                "data",
                "condition",
                "codec",
                "quantizer",
                "judge",
                "codes",
                "prior",
                "vocoder",
                "start",
                "codec_training",
                "training",
                "sampling",
            ]
        ),
        _mel_gpt,
    ),
    "codec-gpt": (frozenset(["data", "start", "levels", "condition", "prior", "training", "sampling"]), _codec_gpt),
    "vocoder": (frozenset(["mel", "data", "vocoder", "judges", "start", "training"]), _vocoder),
    "waveform-codec": (
        frozenset(
            [
                "rate",
                "channels",
                "data",
                "network",
                "quantizer",
                "tile",
                "energy",
                "piece",
                "augment",
                "objective",
                "judges",
                "start",
                "training",
            ]
        ),
        _waveform_codec,
    ),
}
