"""One seed from several numbers, so that what is random depends on them alone and on no hidden state."""

import hashlib


def mixed(*numbers: int) -> int:
    """One 63-bit seed from several integers, the same in every process and on every machine."""
    digest = hashlib.sha256(",".join(map(str, numbers)).encode()).digest()
    return int.from_bytes(digest[:8]) >> 1
