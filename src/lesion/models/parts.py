"""Parts of a parameter as the files hold them: places in the one and in the other, without torch.

transformers may stack, join, cut and turn tensors as it loads them. All that is a matter of where
a weight goes: each part of a parameter is a box of some stored tensor, its axes perhaps in another
order.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.models.layout import FlatIndices

Shape = tuple[int, ...]


class Part(NamedTuple):
    """A box of a parameter, and where a stored tensor holds it.

    All sizes and places are counted in weights.
    """

    name: str
    """Of the stored tensor."""
    stored: Shape
    """The stored tensor's shape."""
    size: Shape
    """The box, by the parameter's axes."""
    at: Shape
    """Its first place in the parameter, by the parameter's axes."""
    axes: tuple[int | None, ...]
    """Which axis of the stored tensor each of the parameter's is; None for one that it lacks."""
    begin: Shape
    """Its first place in the stored tensor, by the stored tensor's axes."""


def whole(name: str, shape: Sequence[int]) -> Part:
    """A parameter that is stored as it is."""
    zeros = (0,) * len(shape)
    return Part(name, tuple(shape), tuple(shape), zeros, tuple(range(len(shape))), zeros)


def is_whole(parts: Sequence[Part]) -> bool:
    """Whether the parts are one tensor that is stored as it is in memory, whatever its name."""
    return len(parts) == 1 and parts[0] == whole(parts[0].name, parts[0].stored)


def covers(parts: Sequence[Part], shape: Sequence[int]) -> bool:
    """Whether parts lie inside a parameter of this shape and are as many weights as it has.

    They are made by stacking, joining and cutting, so they never overlap.
    """
    inside = all(
        at + size <= length
        for part in parts
        for at, size, length in zip(part.at, part.size, shape, strict=True)
    )
    return inside and sum(prod(part.size) for part in parts) == prod(shape)


def stored_places(
    parts: Iterable[Part], shape: Sequence[int], places: FlatIndices
) -> Mapping[str, FlatIndices]:
    """Where a parameter's weights lie in the stored tensors.

    Args:
        parts: of the parameter, all of them.
        shape: the parameter's.
        places: flat places in the parameter, ascending.

    Returns:
        Flat places in each stored tensor that holds any of them, ascending.
    """
    row = prod(shape[1:])
    found: dict[str, list[FlatIndices]] = {}
    for part in parts:
        # Experts are stacked along the first axis, so most parts are a short run of places.
        first, last = np.searchsorted(places, [part.at[0] * row, (part.at[0] + part.size[0]) * row])
        if first < last:
            moved = _moved(part, shape, places[first:last])
            if moved.size:
                found.setdefault(part.name, []).append(moved)
    return {name: np.sort(np.concatenate(each)) for name, each in found.items()}


def box_in(part: Part) -> tuple[slice, ...]:
    """The part's box in its parameter."""
    return tuple(slice(at, at + size) for at, size in zip(part.at, part.size, strict=True))


def box_of(part: Part, stored: NDArray[Any]) -> NDArray[Any]:
    """The part's box of its stored tensor, its axes as the parameter has them."""
    kept = [axis for axis in part.axes if axis is not None]
    sizes = dict(zip(part.axes, part.size, strict=True))
    box = stored[tuple(slice(begin, begin + sizes[axis]) for axis, begin in enumerate(part.begin))]
    return box.transpose(kept).reshape(part.size)


def _moved(part: Part, shape: Sequence[int], places: FlatIndices) -> FlatIndices:
    """The places that lie in a part, as flat places in its stored tensor."""
    by_axis = np.unravel_index(places, tuple(shape))
    inside = np.ones(places.size, np.bool_)
    for found, at, size in zip(by_axis, part.at, part.size, strict=True):
        inside &= (found >= at) & (found < at + size)
    there = [np.full(int(inside.sum()), begin, np.int64) for begin in part.begin]
    for found, at, axis in zip(by_axis, part.at, part.axes, strict=True):
        if axis is not None:
            there[axis] += found[inside] - at
    moved: FlatIndices = np.ravel_multi_index(tuple(there), part.stored)
    return moved
