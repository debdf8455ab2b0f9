"""Mask selection: exact top fractions of scores in one read, with ties broken by flat index. Pure.

Scores and importances are read in blocks, one parameter at a time, as flat float32 vectors. A mask
is a sorted int64 array of flat indices. Memory holds one block and the weights that may still be
selected, regardless of the model's size.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import LesionError
from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.scores.lowest import BLOCK, Lowest, first_lowest, lowest_of_each
from lesion.scores.store import Source

_SAMPLE_SIZE = 2**20
"""Importances from which a threshold is first estimated; the estimate is checked and widened."""
_SAMPLE_RUN = 256
"""Consecutive importances that the sample takes at a time."""


class Point(NamedTuple):
    """Fractions of the prunable weights: `p` is preserved and `q` is selected."""

    p: float
    q: float


def select_masks(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    *,
    rule: str = "budget",
    scope: str = "global",
) -> dict[str, list[FlatIndices]]:
    """Select the mask of every behaviour at every point, with one read of the scores.

    `budget` excludes the top p by importance and then selects the q most negative scores.
    `difference` selects the q most negative scores and then removes the top p. The fractions apply
    to all prunable weights, to each matrix, or to each row (an output unit), and are rounded to
    whole weights.

    Args:
        snips: signed SNIP scores of each behaviour.
        importance: preservation importance.
        layout: the prunable parameters.
        points: fractions p and q.
        rule: `budget` or `difference`.
        scope: `global`, `matrix` or `row`. Under `budget`, a matrix or row with too few weights
            that promote the behaviour contributes those it has.

    Returns:
        For each behaviour, sorted flat indices for each point.

    Raises:
        LesionError: a q selects nothing; or too few weights promote a behaviour (`global`).

    Source:
        Wei et al. 2024 (arXiv 2402.05162), set difference, with unsigned scores.
    """
    if scope == "global":
        return _over_all(snips, importance, layout, points, rule)
    return _within_units(snips, importance, layout, points, rule, scope)


def n_selected(q: float, candidates: int) -> int:
    """The number of weights in the fraction q.

    Raises:
        LesionError: it is less than one.
    """
    count = round(q * candidates)
    if count < 1:
        raise LesionError(
            f"masks: q={q} of {candidates} candidate weights selects no weight; the smallest q "
            f"that selects one is {1 / candidates:.2g}. Raise `masks.q`."
        )
    return count


# -- over all candidates -------------------------------------------------------------------------


class _Threshold(NamedTuple):
    """Preserved are importances above `value`, and those equal to it with an index below `end`."""

    value: np.float32
    end: int

    def preserves(self, importance: Flat, indices: FlatIndices) -> NDArray[np.bool_]:
        equal = (importance == self.value) & (indices < self.end)
        preserved: NDArray[np.bool_] = (importance > self.value) | equal
        return preserved


_PRESERVE_NONE = _Threshold(np.float32(np.inf), 0)


class _Bracket:
    """Finds the exact threshold of the `count` highest importances between two bounds."""

    def __init__(self, count: int, low: np.float32, high: np.float32) -> None:
        self.count, self.low, self.high = count, low, high
        self.n_above = 0
        self.values: list[Flat] = []
        self.indices: list[FlatIndices] = []

    def add(self, values: Flat, indices: FlatIndices) -> tuple[Flat, FlatIndices]:
        """Add importances; return the entries >= `low`.

        The brackets of all smaller p lie within the returned entries.
        """
        at_least_low = np.flatnonzero(values >= self.low)
        values, indices = values[at_least_low], indices[at_least_low]
        inside = np.flatnonzero(values <= self.high)
        self.n_above += values.size - inside.size
        self.values.append(values[inside])
        self.indices.append(indices[inside])
        return values, indices

    def threshold(self) -> _Threshold | None:
        """The threshold; None if it lies outside the bounds."""
        n_inside = self.count - self.n_above
        values = np.concatenate([np.empty(0, np.float32), *self.values])
        if not 0 < n_inside <= values.size:
            return None
        value = np.partition(values, values.size - n_inside)[values.size - n_inside]
        equal = np.concatenate(self.indices)[values == value]
        n_equal = n_inside - int(np.count_nonzero(values > value))
        return _Threshold(value, int(equal[n_equal - 1]) + 1)


class Preserved:
    """The weights in the top fraction p by importance, one matrix at a time."""

    def __init__(self, importance: Source, layout: Layout, p: float, scope: str) -> None:
        """Read nothing yet."""
        self.importance, self.layout, self.p, self.scope = importance, layout, p, scope

    @cached_property
    def _threshold(self) -> _Threshold:
        return _thresholds(self.importance, self.layout, [self.p]).get(self.p, _PRESERVE_NONE)

    def of(self, number: int) -> NDArray[np.bool_]:
        """Whether each weight of the matrix with this number is preserved, flat."""
        name, shape = self.layout.names[number], self.layout.shapes[number]
        size, start = shape[0] * shape[1], int(self.layout.offsets[number])
        values = self.importance.open(name)[0:size]
        if self.scope == "global":
            return self._threshold.preserves(values, np.arange(start, start + size))
        arrange, back = self.layout.units(name, self.scope)
        lines = arrange(values)
        return back(lowest_of_each(-lines, round(self.p * lines.shape[1])))


def _thresholds(
    importance: Source, layout: Layout, fractions: Sequence[float]
) -> dict[float, _Threshold]:
    sample, slack = np.sort(_sample(importance, layout)), 1.0
    while True:
        brackets = _brackets(sample, layout, fractions, slack)
        _read({}, importance, layout, list(brackets.values()), {})
        exact = {p: bracket.threshold() for p, bracket in brackets.items()}
        if None not in exact.values():
            return {p: threshold for p, threshold in exact.items() if threshold is not None}
        slack *= 8


class _EstimateTooNarrow(Exception):
    """An estimated bound was wrong; the scores must be read again with a wider one."""


def _over_all(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
) -> dict[str, list[FlatIndices]]:
    fractions = sorted({point.p for point in points})
    sample = np.sort(_sample(importance, layout)) if any(fractions) else np.empty(0, np.float32)
    slack = 1.0
    while True:
        try:
            return _one_read(snips, importance, layout, points, rule, sample, slack)
        except _EstimateTooNarrow:
            slack *= 8


def _one_read(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
    sample: Flat,
    slack: float,
) -> dict[str, list[FlatIndices]]:
    counts = {point: n_selected(point.q, layout.size) for point in points}
    brackets = _brackets(sample, layout, [point.p for point in points], slack)
    pools = {
        name: {
            p: _pool(brackets.get(p), [counts[it] for it in points if it.p == p], rule, slack)
            for p in {point.p for point in points}
        }
        for name in snips
    }
    _read(snips, importance, layout, list(brackets.values()), pools)
    thresholds: dict[float, _Threshold] = {}
    for p, bracket in brackets.items():
        threshold = bracket.threshold()
        if threshold is None:
            raise _EstimateTooNarrow
        thresholds[p] = threshold
    return {
        name: [
            _select_from(
                name,
                of_behaviour[point.p],
                thresholds.get(point.p, _PRESERVE_NONE),
                point,
                counts[point],
                rule,
            )
            for point in points
        ]
        for name, of_behaviour in pools.items()
    }


def _brackets(
    sample: Flat, layout: Layout, fractions: Sequence[float], slack: float
) -> dict[float, _Bracket]:
    """By descending p, since the bracket of a smaller p lies within the entries of a larger one."""
    return {
        p: _Bracket(count, *_estimate(sample, p, slack))
        for p in sorted(set(fractions), reverse=True)
        if (count := round(p * layout.size))
    }


def _estimate(sample: Flat, p: float, slack: float) -> tuple[np.float32, np.float32]:
    """Bounds for the threshold: 5% of its rank (times `slack`) to either side."""
    rank = p * sample.size
    margin = slack * (0.05 * rank + 64)
    low, high = sample.size - 1 - int(rank + margin), sample.size - 1 - int(rank - margin)
    return (
        sample[low] if low >= 0 else np.float32(-np.inf),
        sample[high] if high < sample.size else np.float32(np.inf),
    )


class _Pool(NamedTuple):
    """The most negative scores among weights whose importance is at most `max_importance`."""

    lowest: Lowest
    max_importance: np.float32


def _pool(bracket: _Bracket | None, counts: Sequence[int], rule: str, slack: float) -> _Pool:
    if rule == "difference" or bracket is None:
        return _Pool(Lowest(max(counts), 0, 1), np.float32(np.inf))
    # Weights that are certainly preserved never enter; some of those that enter may be, too.
    return _Pool(Lowest(int(slack * (1.25 * max(counts) + 1024)), 0, 1), bracket.high)


def _sample(importance: Source, layout: Layout) -> Flat:
    every = max(1, layout.size // _SAMPLE_SIZE)
    parts = []
    for name, (rows, columns) in zip(layout.names, layout.shapes, strict=True):
        size = rows * columns
        values = importance.open(name)
        if every == 1:
            parts.append(values[0:size])
        else:
            parts += [values[at : at + _SAMPLE_RUN] for at in range(0, size, every * _SAMPLE_RUN)]
    return np.concatenate(parts)


def _read(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    brackets: Sequence[_Bracket],
    pools: Mapping[str, Mapping[float, _Pool]],
) -> None:
    offers = {behaviour: _Offers(list(by_p.values())) for behaviour, by_p in pools.items()}
    for name, (rows, columns), start in zip(
        layout.names, layout.shapes, layout.offsets, strict=False
    ):
        importances = importance.open(name)
        opened = {behaviour: source.open(name) for behaviour, source in snips.items()}
        for first in range(0, rows * columns, BLOCK):
            part = slice(first, min(first + BLOCK, rows * columns))
            block = importances[part]
            index = int(start) + first
            values, indices = block, np.arange(index, index + block.size)
            for bracket in brackets:
                values, indices = bracket.add(values, indices)
            for behaviour, scores in opened.items():
                offers[behaviour].add(scores[part], block, index)
    for offered in offers.values():
        offered.flush()


class _Offers:
    """A buffer of the scores that may enter a behaviour's pools.

    Pools receive many blocks at a time, because adding a few scores costs as much as thousands.
    """

    def __init__(self, pools: Sequence[_Pool]) -> None:
        self.pools = pools
        self.limit = self._highest()
        self.n_buffered = 0
        self.parts: list[tuple[Flat, Flat, FlatIndices]] = []

    def _highest(self) -> np.float32:
        return max(pool.lowest.limit for pool in self.pools)

    def add(self, scores: Flat, importance: Flat, first_index: int) -> None:
        inside = np.flatnonzero(scores < self.limit)
        self.parts.append((scores[inside], importance[inside], inside + first_index))
        self.n_buffered += inside.size
        if self.n_buffered > BLOCK // 2:
            self.flush()

    def flush(self) -> None:
        if not self.parts:
            return
        scores, importance, indices = map(np.concatenate, zip(*self.parts, strict=True))
        for pool in self.pools:
            eligible = np.flatnonzero(importance <= pool.max_importance)
            pool.lowest.add(scores[eligible], indices[eligible], importance[eligible])
        self.parts, self.n_buffered = [], 0
        self.limit = self._highest()


def _select_from(
    name: str, pool: _Pool, threshold: _Threshold, point: Point, count: int, rule: str
) -> FlatIndices:
    scores, indices, importance = pool.lowest.kept()
    if rule == "difference":
        lowest = first_lowest(scores, count)
        return indices[lowest][~threshold.preserves(importance[lowest], indices[lowest])]
    eligible = ~threshold.preserves(importance, indices)
    n_eligible = int(np.count_nonzero(eligible))
    if n_eligible < count:
        if pool.lowest.dropped:
            raise _EstimateTooNarrow
        raise LesionError(
            f"masks: {name}: only {n_eligible} weights outside the preserved top p={point.p} "
            f"promote this behaviour, and q={point.q} asks for {count}. Lower `masks.p` or "
            "`masks.q`."
        )
    return indices[eligible][first_lowest(scores[eligible], count)]


# -- within each matrix or row -------------------------------------------------------------------


def _within_units(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
    scope: str,
) -> dict[str, list[FlatIndices]]:
    for point in points:
        if not round(point.q * layout.unit(scope)):
            raise LesionError(
                f"masks: q={point.q} selects no weight of any {scope}; the smallest q that selects "
                f"one is about {0.5 / layout.unit(scope):.2g}. Raise `masks.q`, or set "
                "`masks.scope: global`."
            )
    masks: dict[str, list[list[FlatIndices]]] = {name: [[] for _ in points] for name in snips}
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        size = shape[0] * shape[1]
        arrange, _ = layout.units(name, scope)
        importances = arrange(importance.open(name)[0:size])
        indices = arrange(np.arange(start, start + size))
        preserved = {
            p: lowest_of_each(-importances, round(p * importances.shape[1]))
            for p in {point.p for point in points}
        }
        for behaviour, source in snips.items():
            scores = arrange(source.open(name)[0:size])
            for number, point in enumerate(points):
                chosen = _selected_of_each(scores, preserved[point.p], point.q, rule)
                masks[behaviour][number].append(np.sort(indices[chosen]))
    return {name: [np.concatenate(parts) for parts in each] for name, each in masks.items()}


def _selected_of_each(
    scores: NDArray[np.float32], preserved: NDArray[np.bool_], q: float, rule: str
) -> NDArray[np.bool_]:
    count = round(q * scores.shape[1])
    if rule == "difference":
        return lowest_of_each(scores, count) & (scores < 0) & ~preserved
    eligible = np.where(preserved | (scores >= 0), np.float32(np.inf), scores)
    return lowest_of_each(eligible, count) & np.isfinite(eligible)
