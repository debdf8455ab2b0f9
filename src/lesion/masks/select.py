"""Selection: exact top fractions of flat scores, ties broken by place. Pure arithmetic on numpy.

Scores and importances are float32 [candidates] in the model's order; a mask is a sorted int64
array of places in that order.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lesion.formats import LesionError

Flat = NDArray[np.float32]
Places = NDArray[np.int64]

_SAMPLE = 1_000_003
"""Stride-sampled scores behind the first guess of a tail's threshold."""


class Preserved:
    """The top fraction p of weights by preservation importance, for any of several p.

    Exactly `round(p * candidates)` weights; among equals at the threshold, the first places.
    """

    def __init__(self, importance: Flat, fractions: Sequence[float]) -> None:
        """Find the thresholds in one partition of the importances."""
        self.importance = importance
        counts = {p: round(p * importance.size) for p in fractions}
        ranks = sorted({importance.size - count for count in counts.values() if count})
        parted = np.partition(importance, ranks) if ranks else importance
        self._cut = {
            p: self._threshold(parted[importance.size - count], count) if count else None
            for p, count in counts.items()
        }

    def _threshold(self, value: np.float32, count: int) -> tuple[np.float32, int]:
        """The threshold, and the first place at which an importance equal to it is not held."""
        above = int(np.count_nonzero(self.importance > value))
        equal = np.flatnonzero(self.importance == value)
        room = count - above
        return value, int(equal[room]) if room < equal.size else self.importance.size

    def holds(self, places: Places, p: float) -> NDArray[np.bool_]:
        """Which of the places are preserved at fraction p, one of those given at the start."""
        cut = self._cut[p]
        if cut is None:
            return np.zeros(places.size, np.bool_)
        value, end = cut
        own = self.importance[places]
        held: NDArray[np.bool_] = (own > value) | ((own == value) & (places < end))
        return held


def lowest(scores: Flat, count: int) -> Places:
    """Places of the `count` lowest scores, lowest first, ties by place.

    Only a tail of the scores is sorted: its threshold is guessed from a sample and checked.
    """
    count = min(count, scores.size)
    if count == 0:
        return np.empty(0, np.int64)
    sample = np.sort(scores[:: max(1, scores.size // _SAMPLE)])
    rank = int(1.2 * count / scores.size * sample.size) + 16
    tail = np.arange(scores.size)
    if rank < sample.size:
        tail = np.flatnonzero(scores <= sample[rank])
    if tail.size < count:
        tail = np.arange(scores.size)
    order = np.lexsort((tail, scores[tail]))
    return tail[order[:count]].astype(np.int64)


def budget(scores: Flat, preserved: Preserved, p: float, count: int) -> Places:
    """Leave out the preserved, then take exactly `count` of the most negative scores.

    Raises:
        LesionError: fewer weights than that promote the behaviour outside the preserved.
    """
    reach = 2 * count + 1024
    while True:
        order = lowest(scores, reach)
        free = order[~preserved.holds(order, p)]
        if free.size >= count or order.size == scores.size:
            break
        reach *= 4
    chosen = free[:count]
    if chosen.size < count or scores[chosen[-1]] >= 0:
        promote = int((scores[free] < 0).sum())
        raise LesionError(
            f"masks: only {promote} weights outside the preserved top p={p} promote this "
            f"behaviour, and q asks for {count}. Lower `masks.p` or `masks.q`."
        )
    return np.sort(chosen)


def difference(scores: Flat, preserved: Preserved, p: float, count: int) -> Places:
    """Take the `count` most negative scores, then take away the preserved; what is left varies."""
    order = lowest(scores, count)
    order = order[scores[order] < 0]
    return np.sort(order[~preserved.holds(order, p)])


RULES = {"budget": budget, "difference": difference}


def size_of(q: float, candidates: int) -> int:
    """How many weights a fraction q is.

    Raises:
        LesionError: none.
    """
    count = round(q * candidates)
    if count < 1:
        raise LesionError(
            f"masks: q={q} of {candidates} candidate weights selects no weight; the smallest q "
            f"that selects one is {1 / candidates:.2g}. Raise `masks.q`."
        )
    return count


def vote(masks: Sequence[Places], at_least: int) -> Places:
    """Places that lie in at least `at_least` of the masks; all of them for the intersection."""
    places, counts = np.unique(np.concatenate(masks), return_counts=True)
    return places[counts >= at_least]


def random_like(mask: Places, offsets: NDArray[np.int64], seed: int) -> Places:
    """As many random places in every matrix as `mask` has there.

    Args:
        mask: the mask to be matched.
        offsets: int64 [matrices + 1], where each matrix begins.
        seed: of the generator.
    """
    generator = np.random.default_rng(seed)
    edges = np.searchsorted(mask, offsets)
    parts = [
        start + generator.choice(stop - start, size=last - first, replace=False)
        for start, stop, first, last in zip(
            offsets[:-1], offsets[1:], edges[:-1], edges[1:], strict=True
        )
    ]
    return np.sort(np.concatenate(parts)).astype(np.int64)
