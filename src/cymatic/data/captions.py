"""Captions that are one caption: they differ by upper case, white space, Unicode form or what separates at the end."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

SEPARATORS = " _-.,;:|/\\"


def caption_key(caption: str) -> str:
    """What captions have in common that are one."""
    text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", caption).casefold())
    text = " ".join(text.split())
    return text.rstrip(SEPARATORS) or text


def spelt_alike(captions: Sequence[str]) -> list[str]:
    """Each caption as most of those are spelt that are one with it; of equally frequent spellings, the first."""
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    keys = [caption_key(caption) for caption in captions]
    for key, caption in zip(keys, captions, strict=True):
        spellings[key][caption] += 1
    usual = {key: counts.most_common(1)[0][0] for key, counts in spellings.items()}
    return [usual[key] for key in keys]
