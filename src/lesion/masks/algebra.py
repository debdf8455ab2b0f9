"""Set operations on masks, which are sorted flat indices."""

from collections.abc import Sequence

import numpy as np

from lesion.models.layout import FlatIndices, Layout


def vote(masks: Sequence[FlatIndices], at_least: int) -> FlatIndices:
    """The indices that are in at least `at_least` of the masks."""
    indices, counts = np.unique(np.concatenate(masks), return_counts=True)
    return indices[counts >= at_least]


def intersection(masks: Sequence[FlatIndices]) -> FlatIndices:
    """The indices that are in all of the masks."""
    return vote(masks, len(masks))


def expected_vote(masks: Sequence[FlatIndices], at_least: int, layout: Layout) -> float:
    """The expected size of `vote` if each mask were scattered at random within every matrix.

    Each mask keeps its size in every matrix; the result is the sum over matrices of
    n * P(at least `at_least` of the masks contain a weight).
    """
    counts = np.array([[part.size for part in layout.split(mask)] for mask in masks])
    sizes = np.diff(layout.offsets)
    return float((sizes * _at_least(counts / sizes, at_least)).sum())


def _at_least(chances: np.ndarray, least: int) -> np.ndarray:
    """P(at least `least` successes) per column of [trials, columns] unequal chances."""
    # Imported here, because it takes a second, and planning a study reads this module.
    from scipy.stats import binom

    if (chances == chances[0]).all():
        return np.asarray(binom.sf(least - 1, len(chances), chances[0]))
    probabilities = np.zeros((len(chances) + 1, chances.shape[1]))
    probabilities[0] = 1
    for chance in chances:
        probabilities[1:] = probabilities[1:] * (1 - chance) + probabilities[:-1] * chance
        probabilities[0] *= 1 - chance
    return np.asarray(probabilities[least:].sum(0))
