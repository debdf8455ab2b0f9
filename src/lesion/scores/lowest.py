"""The exact lowest of many values, ties by index, for selection and for truncated scores."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import Flat, FlatIndices

BLOCK = 2**16
"""Scores in a block: few enough to stay in a core's cache."""


def first_lowest(values: Flat, count: int) -> FlatIndices:
    """The indices of the `count` lowest values, ascending; of equal values the first ones."""
    if count >= values.size:
        return np.arange(values.size)
    if count == 0:
        return np.empty(0, np.int64)
    limit = np.partition(values, count - 1)[count - 1]
    keep = values < limit
    equal = np.flatnonzero(values == limit)
    keep[equal[: count - int(np.count_nonzero(keep))]] = True
    return np.flatnonzero(keep)


def lowest_of_each(values: Flat, count: int) -> NDArray[np.bool_]:
    """Whether each of [lines, values] is among the `count` lowest of its line, ties by index."""
    if count <= 0:
        return np.zeros(values.shape, np.bool_)
    if count >= values.shape[1]:
        return np.ones(values.shape, np.bool_)
    limit = np.partition(values, count - 1, axis=1)[:, count - 1 : count]
    below = values < limit
    n_equal = count - np.count_nonzero(below, axis=1, keepdims=True)
    equal = values == limit
    chosen: NDArray[np.bool_] = below | (equal & (np.cumsum(equal, axis=1) <= n_equal))
    return chosen


class Lowest:
    """The `capacity` lowest of the values added so far, which must arrive in order of index.

    Further columns (`along`) are kept with each value. Memory is a few times `capacity`.
    """

    def __init__(self, capacity: int, below: float, along: int = 0) -> None:
        """Start empty, and never keep values >= `below`; `along` is the number of other columns."""
        self.capacity = capacity
        self.limit = np.float32(below)
        self.dropped = False
        self._n_buffered = 0
        nothing = (np.empty(0, np.float32), np.empty(0, np.int64))
        self._parts: list[tuple[NDArray[Any], ...]] = [
            (*nothing, *(np.empty(0, np.float32) for _ in range(along)))
        ]

    def add(self, values: Flat, indices: FlatIndices, *along: NDArray[Any]) -> None:
        """Add values; those at or above the current limit are skipped."""
        keep = values < self.limit
        columns: tuple[NDArray[Any], ...] = (values, indices, *along)
        new = tuple(column[keep] for column in columns)
        self._parts.append(new)
        self._n_buffered += new[0].size
        if self._n_buffered > 2 * self.capacity + BLOCK:
            self._trim()

    def merge(self, later: "Lowest") -> None:
        """Add what another one has kept of values with higher indices."""
        self.add(*later.kept())
        self.dropped |= later.dropped

    def kept(self) -> tuple[NDArray[Any], ...]:
        """The lowest values, their indices and the further columns, in the order of indices."""
        self._trim()
        return self._parts[0]

    def _trim(self) -> None:
        columns = tuple(np.concatenate(part) for part in zip(*self._parts, strict=True))
        if columns[0].size > self.capacity:
            self.dropped = True
            keep = first_lowest(columns[0], self.capacity)
            columns = tuple(column[keep] for column in columns)
            # A later value that equals the limit has a higher index and loses the tie.
            self.limit = columns[0].max(initial=-np.inf)
        self._parts = [columns]
        self._n_buffered = columns[0].size
