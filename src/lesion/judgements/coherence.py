"""Whether a text is still language: metrics without a model, so that no ablation affects them."""

import re

import numpy as np
from numpy.typing import NDArray

WORDS_IN_A_ROW = 3
# A short unit at least four times over: "aaaa", "hahahaha", "=-=-=-=-". Twice or three times
# happens in ordinary words and numbers ("banana", "1000").
_STUTTER = re.compile(r"(.{1,8}?)\1{3,}", re.DOTALL)


def repetition(text: str) -> float:
    """How much of `text` repeats itself.

    It is the larger of two fractions: of its word trigrams, those that occurred before; and of its
    characters, those in a short unit repeated four or more times, which also covers texts without
    three words ("aaaaaaaa"). Case, punctuation between words and the amount of white space are
    ignored. It is in [0, 1]: near 0 for an ordinary paragraph in any language, near 1 for a model
    stuck in a loop, 0 if empty.
    """
    plain = " ".join(text.casefold().split())
    words = re.findall(r"\w+", plain)
    runs = list(zip(*(words[start:] for start in range(WORDS_IN_A_ROW)), strict=False))
    repeated = 1 - len(set(runs)) / len(runs) if runs else 0.0
    stuck = sum(len(match.group()) for match in _STUTTER.finditer(plain))
    return max(repeated, stuck / len(plain) if plain else 0.0)


def coherence(
    relevance: NDArray[np.float64], repetition: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Relevance × (1 − repetition): on topic, and not repetitive; in [0, 1], shape `[n]`."""
    return relevance * (1 - repetition)
