"""Sums of 32-bit words: a flipped bit is found at the speed of memory, as bytes are read anyway."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MODULUS = 2**32


def word_sum(data: NDArray[np.generic]) -> int:
    """The sum of the 32-bit words in contiguous data, modulo 2^32; bytes over count as one more.

    Sums of parts, cut between words, add up to the whole's. No flipped bit leaves it as it was;
    words that change places do.
    """
    raw = data.reshape(-1).view(np.uint8)
    whole = raw.size - raw.size % 4
    total = int(np.add.reduce(raw[:whole].view(np.uint32), dtype=np.uint32))
    return (total + int.from_bytes(raw[whole:].tobytes(), "little")) % _MODULUS


def added(one: int, other: int) -> int:
    """The sum of two parts."""
    return (one + other) % _MODULUS


def file_sum(path: Path) -> int:
    """The word sum of a file; reading it puts it into the page cache for whoever loads it next."""
    if not path.stat().st_size:
        return 0
    return word_sum(np.memmap(path, np.uint8, "r"))
