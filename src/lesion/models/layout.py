"""The map between flat indices and the prunable parameters, in the model's order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lesion.models.record import candidate_shapes, transposed

Flat = NDArray[np.float32]
FlatIndices = NDArray[np.int64]
"""Positions in the concatenation of all flattened candidates, or in one flattened parameter."""


class Units(NamedTuple):
    """Rearranges a flat parameter into the lines that a fraction applies to, and back."""

    arrange: Callable[[NDArray[Any]], NDArray[Any]]
    back: Callable[[NDArray[Any]], NDArray[Any]]


class Layout(NamedTuple):
    """Names, shapes as (rows, columns), and the offset of each candidate's first flat index.

    Experts stored as one 3-D parameter are one tall matrix; `stored_shapes` has the 3-D shape.
    """

    names: list[str]
    shapes: list[tuple[int, int]]
    offsets: NDArray[np.int64]
    stored_shapes: dict[str, tuple[int, ...]]
    transposed: frozenset[str] = frozenset()
    """Matrices stored as [inputs, outputs] (GPT-2's): their rows are inputs."""

    @classmethod
    def of(cls, shapes: Mapping[str, Sequence[int]], transposed: Iterable[str] = ()) -> "Layout":
        """The layout of candidates in the given order."""
        pairs = [(int(np.prod(shape[:-1])), int(shape[-1])) for shape in shapes.values()]
        sizes = [rows * columns for rows, columns in pairs]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        stored = {name: tuple(shape) for name, shape in shapes.items()}
        return cls(list(shapes), pairs, offsets, stored, frozenset(transposed))

    @property
    def size(self) -> int:
        """Number of candidate weights."""
        return int(self.offsets[-1])

    @property
    def sizes(self) -> dict[str, int]:
        """Number of weights of each matrix."""
        return dict(zip(self.names, np.diff(self.offsets).tolist(), strict=True))

    def split(self, mask: FlatIndices) -> list[FlatIndices]:
        """The mask's indices within each matrix."""
        edges = np.searchsorted(mask, self.offsets)
        return [
            mask[first:last] - start
            for start, first, last in zip(self.offsets[:-1], edges[:-1], edges[1:], strict=True)
        ]

    def by_name(self, mask: FlatIndices) -> dict[str, FlatIndices]:
        """The mask's indices within each matrix that it touches, by name."""
        parts = zip(self.names, self.split(mask), strict=True)
        return {name: part for name, part in parts if part.size}

    def unit(self, scope: str) -> int:
        """The most weights that a fraction applies to: all, or the largest matrix's or row's."""
        if scope == "global":
            return self.size
        if scope == "matrix":
            return max(self.sizes.values())
        named = zip(self.names, self.shapes, strict=True)
        return max(shape[0 if name in self.transposed else 1] for name, shape in named)

    def units(self, name: str, scope: str) -> Units:
        """The lines of a parameter: all of it for scope `matrix`, its output units for `row`."""
        if scope == "matrix":
            return Units(lambda flat: flat.reshape(1, -1), lambda lines: lines.reshape(-1))
        shape = self.shapes[self.names.index(name)]
        if name in self.transposed:  # its stored rows are inputs, and output units are needed
            turned = shape[::-1]
            return Units(
                lambda flat: np.ascontiguousarray(flat.reshape(shape).T),
                lambda lines: np.ascontiguousarray(lines.reshape(turned).T).reshape(-1),
            )
        return Units(lambda flat: flat.reshape(shape), lambda lines: lines.reshape(-1))


def layout_of(folder: Path) -> Layout:
    """The layout of a prepared checkpoint's candidates."""
    return Layout.of(candidate_shapes(folder), transposed(folder))
