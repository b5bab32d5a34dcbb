"""What a model loses before its prior makes a mistake: recordings through its vocoder, and its codec if it has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cymatic.data.mels import mel_of, prepare
from cymatic.evaluation.code_use import perplexity, unused
from cymatic.evaluation.evaluable import Codec, Evaluable, HasCodec, HasLatent, HasLikelihood
from cymatic.evaluation.intervals import Estimate, bootstrap, groups_of, jackknife
from cymatic.evaluation.reconstruction import has_stoi, log_spectral_distance, mel_l1, stoi
from cymatic.media.sound import Sound
from cymatic.priors.variational import active_units, divergence, mutual_information
from cymatic.signal.distances import multi_scale_mel_distance
from cymatic.signal.mel import MelSpec

Losses = dict[str, Estimate]
VOCODER, BOTH, CODEC = "vocoder", "codec and vocoder", "codec"
SHORTEST = 0.05  # seconds: shorter sounds have no spectrum to compare


@dataclass(frozen=True)
class CodeUse:
    """How a codebook of `size` codes is used by `clips` clips: `counts` of each code, most frequent first."""

    size: int
    clips: int
    perplexity: Estimate
    unused: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Likelihood:
    """The negative log-likelihood of held-out clips: nats a code, and what knowing nothing would come to."""

    nats_a_code: Estimate
    uniform: float


@dataclass(frozen=True)
class LatentUse:
    """What a latent of `dim` numbers says of held-out clips, in nats: how far their posteriors are from the prior, and
    how much it tells them apart (at most the log of their number); and how many of its numbers vary at all."""

    dim: int
    clips: int
    divergence: Estimate
    mutual_information: float
    active: int


def reconstructed(model: Evaluable, sounds: Sequence[Sound]) -> tuple[list[Sound], dict[str, Losses]]:
    """Each recording through the whole model, and what each way loses: `vocoder`; with a codec also `codec` (mels
    alone) and `codec and vocoder`. Empty where there are no sounds."""
    whole = [model.revocode(sound) for sound in sounds]
    if not sounds:
        return [], {}
    if not isinstance(model, HasCodec):
        return whole, {VOCODER: losses(sounds, whole, model.mel)}
    alone, between = [], []
    for sound in sounds:
        prepared = prepare(sound, model.mel)
        mel = mel_of(prepared, model.mel)
        with torch.inference_mode():
            again = model.codec.decode(model.codec.encode(mel[None], torch.tensor([mel.shape[1]])))[0].cpu()
            waveform = model.vocoder(mel[None])[0].cpu()
        between.append(mel_l1(mel, again[:, : mel.shape[1]]))
        alone.append(Sound(waveform[:, : len(prepared)].numpy(), model.rate))
    return whole, {
        VOCODER: losses(sounds, alone, model.mel),
        CODEC: {"mel_l1": bootstrap(np.mean, np.array(between))},
        BOTH: losses(sounds, whole, model.mel),
    }


def losses(originals: Sequence[Sound], again: Sequence[Sound], spec: MelSpec) -> Losses:
    """Mel L1, log-spectral distance, multi-scale mel distance, and where pystoi is there STOI: the means over clips.

    The originals are brought to the loudness and rate that the model works at first, and both sides to one length.
    """
    measures: dict[str, Callable[[np.ndarray, np.ndarray], float | None]] = {
        "mel_l1": lambda a, b: mel_l1(_mel(a, spec), _mel(b, spec)),
        "log_spectral_distance": lambda a, b: log_spectral_distance(a, b, spec.rate),
        "multi_scale_mel_distance": lambda a, b: float(multi_scale_mel_distance(_wave(a), _wave(b), spec.rate)),
    }
    if has_stoi():
        measures["stoi"] = lambda a, b: stoi(a, b, spec.rate)
    found: dict[str, list[float]] = {name: [] for name in measures}
    for original, other in zip(originals, again, strict=True):
        a, b = prepare(original, spec).samples[0], other.samples[0]
        length = min(len(a), len(b))
        if length < SHORTEST * spec.rate:
            continue
        for name, measure in measures.items():
            value = measure(a[:length], b[:length])
            if value is not None:
                found[name].append(value)
    return {name: bootstrap(np.mean, np.array(values)) for name, values in found.items() if values}


def _wave(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))[None, None]


def _mel(samples: np.ndarray, spec: MelSpec) -> np.ndarray:
    mel: np.ndarray = mel_of(Sound(samples, spec.rate), spec).numpy()
    return mel


def code_use(codec: Codec, spec: MelSpec, sounds: Sequence[Sound], captions: Sequence[str]) -> CodeUse | None:
    """Perplexity and unused codes over `sounds`; None where there are none."""
    if not sounds:
        return None
    rows = []
    for sound in sounds:
        mel = mel_of(prepare(sound, spec), spec)
        with torch.inference_mode():
            codes = codec.encode(mel[None], torch.tensor([mel.shape[1]])).codes
        rows.append(torch.bincount(codes.flatten().cpu(), minlength=codec.size))
    counts = torch.stack(rows)
    total = counts.sum(0)
    spread = jackknife(lambda kept: perplexity(counts[torch.from_numpy(kept)].sum(0)), groups_of(captions))
    ordered = total.sort(descending=True).values
    return CodeUse(codec.size, len(sounds), spread, unused(total), tuple(ordered.tolist()))


def likelihood(model: HasLikelihood, sounds: Sequence[Sound], captions: Sequence[str], size: int) -> Likelihood | None:
    """Nats a code over `sounds` of these captions that are not too long for the model; None where there are none."""
    each = (model.nll(sound, caption) for sound, caption in zip(sounds, captions, strict=True))
    pairs = [pair for pair in each if pair is not None]
    if not pairs:
        return None
    nats, codes = np.array(pairs).T
    found = bootstrap(lambda rows: nats[rows].sum() / codes[rows].sum(), np.arange(len(nats)))
    return Likelihood(found, float(np.log(size)))


def latent_use(model: HasLatent, sounds: Sequence[Sound], captions: Sequence[str]) -> LatentUse | None:
    """What the model's latent says of `sounds`; None where it has none, or says it of fewer than two."""
    each = (model.posterior(sound, caption) for sound, caption in zip(sounds, captions, strict=True))
    pairs = [pair for pair in each if pair is not None]
    if len(pairs) < 2:
        return None
    mean, log_var = (torch.cat(part).float().cpu() for part in zip(*pairs, strict=True))
    nats = divergence(mean, log_var).sum(1).numpy()
    return LatentUse(
        mean.shape[1],
        len(pairs),
        bootstrap(lambda rows: nats[rows].mean(), np.arange(len(nats))),
        mutual_information(mean, log_var, torch.Generator().manual_seed(0)),
        active_units(mean),
    )
