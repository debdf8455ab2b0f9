"""The lowest of many values, exactly, ties by place: arithmetic that selection and tails share."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import Flat, Places

BLOCK = 2**16
"""Scores looked at together: small enough to stay in a core's cache."""


def first_lowest(values: Flat, count: int) -> Places:
    """Where the `count` lowest values stand, ties by place, in the order of places."""
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
    """Which are the `count` lowest of each line of [lines, values], ties by place."""
    if count <= 0:
        return np.zeros(values.shape, np.bool_)
    if count >= values.shape[1]:
        return np.ones(values.shape, np.bool_)
    limit = np.partition(values, count - 1, axis=1)[:, count - 1 : count]
    below = values < limit
    room = count - np.count_nonzero(below, axis=1, keepdims=True)
    equal = values == limit
    chosen: NDArray[np.bool_] = below | (equal & (np.cumsum(equal, axis=1) <= room))
    return chosen


class Lowest:
    """The `reach` lowest of the values offered, which come in the order of their places.

    What goes with a value (`along`) is kept beside it. Memory is a few times `reach`.
    """

    def __init__(self, reach: int, below: float, along: int = 0) -> None:
        """Start empty; values of `below` or more are never kept; `along` float32 go with each."""
        self.reach = reach
        self.limit = np.float32(below)
        self.dropped = False
        self._held = 0
        nothing = (np.empty(0, np.float32), np.empty(0, np.int64))
        self._parts: list[tuple[NDArray[Any], ...]] = [
            (*nothing, *(np.empty(0, np.float32) for _ in range(along)))
        ]

    def add(self, values: Flat, places: Places, *along: NDArray[Any]) -> None:
        """Offer values; those at or above the limit by now are passed over."""
        keep = values < self.limit
        offered: tuple[NDArray[Any], ...] = (values, places, *along)
        new = tuple(one[keep] for one in offered)
        self._parts.append(new)
        self._held += new[0].size
        if self._held > 2 * self.reach + BLOCK:
            self._trim()

    def kept(self) -> tuple[NDArray[Any], ...]:
        """The lowest values, their places and what goes along, in the order of places."""
        self._trim()
        return self._parts[0]

    def _trim(self) -> None:
        columns = tuple(np.concatenate(part) for part in zip(*self._parts, strict=True))
        if columns[0].size > self.reach:
            self.dropped = True
            keep = first_lowest(columns[0], self.reach)
            columns = tuple(one[keep] for one in columns)
            # What comes later and is equal has a later place, and loses.
            self.limit = columns[0].max(initial=-np.inf)
        self._parts = [columns]
        self._held = columns[0].size
