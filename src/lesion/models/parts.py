"""The map between indices in a parameter and in the stored tensors that it is made from. No torch.

transformers may stack, join, split and transpose tensors while loading. All of these only move
weights: each part of a parameter is a box of some stored tensor, possibly with permuted axes.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import FlatIndices

Shape = tuple[int, ...]


class Part(NamedTuple):
    """A box of a parameter, and its position in a stored tensor.

    All sizes and positions are in weights.
    """

    name: str
    """The stored tensor's name."""
    stored: Shape
    """The stored tensor's shape."""
    size: Shape
    """The shape of the box, by the parameter's axes."""
    at: Shape
    """Its first index in the parameter, by the parameter's axes."""
    axes: tuple[int | None, ...]
    """For each axis of the parameter, the stored tensor's axis; None if it has none."""
    begin: Shape
    """Its first index in the stored tensor, by the stored tensor's axes."""


def unchanged_part(name: str, shape: Sequence[int]) -> Part:
    """A parameter that is stored as it is."""
    zeros = (0,) * len(shape)
    return Part(name, tuple(shape), tuple(shape), zeros, tuple(range(len(shape))), zeros)


def is_unchanged(parts: Sequence[Part]) -> bool:
    """Whether the parts are a single tensor, stored as it is in memory, under any name."""
    return len(parts) == 1 and parts[0] == unchanged_part(parts[0].name, parts[0].stored)


def covers(parts: Sequence[Part], shape: Sequence[int]) -> bool:
    """Whether the parts are inside a parameter of this shape and have as many weights.

    They result from stacking, joining and splitting, so they never overlap.
    """
    inside = all(
        at + size <= length
        for part in parts
        for at, size, length in zip(part.at, part.size, shape, strict=True)
    )
    return inside and sum(prod(part.size) for part in parts) == prod(shape)


def stored_indices(
    parts: Iterable[Part], shape: Sequence[int], indices: FlatIndices
) -> Mapping[str, FlatIndices]:
    """The indices of a parameter's weights in the stored tensors, flat and ascending.

    `parts` are all parts of the parameter, and `indices` are flat indices in it, ascending.
    """
    row = prod(shape[1:])
    stored: dict[str, list[FlatIndices]] = {}
    for part in parts:
        # Experts are stacked along the first axis, so most parts are a short range of indices.
        first, last = np.searchsorted(
            indices, [part.at[0] * row, (part.at[0] + part.size[0]) * row]
        )
        if first == last:
            continue
        by_axis = np.unravel_index(indices[first:last], tuple(shape))
        inside = np.ones(last - first, np.bool_)
        for along, at, size in zip(by_axis, part.at, part.size, strict=True):
            inside &= (along >= at) & (along < at + size)
        if not inside.any():
            continue
        there = [np.full(int(inside.sum()), begin, np.int64) for begin in part.begin]
        for along, at, axis in zip(by_axis, part.at, part.axes, strict=True):
            if axis is not None:
                there[axis] += along[inside] - at
        moved = np.ravel_multi_index(tuple(there), part.stored)
        stored.setdefault(part.name, []).append(moved)
    return {name: np.sort(np.concatenate(each)) for name, each in stored.items()}


def box_in(part: Part) -> tuple[slice, ...]:
    """The part's box in its parameter."""
    return tuple(slice(at, at + size) for at, size in zip(part.at, part.size, strict=True))


def box_of(part: Part, stored: NDArray[Any]) -> NDArray[Any]:
    """The part's box of its stored tensor, with the parameter's order of axes."""
    kept = [axis for axis in part.axes if axis is not None]
    sizes = dict(zip(part.axes, part.size, strict=True))
    box = stored[tuple(slice(begin, begin + sizes[axis]) for axis, begin in enumerate(part.begin))]
    return box.transpose(kept).reshape(part.size)
