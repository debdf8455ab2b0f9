"""Prompts that resemble each other, by the character n-grams of their words."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_GRAMS = (3, 4, 5)
"""Lengths of the character n-grams by which prompts are compared."""

_BLOCK = 4_000_000
"""Pairs of prompts that are compared at once; each takes some 20 bytes."""


class NearPairs(NamedTuple):
    """Pairs of prompts that resemble each other, by row, and then by the other row."""

    rows: NDArray[np.int64]
    others: NDArray[np.int64]
    similarities: NDArray[np.float64]


def near_pairs(
    prompts: Sequence[str],
    least: float,
    rows: NDArray[np.int64] | None = None,
    others: NDArray[np.int64] | None = None,
) -> NearPairs:
    """Pairs of prompts whose similarity is at least `least`, which is above 0; each prompt with
    itself, and every pair in both orders.

    The similarity is the cosine of the prompts' sets of character 3- to 5-grams, which are those of
    single words with a space at either end, in lower case. They are not weighted, so that the
    similarity of two prompts does not depend on others. Memory grows with the number of prompts and
    of pairs found.

    Args:
        prompts: the texts.
        least: the least similarity.
        rows: the rows of the first prompts, ascending; all, if not given.
        others: those of the second ones.
    """
    sets = _gram_sets(prompts)
    rows, others = (
        np.arange(len(prompts)) if some is None else some.astype(np.int64)
        for some in (rows, others)
    )
    second = sets[others].T.tocsr()
    step = max(1, _BLOCK // max(1, others.size))
    pairs = [NearPairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for start in range(0, rows.size, step):
        first = rows[start : start + step]
        alike = (sets[first] @ second).tocoo()
        near = np.flatnonzero(alike.data >= least)
        order = near[np.lexsort((alike.col[near], alike.row[near]))]
        pairs.append(
            NearPairs(first[alike.row[order]], others[alike.col[order]], alike.data[order])
        )
    return NearPairs(*(np.concatenate(parts) for parts in zip(*pairs, strict=True)))


def similarity_of_each(first: Sequence[str], second: Sequence[str]) -> NDArray[np.float64]:
    """The similarity (see `near_pairs`) of each text and the one at its place in `second`."""
    sets = _gram_sets([*first, *second])
    pairs = sets[: len(first)].multiply(sets[len(first) :]).sum(axis=1)
    return np.asarray(pairs, dtype=np.float64).reshape(-1)


def _gram_sets(prompts: Sequence[str]) -> Any:
    """The sets of n-grams as rows of length 1: scipy CSR array [prompt, n-gram], float64."""
    # scikit-learn's vectorizers have these n-grams too, but take two seconds to import, which
    # every command that checks a study would wait for.
    from scipy.sparse import csr_array

    columns: dict[str, int] = {}
    rows = [[columns.setdefault(gram, len(columns)) for gram in _grams(text)] for text in prompts]
    sizes = np.array([len(row) for row in rows], dtype=np.int64)
    # Of 32 bits, as scipy then also makes the indices of the product, if it has room for them.
    places = np.fromiter(chain(*rows), np.int32)
    shares = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return csr_array((shares, places, starts), shape=(len(prompts), max(1, len(columns))))


def _grams(text: str) -> set[str]:
    words = [f" {word} " for word in text.lower().split()]
    return {
        word[start : start + length]
        for word in words
        for length in _GRAMS
        for start in range(max(1, len(word) - length + 1))
    }


def near_duplicates(prompts: Sequence[str], near_duplicate: float) -> list[list[int]]:
    """The earlier prompts that each prompt resembles, in order."""
    near: list[list[int]] = [[] for _ in prompts]
    pairs = near_pairs(prompts, near_duplicate)
    for row, other in zip(pairs.rows.tolist(), pairs.others.tolist(), strict=True):
        if other < row:
            near[row].append(other)
    return near
