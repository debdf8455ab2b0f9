"""Mask selection: exact top fractions of scores in one read, with ties broken by flat index. Pure.

Scores and importances are read in blocks, one parameter at a time, as flat float32 vectors. A mask
is a sorted int64 array of flat indices. Memory holds one block and the weights that may still be
selected, regardless of the model's size; within matrices or rows, it holds one matrix. Several
processes take contiguous parts of the parameters, each with such memory of its own, and what they
have found is merged: the masks are the same for any number of processes.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import LesionError
from lesion.models.layout import Flat, FlatIndices, Layout
from lesion.scores.lowest import BLOCK, Lowest, first_lowest, lowest_of_each
from lesion.scores.shards import shard_groups
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
    at_most: bool = False,
    processes: int = 1,
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
        at_most: whether a behaviour that too few weights promote gets those it has (`global`).
        processes: how many parts are read at a time.

    Returns:
        For each behaviour, sorted flat indices for each point.

    Raises:
        LesionError: a q selects nothing; or too few weights promote a behaviour (`global`), unless
            `at_most`.

    Source:
        Wei et al. 2024 (arXiv 2402.05162), set difference, with unsigned scores.
    """
    if scope == "global":
        return _over_all(snips, importance, layout, points, rule, at_most, processes)
    return _within_units(snips, importance, layout, points, rule, scope, processes)


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

    def again(self) -> "_Bracket":
        """An empty one with the same bounds."""
        return _Bracket(self.count, self.low, self.high)

    def merge(self, later: "_Bracket") -> None:
        """Add what another bracket has of importances with higher indices."""
        self.n_above += later.n_above
        self.values += later.values
        self.indices += later.indices

    def threshold(self) -> _Threshold:
        """The exact threshold.

        Raises:
            _EstimateTooNarrow: it lies outside the bounds.
        """
        n_inside = self.count - self.n_above
        values = np.concatenate([np.empty(0, np.float32), *self.values])
        if not 0 < n_inside <= values.size:
            raise _EstimateTooNarrow
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
        def read(brackets: _Brackets, _slack: float) -> _Threshold:
            everything = range(len(self.layout.names))
            _read({}, self.importance, self.layout, everything, brackets, {})
            return brackets[self.p].threshold() if brackets else _PRESERVE_NONE

        return _until_exact(read, self.importance, self.layout, [self.p])

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


class _EstimateTooNarrow(Exception):
    """An estimated bound was wrong; the scores must be read again with a wider one."""


_Brackets = dict[float, _Bracket]
_Result = TypeVar("_Result")


def _until_exact(
    read: Callable[[_Brackets, float], _Result],
    importance: Source,
    layout: Layout,
    fractions: Iterable[float],
) -> _Result:
    """What `read` returns, given brackets that are wide enough, and how much they were widened.

    Brackets go by descending p, since that of a smaller p lies within the entries of a larger one.
    """
    counts = {p: round(p * layout.size) for p in sorted(set(fractions), reverse=True)}
    sample = np.sort(_sample(importance, layout)) if any(counts) else np.empty(0, np.float32)
    slack = 1.0
    while True:
        try:
            brackets = {
                p: _Bracket(count, *_estimate(sample, p, slack))
                for p, count in counts.items()
                if count
            }
            return read(brackets, slack)
        except _EstimateTooNarrow:
            slack *= 8


def _estimate(sample: Flat, p: float, slack: float) -> tuple[np.float32, np.float32]:
    """Bounds for the threshold: 5% of its rank (times `slack`) to either side."""
    rank = p * sample.size
    margin = slack * (0.05 * rank + 64)
    low, high = sample.size - 1 - int(rank + margin), sample.size - 1 - int(rank - margin)
    return (
        sample[low] if low >= 0 else np.float32(-np.inf),
        sample[high] if high < sample.size else np.float32(np.inf),
    )


def _sample(importance: Source, layout: Layout) -> Flat:
    every = max(1, layout.size // _SAMPLE_SIZE)
    parts = []
    for name, (rows, columns) in zip(layout.names, layout.shapes, strict=True):
        values, starts = importance.open(name), range(0, rows * columns, every * _SAMPLE_RUN)
        parts += [values[at : at + _SAMPLE_RUN] for at in starts]
    return np.concatenate(parts)


class _Pool(NamedTuple):
    """The most negative scores among weights whose importance is at most `max_importance`."""

    lowest: Lowest
    max_importance: np.float32


class _Pools:
    """A behaviour's pools by p, with a buffer of the scores that may enter them.

    Pools receive many blocks at a time, because adding a few scores costs as much as thousands.
    """

    def __init__(self, pools: Mapping[float, _Pool]) -> None:
        self.by_p = pools
        self.parts: list[tuple[Flat, Flat, FlatIndices]] = []
        self.flush()

    def add(self, scores: Flat, importance: Flat, first_index: int) -> None:
        inside = np.flatnonzero(scores < self.limit)
        self.parts.append((scores[inside], importance[inside], inside + first_index))
        self.n_buffered += inside.size
        if self.n_buffered > BLOCK // 2:
            self.flush()

    def trim(self) -> None:
        """Keep no more than can be selected, before this is sent to another process."""
        for pool in self.by_p.values():
            pool.lowest.kept()

    def merge(self, later: "_Pools") -> None:
        """Add what others have of scores with higher indices."""
        for p, pool in self.by_p.items():
            pool.lowest.merge(later.by_p[p].lowest)

    def flush(self) -> None:
        if self.parts:
            scores, importance, indices = map(np.concatenate, zip(*self.parts, strict=True))
            for pool in self.by_p.values():
                eligible = np.flatnonzero(importance <= pool.max_importance)
                pool.lowest.add(scores[eligible], indices[eligible], importance[eligible])
        self.parts, self.n_buffered = [], 0
        self.limit = max(pool.lowest.limit for pool in self.by_p.values())


def _over_all(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
    at_most: bool,
    processes: int,
) -> dict[str, list[FlatIndices]]:
    counts = {point: n_selected(point.q, layout.size) for point in points}
    largest = {point.p: max(counts[it] for it in points if it.p == point.p) for point in points}

    def pool(p: float, bracket: _Bracket | None, slack: float) -> _Pool:
        if rule == "difference" or bracket is None:
            return _Pool(Lowest(largest[p], 0, 1), np.float32(np.inf))
        # Weights that are certainly preserved never enter; some of those that enter may be, too.
        return _Pool(Lowest(int(slack * (1.25 * largest[p] + 1024)), 0, 1), bracket.high)

    def part(
        numbers: Sequence[int], brackets: _Brackets, slack: float
    ) -> tuple[_Brackets, dict[str, _Pools]]:
        brackets = {p: bracket.again() for p, bracket in brackets.items()}
        pools = {
            name: _Pools({p: pool(p, brackets.get(p), slack) for p in largest}) for name in snips
        }
        _read(snips, importance, layout, numbers, brackets, pools)
        for own in pools.values():
            own.trim()
        return brackets, pools

    def read(brackets: _Brackets, slack: float) -> dict[str, list[FlatIndices]]:
        parts = _of_each_part(layout, processes, lambda numbers: part(numbers, brackets, slack))
        brackets, pools = parts[0]
        for more_brackets, more_pools in parts[1:]:
            for p, bracket in brackets.items():
                bracket.merge(more_brackets[p])
            for name, own in pools.items():
                own.merge(more_pools[name])
        thresholds = {p: bracket.threshold() for p, bracket in brackets.items()}
        return {
            name: [
                _select_from(
                    name, own.by_p[point.p].lowest, thresholds, point, counts[point], rule, at_most
                )
                for point in points
            ]
            for name, own in pools.items()
        }

    return _until_exact(read, importance, layout, largest)


def _of_each_part(
    layout: Layout, processes: int, work: Callable[[Sequence[int]], _Result]
) -> list[_Result]:
    """What `work` returns for the numbers of each part's parameters, in the parameters' order.

    Forked processes, which have the sources. Threads were no faster than one, since blocks are so
    small that Python's lock decides.
    """
    parts = [group for group in shard_groups(dict(enumerate(_sizes(layout))), processes) if group]
    if len(parts) == 1:
        return [work(parts[0])]
    _WORK.append(work)
    try:
        with ProcessPoolExecutor(len(parts), multiprocessing.get_context("fork")) as pool:
            return list(pool.map(_work, parts))
    finally:
        _WORK.pop()


_WORK: list[Callable[[Sequence[int]], Any]] = []
"""What the forks run."""


def _work(numbers: Sequence[int]) -> Any:
    return _WORK[-1](numbers)


def _sizes(layout: Layout) -> list[int]:
    return [rows * columns for rows, columns in layout.shapes]


def _read(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    numbers: Iterable[int],
    brackets: _Brackets,
    pools: Mapping[str, _Pools],
) -> None:
    """Add the parameters with these numbers, in this order."""
    for number in numbers:
        name, (rows, columns) = layout.names[number], layout.shapes[number]
        start = layout.offsets[number]
        importances = importance.open(name)
        opened = {behaviour: source.open(name) for behaviour, source in snips.items()}
        for first in range(0, rows * columns, BLOCK):
            part = slice(first, min(first + BLOCK, rows * columns))
            block = importances[part]
            index = int(start) + first
            values, indices = block, np.arange(index, index + block.size)
            for bracket in brackets.values():
                values, indices = bracket.add(values, indices)
            for behaviour, scores in opened.items():
                pools[behaviour].add(scores[part], block, index)
    for buffered in pools.values():
        buffered.flush()


def _select_from(
    name: str,
    lowest: Lowest,
    thresholds: Mapping[float, _Threshold],
    point: Point,
    count: int,
    rule: str,
    at_most: bool,
) -> FlatIndices:
    scores, indices, importance = lowest.kept()
    threshold = thresholds.get(point.p, _PRESERVE_NONE)
    if rule == "difference":
        chosen = first_lowest(scores, count)
        return indices[chosen][~threshold.preserves(importance[chosen], indices[chosen])]
    eligible = ~threshold.preserves(importance, indices)
    n_eligible = int(np.count_nonzero(eligible))
    if n_eligible < count:
        if lowest.dropped:
            raise _EstimateTooNarrow
        if at_most:
            return indices[eligible]
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
    processes: int,
) -> dict[str, list[FlatIndices]]:
    for point in points:
        if not round(point.q * layout.unit(scope)):
            raise LesionError(
                f"masks: q={point.q} selects no weight of any {scope}; the smallest q that selects "
                f"one is about {0.5 / layout.unit(scope):.2g}. Raise `masks.q`, or set "
                "`masks.scope: global`."
            )

    def select(number: int) -> Iterator[tuple[str, int, FlatIndices]]:
        name, start = layout.names[number], layout.offsets[number]
        size = _sizes(layout)[number]
        arrange, _ = layout.units(name, scope)
        importances = arrange(importance.open(name)[0:size])
        indices = arrange(np.arange(start, start + size))
        preserved = {
            p: lowest_of_each(-importances, round(p * importances.shape[1]))
            for p in {point.p for point in points}
        }
        for behaviour, source in snips.items():
            scores = arrange(source.open(name)[0:size])
            for place, point in enumerate(points):
                chosen = _selected_of_each(scores, preserved[point.p], point.q, rule)
                yield behaviour, place, np.sort(indices[chosen])

    masks: dict[str, list[list[FlatIndices]]] = {name: [[] for _ in points] for name in snips}
    parts = _of_each_part(layout, processes, lambda numbers: list(chain(*map(select, numbers))))
    for behaviour, place, indices in chain(*parts):
        masks[behaviour][place].append(indices)
    return {name: [np.concatenate(matrices) for matrices in each] for name, each in masks.items()}


def _selected_of_each(
    scores: NDArray[np.float32], preserved: NDArray[np.bool_], q: float, rule: str
) -> NDArray[np.bool_]:
    count = round(q * scores.shape[1])
    if rule == "difference":
        return lowest_of_each(scores, count) & (scores < 0) & ~preserved
    eligible = np.where(preserved | (scores >= 0), np.float32(np.inf), scores)
    return lowest_of_each(eligible, count) & np.isfinite(eligible)
