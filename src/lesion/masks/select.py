"""Selection: exact top fractions of scores in one read, ties broken by place. No files here.

Scores and importances come a parameter at a time, each a flat float32 vector of which slices are
read; a mask is a sorted int64 array of places in the model's order. Memory is a block and the
weights that may still be selected, however large the model is.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.io.formats import LesionError
from lesion.models.layout import Flat, Layout, Places
from lesion.scores.lowest import BLOCK, Lowest, first_lowest, lowest_of_each
from lesion.scores.store import Source

_SAMPLE = 2**20
"""Importances behind the first guess of a threshold; a guess is checked and mended."""
_RUN = 256


class Point(NamedTuple):
    """Fractions: `p` of the weights preserved, `q` of them taken."""

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
) -> dict[str, list[Places]]:
    """Select the mask of every behaviour at every point, with one read of the scores.

    `budget` leaves out the top p by importance, then takes the q most negative scores;
    `difference` takes the q most negative scores, then takes away the top p. Fractions count over
    all candidates, each matrix, or each row (an output unit), and are rounded to whole weights.

    Args:
        snips: signed scores of each behaviour.
        importance: preservation importance.
        layout: the candidates.
        points: fractions p and q.
        rule: `budget` or `difference`.
        scope: `global`, `matrix` or `row`. In `budget`, a matrix or row with too few weights that
            promote the behaviour gives those it has.

    Returns:
        For each behaviour, sorted places for each point.

    Raises:
        LesionError: a q selects nothing; or too few weights promote a behaviour (`global`).

    Source:
        Wei et al. 2024 (arXiv 2402.05162), set difference, with unsigned scores.
    """
    if scope == "global":
        return _global(snips, importance, layout, points, rule)
    return _each(snips, importance, layout, points, rule, scope)


def n_selected(q: float, candidates: int) -> int:
    """How many weights a fraction q is.

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


class _Cut(NamedTuple):
    """What is preserved: importances above `value`, and those equal to it before place `end`."""

    value: np.float32
    end: int

    def holds(self, importance: Flat, places: Places) -> NDArray[np.bool_]:
        equal = (importance == self.value) & (places < self.end)
        held: NDArray[np.bool_] = (importance > self.value) | equal
        return held


_NONE = _Cut(np.float32(np.inf), 0)


class _Bracket:
    """Finds the exact cut of the `count` highest importances, given a guess of where it lies."""

    def __init__(self, count: int, low: np.float32, high: np.float32) -> None:
        self.count, self.low, self.high = count, low, high
        self.above = 0
        self.values: list[Flat] = []
        self.places: list[Places] = []

    def add(self, values: Flat, places: Places) -> tuple[Flat, Places]:
        """Look at importances; return those from `low` up, which a smaller p's guess is among."""
        near = np.flatnonzero(values >= self.low)
        values, places = values[near], places[near]
        inside = np.flatnonzero(values <= self.high)
        self.above += values.size - inside.size
        self.values.append(values[inside])
        self.places.append(places[inside])
        return values, places

    def cut(self) -> _Cut | None:
        """The cut; None if it lies outside the guess."""
        room = self.count - self.above
        values = np.concatenate([np.empty(0, np.float32), *self.values])
        if not 0 < room <= values.size:
            return None
        value = np.partition(values, values.size - room)[values.size - room]
        equal = np.concatenate(self.places)[values == value]
        held = room - int(np.count_nonzero(values > value))
        return _Cut(value, int(equal[held - 1]) + 1)


class Preserved:
    """Which weights are in the top fraction p by importance, a matrix at a time."""

    def __init__(self, importance: Source, layout: Layout, p: float, scope: str) -> None:
        """Nothing is read before it is asked for."""
        self.importance, self.layout, self.p, self.scope = importance, layout, p, scope

    @cached_property
    def _cut(self) -> _Cut:
        return _cuts(self.importance, self.layout, [self.p]).get(self.p, _NONE)

    def of(self, number: int) -> NDArray[np.bool_]:
        """Which weights of the matrix with this number are preserved, flat."""
        name, shape = self.layout.names[number], self.layout.shapes[number]
        size, start = shape[0] * shape[1], int(self.layout.offsets[number])
        values = self.importance.open(name)[0:size]
        if self.scope == "global":
            return self._cut.holds(values, np.arange(start, start + size))
        arrange, back = self.layout.units(name, self.scope)
        lines = arrange(values)
        return back(lowest_of_each(-lines, round(self.p * lines.shape[1])))


def _cuts(importance: Source, layout: Layout, fractions: Sequence[float]) -> dict[float, _Cut]:
    sample, slack = np.sort(_sample(importance, layout)), 1.0
    while True:
        brackets = _brackets(sample, layout, fractions, slack)
        _read({}, importance, layout, list(brackets.values()), {})
        cuts = {p: bracket.cut() for p, bracket in brackets.items()}
        if None not in cuts.values():
            return {p: cut for p, cut in cuts.items() if cut is not None}
        slack *= 8


class _Short(Exception):
    """A guess was wrong: read again with a wider one."""


def _global(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
) -> dict[str, list[Places]]:
    fractions = sorted({point.p for point in points})
    sample = np.sort(_sample(importance, layout)) if any(fractions) else np.empty(0, np.float32)
    slack = 1.0
    while True:
        try:
            return _one_read(snips, importance, layout, points, rule, sample, slack)
        except _Short:
            slack *= 8


def _one_read(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
    sample: Flat,
    slack: float,
) -> dict[str, list[Places]]:
    counts = {point: n_selected(point.q, layout.size) for point in points}
    brackets = _brackets(sample, layout, [point.p for point in points], slack)
    pools = {
        name: {
            p: _pool(brackets.get(p), [counts[one] for one in points if one.p == p], rule, slack)
            for p in {point.p for point in points}
        }
        for name in snips
    }
    _read(snips, importance, layout, list(brackets.values()), pools)
    cuts: dict[float, _Cut] = {}
    for p, bracket in brackets.items():
        cut = bracket.cut()
        if cut is None:
            raise _Short
        cuts[p] = cut
    return {
        name: [
            _take(name, own[point.p], cuts.get(point.p, _NONE), point, counts[point], rule)
            for point in points
        ]
        for name, own in pools.items()
    }


def _brackets(
    sample: Flat, layout: Layout, fractions: Sequence[float], slack: float
) -> dict[float, _Bracket]:
    """The largest p first: whatever may decide a smaller one is among what it looks at."""
    return {
        p: _Bracket(count, *_guess(sample, p, slack))
        for p in sorted(set(fractions), reverse=True)
        if (count := round(p * layout.size))
    }


def _guess(sample: Flat, p: float, slack: float) -> tuple[np.float32, np.float32]:
    """Bounds between which the cut should lie: 5% (times slack) of the rank to either side."""
    rank = p * sample.size
    wide = slack * (0.05 * rank + 64)
    low, high = sample.size - 1 - int(rank + wide), sample.size - 1 - int(rank - wide)
    return (
        sample[low] if low >= 0 else np.float32(-np.inf),
        sample[high] if high < sample.size else np.float32(np.inf),
    )


class _Pool(NamedTuple):
    """The most negative scores among weights whose importance is at most `cap`."""

    lowest: Lowest
    cap: np.float32


def _pool(bracket: _Bracket | None, counts: Sequence[int], rule: str, slack: float) -> _Pool:
    if rule == "difference" or bracket is None:
        return _Pool(Lowest(max(counts), 0, 1), np.float32(np.inf))
    # What is preserved for sure never enters; some of what does may be preserved yet.
    return _Pool(Lowest(int(slack * (1.25 * max(counts) + 1024)), 0, 1), bracket.high)


def _sample(importance: Source, layout: Layout) -> Flat:
    every = max(1, layout.size // _SAMPLE)
    parts = []
    for name, (rows, columns) in zip(layout.names, layout.shapes, strict=True):
        size = rows * columns
        values = importance.open(name)
        if every == 1:
            parts.append(values[0:size])
        else:
            parts += [values[at : at + _RUN] for at in range(0, size, every * _RUN)]
    return np.concatenate(parts)


def _read(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    brackets: Sequence[_Bracket],
    pools: Mapping[str, Mapping[float, _Pool]],
) -> None:
    offers = {behaviour: _Offers(list(own.values())) for behaviour, own in pools.items()}
    for name, (rows, columns), start in zip(
        layout.names, layout.shapes, layout.offsets, strict=False
    ):
        held = importance.open(name)
        opened = {behaviour: source.open(name) for behaviour, source in snips.items()}
        for first in range(0, rows * columns, BLOCK):
            part = slice(first, min(first + BLOCK, rows * columns))
            block = held[part]
            place = int(start) + first
            values, places = block, np.arange(place, place + block.size)
            for bracket in brackets:
                values, places = bracket.add(values, places)
            for behaviour, scores in opened.items():
                offers[behaviour].add(scores[part], block, place)
    for one in offers.values():
        one.flush()


class _Offers:
    """What of a behaviour may enter one of its pools, handed on many blocks at a time: a pool costs
    the same for a few scores as for thousands.
    """

    def __init__(self, pools: Sequence[_Pool]) -> None:
        self.pools = pools
        self.limit = self._highest()
        self.held = 0
        self.parts: list[tuple[Flat, Flat, Places]] = []

    def _highest(self) -> np.float32:
        return max(pool.lowest.limit for pool in self.pools)

    def add(self, scores: Flat, importance: Flat, place: int) -> None:
        inside = np.flatnonzero(scores < self.limit)
        self.parts.append((scores[inside], importance[inside], inside + place))
        self.held += inside.size
        if self.held > BLOCK // 2:
            self.flush()

    def flush(self) -> None:
        if not self.parts:
            return
        few, own, places = (np.concatenate(one) for one in zip(*self.parts, strict=True))
        for pool in self.pools:
            free = np.flatnonzero(own <= pool.cap)
            pool.lowest.add(few[free], places[free], own[free])
        self.parts, self.held = [], 0
        self.limit = self._highest()


def _take(name: str, pool: _Pool, cut: _Cut, point: Point, count: int, rule: str) -> Places:
    scores, places, importance = pool.lowest.kept()
    if rule == "difference":
        keep = first_lowest(scores, count)
        return places[keep][~cut.holds(importance[keep], places[keep])]
    free = ~cut.holds(importance, places)
    promote = int(np.count_nonzero(free))
    if promote < count:
        if pool.lowest.dropped:
            raise _Short
        raise LesionError(
            f"masks: {name}: only {promote} weights outside the preserved top p={point.p} promote "
            f"this behaviour, and q={point.q} asks for {count}. Lower `masks.p` or `masks.q`."
        )
    return places[free][first_lowest(scores[free], count)]


# -- within each matrix or row -------------------------------------------------------------------


def _each(
    snips: Mapping[str, Source],
    importance: Source,
    layout: Layout,
    points: Sequence[Point],
    rule: str,
    scope: str,
) -> dict[str, list[Places]]:
    for point in points:
        if not round(point.q * layout.unit(scope)):
            raise LesionError(
                f"masks: q={point.q} selects no weight of any {scope}; the smallest q that selects "
                f"one is about {0.5 / layout.unit(scope):.2g}. Raise `masks.q`, or set "
                "`masks.scope: global`."
            )
    found: dict[str, list[list[Places]]] = {name: [[] for _ in points] for name in snips}
    for name, shape, start in zip(layout.names, layout.shapes, layout.offsets, strict=False):
        size = shape[0] * shape[1]
        arrange, _ = layout.units(name, scope)
        held = arrange(importance.open(name)[0:size])
        places = arrange(np.arange(start, start + size))
        preserved = {
            p: lowest_of_each(-held, round(p * held.shape[1])) for p in {one.p for one in points}
        }
        for behaviour, source in snips.items():
            scores = arrange(source.open(name)[0:size])
            for number, point in enumerate(points):
                chosen = _unit_mask(scores, preserved[point.p], point.q, rule)
                found[behaviour][number].append(np.sort(places[chosen]))
    return {name: [np.concatenate(one) for one in each] for name, each in found.items()}


def _unit_mask(
    scores: NDArray[np.float32], preserved: NDArray[np.bool_], q: float, rule: str
) -> NDArray[np.bool_]:
    count = round(q * scores.shape[1])
    if rule == "difference":
        return lowest_of_each(scores, count) & (scores < 0) & ~preserved
    free = np.where(preserved | (scores >= 0), np.float32(np.inf), scores)
    return lowest_of_each(free, count) & np.isfinite(free)
